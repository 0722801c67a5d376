"""Endpoints: registered, changed and removed."""

from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from engine.backends.connections import require_certificates
from storage import probing
from storage.admission import require_admissible
from storage.models import Endpoint


def save_endpoint(endpoint: Endpoint, *, check: bool = True) -> None:
    """Store a new or changed endpoint (see `require_endpoint`)."""
    require_endpoint(endpoint, check=check)
    endpoint.save()


def require_endpoint(endpoint: Endpoint, *, check: bool = True) -> None:
    """Raise if an endpoint cannot be saved as it is: Conflict, EngineError for authorities that are none,
    AddressRefused, StoreError if `check` and nothing answers there."""
    require_fitting(endpoint)
    if endpoint.authorities:
        require_certificates(endpoint.authorities)
    require_admissible(endpoint)
    if check:
        probing.check_endpoint(endpoint)


def require_fitting(endpoint: Endpoint) -> None:
    """Raise Conflict if a new or changed endpoint, not stored yet, does not fit the others or its own tenants."""
    others = Endpoint.objects.exclude(pk=endpoint.pk)
    if others.filter(address=endpoint.address).exists():
        raise Conflict(_("There is an endpoint at %(address)s already.") % {"address": endpoint.address})
    if endpoint.pk and endpoint.tenants.exists():
        was_directory = Endpoint.objects.only("type").get(pk=endpoint.pk).is_directory
        if was_directory != endpoint.is_directory:
            raise Conflict(_("A directory cannot become an object store, or the reverse, while tenants use it."))
