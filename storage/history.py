"""What a repository was at an earlier time, where its bucket keeps versions: after somebody deleted or overwrote what is in it.

Files of a repository are never changed, so one that is gone or is another by now was taken away, and the version of that time is
put in front again. Files that came later stay, and are named by nothing that was there then. Versions: S3's, kept in buckets
with Object Lock (`storage.buckets`) or versioning.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from engine.backends.s3 import failing_store
from engine.errors import StoreError
from storage.buckets import bucket_client
from storage.models import Repository

# Locks of processes that are long gone are not wanted back.
LOCKS = "locks/"


@dataclass(frozen=True, slots=True)
class Reversal:
    """What was put back. Both are keys of objects, without the repository's prefix."""

    deleted: list[str]
    overwritten: list[str]


@dataclass(frozen=True, slots=True)
class _Version:
    id: str
    time: datetime
    is_marker: bool
    is_latest: bool
    etag: str


def revert(repository: Repository, moment: datetime, *, dry_run: bool = False) -> Reversal:
    """Put back what the repository had at `moment` (with a zone) and has no more, or has as another thing.

    Raises StoreError; also if the store keeps no versions.
    """
    tenant = repository.tenant
    if tenant.endpoint.is_directory:
        raise StoreError(_("A directory keeps no versions of its files."))
    prefix = f"{repository.prefix}/" if repository.prefix else ""
    found = Reversal([], [])
    client = bucket_client(tenant)
    try:
        with failing_store(tenant.endpoint.url, repository.bucket):
            if client.get_bucket_versioning(Bucket=repository.bucket).get("Status") != "Enabled":
                message = _("The bucket %(bucket)s keeps no versions of its objects.")
                raise StoreError(message % {"bucket": repository.bucket})
            for key, versions in _versions(client, repository.bucket, prefix):
                past = next((version for version in versions if version.time <= moment), None)
                if past is None or past.is_marker or key.startswith(prefix + LOCKS) or past.etag == versions[0].etag:
                    continue
                (found.deleted if versions[0].is_marker else found.overwritten).append(key.removeprefix(prefix))
                if not dry_run:
                    source = {"Bucket": repository.bucket, "Key": key, "VersionId": past.id}
                    client.copy_object(Bucket=repository.bucket, Key=key, CopySource=source)
    finally:
        client.close()
    return found


def _versions(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, list[_Version]]]:
    """Yield each key with its versions, the newest first."""
    by_key: dict[str, list[_Version]] = defaultdict(list)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for kind in ("Versions", "DeleteMarkers"):
            for row in page.get(kind, ()):
                version = _Version(
                    row["VersionId"], row["LastModified"], kind == "DeleteMarkers", row["IsLatest"], row.get("ETag", "")
                )
                by_key[row["Key"]].append(version)
    for key, versions in sorted(by_key.items()):
        yield key, sorted(versions, key=lambda version: (version.is_latest, version.time), reverse=True)
