"""Where repositories are kept: a directory, or a bucket of an S3 store. `open_store` takes restic's spelling of either."""

import os
from dataclasses import dataclass, field

from engine.errors import EngineError
from engine.store import Store


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys of an S3 store; they show in no representation."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def open_store(location: str, *, credentials: Credentials | None = None, ca_bundle: str | None = None) -> Store:
    """Return the store at `location`: `s3:http[s]://host[:port]/bucket[/prefix]`, `s3:host/bucket`, or a directory.

    Nothing is connected to yet. Without `credentials` an S3 store takes them from the environment (`AWS_ACCESS_KEY_ID` and
    the like). `ca_bundle`: path of the certificates that sign the store's. Raises EngineError for an address of no such form.
    """
    if location.startswith("s3:"):
        # boto3 takes a noticeable part of a second to import; a directory needs none of it.
        from engine.backends.s3 import S3Store

        return S3Store.at(location.removeprefix("s3:"), credentials, ca_bundle)
    if not location or "\0" in location:
        raise EngineError("a repository needs an address")
    from engine.backends.local import LocalStore

    return LocalStore(os.path.abspath(location.removeprefix("local:")))
