"""What a store says about itself: whether it answers at all, and who the owner of a pair of keys is.

Ceph's gateway tells a user's name, display name and quota to whoever holds that user's own keys: the owner of the list of
buckets, and `GET /?usage`. Other S3 stores tell the owner only. Nothing here touches the database.
"""

import os
import pwd
from dataclasses import dataclass
from xml.etree import ElementTree  # what is parsed: see parse_usage  # nosec B405

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials as SigningKeys
from botocore.exceptions import SSLError
from botocore.httpsession import URLLib3Session
from django.utils.translation import gettext as _

from engine.backends import Credentials
from engine.backends.connections import is_about_certificate, watch_connections
from engine.backends.patience import Patience
from engine.backends.s3 import DEFAULT_REGION, failing_store, s3_client
from engine.errors import AccessDenied, BucketMissing, StoreError, StoreUnreachable
from storage.admission import require_own_directory, trust_in
from storage.models import Endpoint

# Somebody looks at a page meanwhile.
PATIENCE = Patience(connect_timeout_s=5, read_timeout_s=15)
MAX_USAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TenantDescription:
    """What a store says about a user. `quota` and `used` in bytes; None: it has none, or does not say."""

    username: str
    display_name: str
    quota: int | None
    used: int | None


def check_endpoint(endpoint: Endpoint) -> None:
    """Return if a store answers at the endpoint. Raises StoreError with the reason if not."""
    if endpoint.is_directory:
        _check_directory(endpoint.address)
        return
    answer = _send(AWSRequest("GET", endpoint.url + "/"), endpoint)
    if answer.status_code >= 500:
        raise StoreUnreachable(
            _("The store at %(url)s answers with status %(status)d.") % {"url": endpoint.url, "status": answer.status_code}
        )


def describe_tenant(endpoint: Endpoint, access_key: str, secret_key: str) -> TenantDescription:
    """Return what the store says about the owner of the keys. Raises StoreError with the store's own code in the message."""
    if endpoint.is_directory:
        return _describe_directory(endpoint.address)
    username, display_name = _owner(endpoint, access_key, secret_key)
    quota, used = None, None
    if endpoint.type == Endpoint.Type.CEPH:
        quota, used = _usage(endpoint, access_key, secret_key)
    return TenantDescription(username or access_key, display_name or username or access_key, quota, used)


def parse_usage(document: bytes) -> tuple[int | None, int | None]:
    """Return quota and used bytes of Ceph's answer to `GET /?usage`; None for what is not there.

    The document comes from outside: one that is large, defines entities or is no XML says nothing.
    """
    if len(document) > MAX_USAGE_BYTES or b"<!" in document:
        return None, None
    try:
        summary = ElementTree.fromstring(document)  # noqa: S314 - without a DTD there is nothing to expand  # nosec B314
    except ElementTree.ParseError:
        return None, None
    quota = _number(summary.findtext(".//Summary/QuotaMaxBytes"))
    used = _number(summary.findtext(".//Summary/TotalBytes"))
    return quota, used


def _owner(endpoint: Endpoint, access_key: str, secret_key: str) -> tuple[str, str]:
    with failing_store(endpoint.url, "the list of buckets"):
        client = s3_client(boto3.Session(), endpoint.url, Credentials(access_key, secret_key), trust_in(endpoint), PATIENCE)
        try:
            owner = client.list_buckets().get("Owner", {})
        finally:
            client.close()
    return str(owner.get("ID", ""))[:255], str(owner.get("DisplayName", ""))[:255]


def _usage(endpoint: Endpoint, access_key: str, secret_key: str) -> tuple[int | None, int | None]:
    request = AWSRequest("GET", endpoint.url + "/", params={"usage": ""})
    S3SigV4Auth(SigningKeys(access_key, secret_key), "s3", DEFAULT_REGION).add_auth(request)
    answer = _send(request, endpoint)
    return parse_usage(answer.content) if answer.status_code == 200 else (None, None)


def _send(request: AWSRequest, endpoint: Endpoint) -> AWSResponse:
    """Send one request, without following redirects. Raises StoreError."""
    session = URLLib3Session(timeout=(PATIENCE.connect_timeout_s, PATIENCE.read_timeout_s))
    watch_connections(session, trust_in(endpoint))
    try:
        with failing_store(endpoint.url, "an answer"):
            try:
                return session.send(request.prepare())
            except SSLError as error:
                if is_about_certificate(error):
                    raise
                raise StoreUnreachable(_("What answers at %(url)s does not speak HTTPS.") % {"url": endpoint.url}) from error
    finally:
        session.close()


def _number(text: str | None) -> int | None:
    """Return a size that fits the database; Ceph writes -1 for none."""
    try:
        number = int(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1 << 63 else None


def _check_directory(path: str) -> None:
    require_own_directory(path)
    if not os.path.isdir(path):
        raise BucketMissing(_("The directory %(path)s does not exist.") % {"path": path})
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise AccessDenied(_("The directory %(path)s cannot be written to.") % {"path": path})


def _describe_directory(path: str) -> TenantDescription:
    _check_directory(path)
    try:
        owner = os.stat(path).st_uid
        used = _bytes_below(path)
    except OSError as error:
        raise StoreError(_("The directory %(path)s cannot be read.") % {"path": path}) from error
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    return TenantDescription(name, name, None, used)


def _bytes_below(path: str) -> int:
    """Return the size of the files below a directory; what vanishes meanwhile does not count."""
    total = 0
    for directory, _names, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:
                continue
    return total
