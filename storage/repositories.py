"""Repositories: made when a plan first needs them, and kept open for reading.

Opening one derives a key, which is slow on purpose, so each process keeps the repositories that it used last.
"""

import hashlib
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from engine.backends import Credentials, open_store
from engine.backends.patience import Patience
from engine.errors import EngineError, RepositoryExists, StoreError, WrongPassword
from engine.keys import DerivedKeys
from engine.repository import Repository as EngineRepository
from engine.store import Store
from storage.admission import require_own_directory, trust_in
from storage.buckets import prepare_bucket
from storage.models import Repository, Tenant

# S3's own rule is narrower; older stores take more than it allows.
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
# Somebody who has been making a repository for longer than this has died over it.
MAKING_TIMEOUT = timedelta(seconds=60)
POLL_S = 0.2
KEPT_OPEN = 32
# Somebody looks at a page meanwhile.
PATIENCE = Patience(connect_timeout_s=5, read_timeout_s=15, deadline_s=15, first_answer_s=5)


def ensure_repository(tenant: Tenant, bucket: str, prefix: str = "") -> Repository:
    """Return the repository at this place, made (with its bucket) if there is none yet.

    Raises StoreError when the store refuses, RepositoryExists when there is one there that is not ours. Not to be called within
    a transaction.
    """
    check_place(tenant, bucket, prefix)
    # Durable: the only copy of the password is committed before the store has a repository that wants it.
    with transaction.atomic(durable=True):
        row, is_new = Repository.objects.get_or_create(
            tenant=tenant, bucket=bucket, prefix=prefix, defaults={"password": secrets.token_urlsafe(32)}
        )
    if not row.repository_id and (is_new or not _is_made_by_another(row)):
        _make(row)
    return row


def check_place(tenant: Tenant, bucket: str, prefix: str) -> None:
    """Raise StoreError if a repository cannot have this bucket's name or prefix."""
    parts = prefix.split("/") if prefix else []
    is_bucket = _is_file_name(bucket) if tenant.endpoint.is_directory else BUCKET_NAME.fullmatch(bucket) is not None
    if not is_bucket:
        raise StoreError(_("%(bucket)r cannot be the name of a bucket.") % {"bucket": bucket})
    if not all(_is_file_name(part) for part in parts):
        raise StoreError(_("%(prefix)r cannot be a prefix in a bucket.") % {"prefix": prefix})


def repository_store(row: Repository, patience: Patience = PATIENCE) -> Store:
    """Return the store that the repository is kept in. Raises AddressRefused for a directory in which none may be."""
    endpoint = row.tenant.endpoint
    if endpoint.is_directory:
        require_own_directory(endpoint.address)
    return open_store(row.location, credentials=row.tenant.credentials, trust=trust_in(endpoint), patience=patience)


def repository_access(row: Repository, credentials: Credentials | None) -> dict[str, Any]:
    """Return what the engine's child process is told of a repository, with these keys of its store, as JSON takes it.

    It holds secrets: for standard input, or an answer to the agent that is to have them.
    """
    return {
        "location": row.location,
        "password": row.password,
        "access_key": credentials.access_key if credentials else None,
        "secret_key": credentials.secret_key if credentials else None,
        "authorities": row.tenant.endpoint.authorities,
        "allowed_addresses": [str(network) for network in settings.STORE_ADDRESSES_ALLOWED],
    }


def open_repository(row: Repository) -> EngineRepository:
    """Return the opened repository, shared by the threads of this process. Its index may not be loaded yet.

    Raises EngineError: RepositoryNotFound, WrongPassword, StoreError.
    """
    return _open_repositories.get(row)


def open_with(store: Store, row: Repository) -> EngineRepository:
    """Return the repository, opened anew with a store of the caller's; its password is derived but once in this process.

    Raises EngineError: RepositoryNotFound, WrongPassword, StoreError.
    """
    return EngineRepository.open(store, row.password, _derived_keys)


class _OpenRepositories:
    """The repositories used last; one that changed in the database is opened anew."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._slots: OrderedDict[int, _Slot] = OrderedDict()

    def get(self, row: Repository) -> EngineRepository:
        identity = _identity(row)
        with self._lock:
            slot = self._slots.get(row.pk)
            if slot is None or slot.identity != identity:
                slot = self._slots[row.pk] = _Slot(identity)
            self._slots.move_to_end(row.pk)
            while len(self._slots) > self._limit:
                # Not closed: another thread may be reading from it.
                self._slots.popitem(last=False)
        # Only those who want this one wait for its key.
        with slot.lock:
            if slot.repository is None:
                slot.repository = open_with(repository_store(row), row)
            return slot.repository


class _Slot:
    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.lock = threading.Lock()
        self.repository: EngineRepository | None = None


_open_repositories = _OpenRepositories(KEPT_OPEN)
# Some 200 bytes for each repository that this process has ever opened.
_derived_keys: DerivedKeys = {}


def _identity(row: Repository) -> str:
    """Return what an opened repository depends on; connections do not survive a fork, so the process is part of it."""
    credentials = row.tenant.credentials
    keys = (credentials.access_key, credentials.secret_key, row.tenant.endpoint.authorities) if credentials else ()
    return hashlib.sha256(repr((os.getpid(), row.location, row.password, keys)).encode()).hexdigest()


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and name.isprintable() and not set(name) & set("?#%\\")


def _is_made_by_another(row: Repository) -> bool:
    """Wait for the one who is making the repository; False: there is nobody, and it is still not made."""
    while timezone.now() < row.created_at + MAKING_TIMEOUT:
        row.refresh_from_db()
        if row.repository_id:
            return True
        time.sleep(POLL_S)
    return False


def _make(row: Repository) -> None:
    try:
        store = repository_store(row)
        prepare_bucket(row.tenant, row.bucket)
        try:
            repository = EngineRepository.init(store, row.password)
        except RepositoryExists as error:
            repository = _reopen(store, row, error)
    except EngineError:
        row.delete()
        raise
    row.repository_id = repository.config.id
    row.save(update_fields=["repository_id"])
    repository.close()


def _reopen(store: Store, row: Repository, exists: RepositoryExists) -> EngineRepository:
    """Return the repository that is there if it is ours: an earlier attempt died before it could say so."""
    try:
        return EngineRepository.open(store, row.password)
    except WrongPassword:
        raise exists from None
