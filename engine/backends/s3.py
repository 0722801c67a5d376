"""A repository in a bucket of an S3 store (Ceph RADOS Gateway, MinIO, AWS), through boto3.

boto3 repeats what is worth repeating (its "standard" mode: back-off with jitter, a ceiling); what the store refuses for a
reason fails at once, with the store's own code in the message. Old gateways know no checksum trailers and no conditional
writes, so neither is used.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)

from engine.backends import Credentials
from engine.errors import (
    AccessDenied,
    BucketMissing,
    EngineError,
    FileMissing,
    InvalidCredentials,
    QuotaExceeded,
    StoreError,
    StoreUnreachable,
)
from engine.store import Buffer, FileKind, relative_path

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 5
READ_ATTEMPTS = 3
CONNECTIONS = 16
DEFAULT_REGION = "us-east-1"

_ERRORS: dict[str, type[StoreError]] = {
    "SignatureDoesNotMatch": InvalidCredentials,
    "InvalidAccessKeyId": InvalidCredentials,
    "InvalidToken": InvalidCredentials,
    "ExpiredToken": InvalidCredentials,
    "UserSuspended": AccessDenied,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "403": AccessDenied,
    "NoSuchBucket": BucketMissing,
    "NoSuchKey": FileMissing,
    "404": FileMissing,
    "QuotaExceeded": QuotaExceeded,
    "XMinioStorageFull": QuotaExceeded,
    "XMinioAdminBucketQuotaExceeded": QuotaExceeded,
}


def s3_client(url: str, credentials: Credentials | None, ca_bundle: str | None = None) -> Any:
    """Return boto3's client for the store at `url` (`http[s]://host[:port]`), set up as every store here needs it."""
    session = boto3.Session()
    keys = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.session_token,
        }
    return session.client(
        "s3",
        endpoint_url=url,
        region_name=session.region_name or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        verify=ca_bundle,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=CONNECTIONS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        **keys,
    )


class S3Store:
    """A bucket, or what lies below a prefix of it."""

    parallel_uploads = 4
    settle_s = 0.2

    def __init__(
        self, url: str, bucket: str, prefix: str, credentials: Credentials | None, ca_bundle: str | None = None
    ) -> None:
        self.url, self.bucket, self.prefix = url, bucket, prefix
        self._credentials, self._ca_bundle = credentials, ca_bundle
        with self._failing():
            self._client = s3_client(url, credentials, ca_bundle)

    @classmethod
    def at(cls, address: str, credentials: Credentials | None, ca_bundle: str | None) -> "S3Store":
        """Return the store at an address as restic writes it after `s3:`."""
        parts = urlsplit(address if "://" in address else f"https://{address.lstrip('/')}")
        bucket, _, prefix = parts.path.strip("/").partition("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not bucket:
            raise EngineError("an S3 repository's address has the form s3:http[s]://host[:port]/bucket[/prefix]")
        if parts.username or parts.password:
            raise EngineError("keys do not belong into a repository's address")
        return cls(f"{parts.scheme}://{parts.netloc}", bucket, prefix.strip("/"), credentials, ca_bundle)

    @property
    def location(self) -> str:
        return "s3:" + "/".join(part for part in (self.url, self.bucket, self.prefix) if part)

    def get(self, kind: FileKind, name: str) -> bytes:
        with self._failing(kind, name):
            return self._read(Key=self._key(kind, name))

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        with self._failing(kind, name):
            try:
                return self._read(Key=self._key(kind, name), Range=f"bytes={offset}-{offset + length - 1}")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":
                    return b""
                raise

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        with self._failing(kind, name):
            # boto3 takes bytes and bytearrays as they are; anything else it would copy.
            body = data if isinstance(data, bytes | bytearray) else bytes(data)
            self._client.put_object(Bucket=self.bucket, Key=self._key(kind, name), Body=body)

    def begin_pack(self) -> "_S3Upload":
        return _S3Upload(self)

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        prefix = self._key(kind, "").rstrip("/") if kind is FileKind.CONFIG else self._directory(kind)
        with self._failing(kind):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].rpartition("/")[2], entry["Size"]

    def delete(self, kind: FileKind, name: str) -> None:
        with contextlib.suppress(FileMissing), self._failing(kind, name):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(kind, name))

    def exists(self, kind: FileKind, name: str) -> bool:
        try:
            with self._failing(kind, name):
                self._client.head_object(Bucket=self.bucket, Key=self._key(kind, name))
        except FileMissing:
            return False
        return True

    def delete_remains(self) -> None:
        """Nothing: an object is put by one request, and is there whole or not."""

    def create(self) -> None:
        with self._failing():
            try:
                self._client.head_bucket(Bucket=self.bucket)
                return
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchBucket"):
                    raise
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
                    raise

    def reopened(self) -> "S3Store":
        return S3Store(self.url, self.bucket, self.prefix, self._credentials, self._ca_bundle)

    def close(self) -> None:
        self._client.close()

    def _read(self, **request: str) -> bytes:
        """Return the body of an object. boto3 repeats requests, but not the reading of an answer that breaks off."""
        for _ in range(READ_ATTEMPTS - 1):
            with contextlib.suppress(IncompleteReadError, ResponseStreamingError, ReadTimeoutError):
                return self._read_once(request)
        return self._read_once(request)

    def _read_once(self, request: dict[str, str]) -> bytes:
        body: bytes = self._client.get_object(Bucket=self.bucket, **request)["Body"].read()
        return body

    def _key(self, kind: FileKind, name: str) -> str:
        path = relative_path(kind, name)
        return f"{self.prefix}/{path}" if self.prefix else path

    def _directory(self, kind: FileKind) -> str:
        return f"{self.prefix}/{kind.value}/" if self.prefix else f"{kind.value}/"

    @contextlib.contextmanager
    def _failing(self, kind: FileKind | None = None, name: str = "") -> Iterator[None]:
        """Turn boto3's errors into the engine's."""
        what = f"{kind.value} {name} of {self.location}".replace("  ", " ") if kind else self.location
        with failing_store(self.url, what):
            yield


class _S3Upload:
    """A pack that is collected here, since an object's name comes before its content."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._content = bytearray()

    def write(self, piece: Buffer) -> None:
        self._content += piece

    def finish(self, name: str) -> None:
        self._store.put(FileKind.DATA, name, self._content)

    def abandon(self) -> None:
        self._content.clear()


@contextlib.contextmanager
def failing_store(url: str, what: str) -> Iterator[None]:
    """Turn boto3's errors in the block into the engine's. `what`: what was asked for, as a person would name it."""
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code") or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "unknown"))
        kind = _ERRORS.get(code, StoreError)
        raise kind(f"the store at {url} refused {what}: {code}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InvalidCredentials(f"no keys were given for the store at {url}") from error
    except SSLError as error:
        raise StoreUnreachable(f"the certificate of the store at {url} is not trusted") from error
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError, ConnectionClosedError) as error:
        raise StoreUnreachable(f"the store at {url} does not answer") from error
    except ParamValidationError as error:
        raise StoreError(f"the store at {url} cannot have {what}: the name is not allowed") from error
    except RecursionError as error:  # boto3 follows one that leads nowhere until it cannot
        raise StoreError(f"the store at {url} answers with a redirect: is it http or https, and the region right?") from error
    except (HTTPClientError, BotoCoreError) as error:
        raise StoreError(f"the store at {url} failed at {what}: {type(error).__name__}") from error
    except ValueError as error:
        raise StoreError(f"{url} is no address of a store") from error
