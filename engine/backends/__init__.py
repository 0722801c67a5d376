"""Where repositories are kept: a directory, or a bucket of an S3 store. `open_store` takes restic's spelling of either."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.store import Store

if TYPE_CHECKING:
    from engine.backends.connections import Trust
    from engine.backends.patience import Patience


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys of an S3 store; they show in no representation."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def open_store(
    location: str,
    *,
    credentials: Credentials | None = None,
    trust: "Trust | None" = None,
    limit_upload: int = 0,
    limit_download: int = 0,
    patience: "Patience | None" = None,
) -> Store:
    """Return the store at `location`: `s3:http[s]://host[:port]/bucket[/prefix]`, `s3:host/bucket`, or a directory.

    Nothing is connected to yet. Without `credentials` an S3 store takes them from the environment (`AWS_ACCESS_KEY_ID` and
    the like). `trust`: whom a connection to it may lead to. `limit_upload` and `limit_download`: KiB per second for all threads and
    forked processes together; 0: no limit. `patience`: how long an S3 store is waited for. Raises EngineError for an address of no
    such form, and for `trust` in certificates that are none.
    """
    if location.startswith("s3:"):
        # boto3 takes a noticeable part of a second to import; a directory needs none of it.
        from engine.backends.limited import Limits
        from engine.backends.s3 import S3Store

        limits = Limits.of(limit_upload, limit_download)
        return S3Store.at(location.removeprefix("s3:"), credentials, trust, patience, limits)
    if not location or "\0" in location:
        raise EngineError("a repository needs an address")
    from engine.backends.local import LocalStore

    local = LocalStore(os.path.abspath(location.removeprefix("local:")))
    if not limit_upload and not limit_download:
        return local
    from engine.backends.limited import LimitedStore, Limits

    return LimitedStore(local, Limits.of(limit_upload, limit_download))
