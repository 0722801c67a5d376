"""Adopting a repository that exists: restic's, another tool's, or one of our own whose row was lost. Nothing in it is changed."""

from django.db import transaction
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from engine.errors import RepositoryNotFound, WrongPassword
from engine.repository import Repository as EngineRepository
from storage.buckets import restrict_agents
from storage.models import Repository, Tenant
from storage.repositories import check_place, repository_store


def register_repository(tenant: Tenant, bucket: str, prefix: str, password: str) -> tuple[Repository, bool]:
    """Return the row of the repository at this place, and whether it is new. One that was registered takes the password over.

    Raises EngineError: WrongPassword, RepositoryNotFound, UnsupportedRepository, StoreError; Conflict if another repository was
    registered at this place.
    """
    check_place(tenant, bucket, prefix)
    row = Repository.objects.filter(tenant=tenant, bucket=bucket, prefix=prefix).first()
    row = row or Repository(tenant=tenant, bucket=bucket, prefix=prefix)
    is_new, row.password = row.pk is None, password
    identity = _identity(row)
    if row.repository_id not in ("", identity):
        raise Conflict(_("Another repository was registered at %(location)s before.") % {"location": row.location})
    row.repository_id = identity
    with transaction.atomic():
        row.save()
    restrict_agents(tenant)
    return row, is_new


def _identity(row: Repository) -> str:
    """Return the id that the repository says it has, after opening it with the row's password."""
    try:
        repository = EngineRepository.open(repository_store(row), row.password)
    except WrongPassword as error:
        message = _("No key of the repository at %(location)s opens with this password.")
        raise WrongPassword(message % {"location": row.location}) from error
    except RepositoryNotFound as error:
        message = _("There is no repository at %(location)s; check bucket and prefix.")
        raise RepositoryNotFound(message % {"location": row.location}) from error
    try:
        return repository.config.id
    finally:
        repository.close()
