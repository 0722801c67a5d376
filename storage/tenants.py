"""Tenants: created from a pair of keys, since the store itself says whose they are, and refreshed now and then."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.dispatch import Signal
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from engine.errors import EngineError, InvalidCredentials
from storage import probing
from storage.buckets import restrict_agents
from storage.growth import warn_of_quota
from storage.models import Endpoint, Tenant

log = logging.getLogger(__name__)

PROBES_AT_ONCE = 8
# Sent with `tenant` when its store begins to fail it (see `refresh_error` for why), and when that is over.
access_changed = Signal()


def find_tenant(username: str, address: str) -> Tenant:
    """Return the tenant of a name at an endpoint's address. Raises Http404."""
    tenant = None
    if "\0" not in username + address:
        rows = Tenant.objects.select_related("endpoint")
        tenant = rows.filter(username=username, endpoint__address=address).first()
    if tenant is None:
        message = _("There is no tenant %(username)s at the endpoint %(address)s.")
        raise Http404(message % {"username": username, "address": address})
    return tenant


def add_tenant(endpoint: Endpoint, access_key: str = "", secret_key: str = "", *, username: str = "") -> Tenant:
    """Store and return a new tenant (see `new_tenant`)."""
    tenant = new_tenant(endpoint, access_key, secret_key, username=username)
    tenant.save()
    return tenant


def new_tenant(endpoint: Endpoint, access_key: str = "", secret_key: str = "", *, username: str = "") -> Tenant:
    """Return a new tenant, not stored yet, with what the store says about it.

    `username`: of a directory's tenant, who is the directory's owner if it is empty. Raises StoreError, Conflict.
    """
    tenant = Tenant(endpoint=endpoint, access_key=access_key, secret_key=secret_key, username=username)
    description = probing.describe_tenant(endpoint, access_key, secret_key)
    if not (endpoint.is_directory and username):
        tenant.username = description.username
    apply_description(tenant, description)
    if Tenant.objects.filter(endpoint=endpoint, username=tenant.username).exists():
        message = _("There is a tenant %(username)s at this endpoint already.")
        raise Conflict(message % {"username": tenant.username})
    return tenant


def change_tenant(tenant: Tenant, changes: Mapping[str, Any]) -> None:
    """Give a tenant other keys (`take_keys`), keys for its agents (`take_agent_keys`) or another lock, and store it.

    Raises StoreError, also if the store does not take the rights of the agents' keys.
    """
    if changes.keys() & {"access_key", "secret_key"}:
        take_keys(tenant, changes.get("access_key", tenant.access_key), changes.get("secret_key", tenant.secret_key))
    if "agent_access_key" in changes:
        take_agent_keys(tenant, changes["agent_access_key"], changes.get("agent_secret_key", ""))
        restrict_agents(tenant)
    tenant.lock_days = changes.get("lock_days", tenant.lock_days)
    tenant.save()


def take_keys(tenant: Tenant, access_key: str, secret_key: str) -> None:
    """Give a tenant other keys of the same user. Raises StoreError if they are refused or belong to someone else."""
    description = probing.describe_tenant(tenant.endpoint, access_key, secret_key)
    if not tenant.endpoint.is_directory and description.username != tenant.username:
        message = _("These keys belong to %(other)s, not to %(username)s.")
        raise InvalidCredentials(message % {"other": description.username, "username": tenant.username})
    tenant.access_key, tenant.secret_key = access_key, secret_key
    apply_description(tenant, description)


def take_agent_keys(tenant: Tenant, access_key: str, secret_key: str) -> None:
    """Have agents given these keys instead of the tenant's own; empty ones end that. The tenant is not stored yet.

    Raises StoreError if they are refused, or belong to the tenant's own user, who may do everything.
    """
    username = ""
    if access_key:
        username = probing.describe_tenant(tenant.endpoint, access_key, secret_key).username
        # Other stores than Ceph name no users.
        is_same = access_key == tenant.access_key or (tenant.endpoint.type == Endpoint.Type.CEPH and username == tenant.username)
        if is_same:
            raise InvalidCredentials(_("The agents' keys must be those of another user, who may not delete backups."))
    tenant.agent_access_key, tenant.agent_secret_key, tenant.agent_username = access_key, secret_key, username


def refresh_tenants(tenants: Sequence[Tenant]) -> int:
    """Ask the stores about these tenants and keep what they say; return how many answered."""
    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe") as pool:
        answers = list(pool.map(_ask, tenants))
    for tenant, answer in zip(tenants, answers, strict=True):
        failed_before = bool(tenant.refresh_error)
        if isinstance(answer, probing.TenantDescription):
            apply_description(tenant, answer)
        else:
            tenant.refresh_error = str(answer)
            log.warning("tenant %s could not be refreshed: %s", tenant.pk, answer)
        # Only what the store says: the keys may have been changed since they were read.
        tenant.save(update_fields=["display_name", "quota", "used", "refreshed_at", "refresh_error"])
        if bool(tenant.refresh_error) != failed_before:
            access_changed.send_robust(Tenant, tenant=tenant)
        if not tenant.refresh_error:
            warn_of_quota(tenant)
    return sum(isinstance(answer, probing.TenantDescription) for answer in answers)


def apply_description(tenant: Tenant, description: probing.TenantDescription) -> None:
    """Take over what a store says; the name of a directory's tenant is its own."""
    is_renamed = tenant.endpoint.is_directory and tenant.username != description.username
    tenant.display_name = (tenant.display_name or tenant.username) if is_renamed else description.display_name
    tenant.quota, tenant.used = description.quota, description.used
    tenant.refreshed_at, tenant.refresh_error = timezone.now(), ""


def _ask(tenant: Tenant) -> probing.TenantDescription | EngineError:
    try:
        return probing.describe_tenant(tenant.endpoint, tenant.access_key, tenant.secret_key)
    except EngineError as error:
        return error
