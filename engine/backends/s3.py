"""A repository in a bucket of an S3 store (Ceph RADOS Gateway, MinIO, AWS), through boto3.

What may pass is done again (`patience`), the whole of it: request, answer and the reading of its body. What the store refuses for
a reason fails at once, with the store's own code in the message. boto3 leaves it to its callers to notice an answer that breaks
off, so every answer is held against what it must have. Old gateways know no checksum trailers and no conditional writes, so
neither is used.
"""

import contextlib
import copy
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from engine.backends import Credentials
from engine.backends.connections import Trust, is_about_certificate, require_certificates, watch_connections
from engine.backends.limited import STEP_BYTES, Limits
from engine.backends.patience import Patience, Repeater
from engine.bounds import require_size
from engine.errors import (
    AccessDenied,
    AnswerBroken,
    BucketMissing,
    CertificateRefused,
    EngineError,
    FileMissing,
    InvalidCredentials,
    QuotaExceeded,
    StoreBusy,
    StoreError,
    StoreUnreachable,
)
from engine.store import Buffer, FileKind, is_file_name, relative_path

CONNECTIONS = 16
DEFAULT_REGION = "us-east-1"
T = TypeVar("T")

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
    "SlowDown": StoreBusy,
    "RequestTimeout": StoreBusy,
    "OperationAborted": StoreBusy,
    # What arrived was not what was sent.
    "IncompleteBody": StoreBusy,
    "BadDigest": StoreBusy,
    "XAmzContentSHA256Mismatch": StoreBusy,
    "NotImplemented": StoreError,
    "501": StoreError,
    "507": QuotaExceeded,
}
_SENTENCES: dict[type[StoreError], str] = {
    InvalidCredentials: "the store at {url} does not accept these keys: {code}",
    AccessDenied: "the store at {url} denies these keys {what}: {code}",
    BucketMissing: "the store at {url} has no bucket for {what}: {code}",
    FileMissing: "the store at {url} does not have {what}: {code}",
    QuotaExceeded: "the store at {url} has no room for {what}, or the owner of these keys has used up the quota: {code}",
    StoreBusy: "the store at {url} cannot do {what} for the moment: {code}",
    StoreError: "the store at {url} refused {what}: {code}",
}
_SILENT = (
    ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, HTTPError, ProxyConnectionError, ReadTimeoutError,
)  # fmt: skip
_SUSPENDED = "the store at {url} has suspended the owner of these keys: {code}"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def s3_client(session: boto3.Session, url: str, credentials: Credentials | None, trust: Trust, patience: Patience) -> Any:
    """Return boto3's client for the store at `url` (`http[s]://host[:port]`), which repeats nothing by itself."""
    keys = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.session_token,
        }
    client = session.client(
        "s3",
        endpoint_url=url,
        region_name=session.region_name or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=patience.connect_timeout_s,
            read_timeout=patience.read_timeout_s,
            max_pool_connections=CONNECTIONS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        **keys,
    )
    watch_connections(client._endpoint.http_session, trust)
    return client


class S3Store:
    """A bucket, or what lies below a prefix of it."""

    parallel_uploads = 4
    packs_ahead = 1
    settle_s = 0.2

    def __init__(
        self,
        url: str,
        bucket: str,
        prefix: str,
        credentials: Credentials | None,
        trust: Trust | None = None,
        patience: Patience | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.url, self.bucket, self.prefix = url, bucket, prefix
        self._credentials, self._trust = credentials, trust or Trust()
        if self._trust.authorities:
            require_certificates(self._trust.authorities)
        self._patience, self._limits = patience or Patience(), limits or Limits()
        self._repeat = Repeater(self._patience)
        self._sends_digests = False
        with failing_store(url, self.location):
            # Kept, since it reads boto3's descriptions of services, which takes ten times as long as all else here.
            self._session = boto3.Session()
        self._connect()

    @classmethod
    def at(
        cls,
        address: str,
        credentials: Credentials | None,
        trust: Trust | None = None,
        patience: Patience | None = None,
        limits: Limits | None = None,
    ) -> "S3Store":
        """Return the store at an address as restic writes it after `s3:`."""
        parts = urlsplit(address if "://" in address else f"https://{address.lstrip('/')}")
        bucket, _, prefix = parts.path.strip("/").partition("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not bucket:
            raise EngineError("an S3 repository's address has the form s3:http[s]://host[:port]/bucket[/prefix]")
        if parts.username or parts.password:
            raise EngineError("keys do not belong into a repository's address")
        url = f"{parts.scheme}://{parts.netloc}"
        return cls(url, bucket, prefix.strip("/"), credentials, trust, patience, limits)

    @property
    def location(self) -> str:
        return "s3:" + "/".join(part for part in (self.url, self.bucket, self.prefix) if part)

    def get(self, kind: FileKind, name: str) -> bytes:
        return self._do(kind, name, lambda: self._read(kind, name)[0])

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        return self._do(kind, name, lambda: self._read_range(kind, name, offset, length))

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        # boto3 sends a bytearray as it is. Bytes it would announce first ("Expect: 100-continue"), which costs a round trip.
        body = data if isinstance(data, bytearray) else bytearray(data)

        def put() -> None:
            digest = {"ContentMD5": b64encode(md5(body, usedforsecurity=False).digest()).decode()} if self._sends_digests else {}
            try:
                answer = self._client.put_object(Bucket=self.bucket, Key=self._key(kind, name), Body=body, **digest)
            except ClientError as error:
                # AWS under Object Lock. Others need none, where it would take a tenth of a processor at full speed.
                if digest or "Content-MD5" not in (error.response.get("Error", {}).get("Message") or ""):
                    raise
                self._sends_digests = True
                return put()
            if "ETag" not in answer:
                raise AnswerBroken(f"what answers at {self.url} does not say that it took {kind.value} {name}")

        self._do(kind, name, put)

    def begin_pack(self) -> "_S3Upload":
        return _S3Upload(self)

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        prefix = self._key(kind, "").rstrip("/") if kind is FileKind.CONFIG else self._directory(kind)
        request = {"Prefix": prefix}
        while True:
            page = self._do(kind, "", partial(self._list_page, **request))
            for entry in page.get("Contents", ()):
                name = entry["Key"].rpartition("/")[2]
                # What lies deeper, or is a pack in another directory than its own, cannot be read by its name, and so is not there.
                if entry["Key"] == self._key(kind, name) and (is_file_name(name) or kind in (FileKind.CONFIG, FileKind.DATA)):
                    yield name, entry["Size"]
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, kind: FileKind, name: str) -> None:
        with contextlib.suppress(FileMissing):
            self._do(kind, name, lambda: self._client.delete_object(Bucket=self.bucket, Key=self._key(kind, name)))

    def exists(self, kind: FileKind, name: str) -> bool:
        # By a list, since an answer to HEAD cannot say why it is none.
        key = self._key(kind, name)
        page = self._do(kind, name, lambda: self._list_page(Prefix=key, MaxKeys=1))
        return any(entry["Key"] == key for entry in page.get("Contents", ()))

    def delete_remains(self) -> None:
        """Nothing: an object is put by one request, and is there whole or not."""

    def create(self) -> None:
        try:
            self._do(None, "", lambda: self._list_page(MaxKeys=1))
        except BucketMissing:
            self._do(None, "", self._create_bucket)

    def reopened(self) -> "S3Store":
        again = copy.copy(self)
        again._connect()
        return again

    def hurry(self) -> None:
        self._limits.lift()
        self._repeat.hurry()

    def close(self) -> None:
        self._client.close()

    def _connect(self) -> None:
        with failing_store(self.url, self.location):
            self._client = s3_client(self._session, self.url, self._credentials, self._trust, self._patience)
        if self._limits.upload is not None:
            self._client.meta.events.register("before-send.s3", self._pace)

    def _pace(self, request: Any, **_: Any) -> None:
        """Have the body of a request that is about to be sent go out within the limit."""
        if self._limits.upload is not None and isinstance(request.body, bytearray):
            request.body = self._limits.upload.paced(request.body)

    def _read(self, kind: FileKind, name: str, **request: str) -> tuple[bytes, dict[str, Any]]:
        """Return the body of an object, or what was requested of it, and the rest of the answer. Raises TooLarge."""
        answer = self._client.get_object(Bucket=self.bucket, Key=self._key(kind, name), **request)
        require_size(kind, name, answer.get("ContentLength", 0))
        if "ContentLength" not in answer and "transfer-encoding" not in answer["ResponseMetadata"]["HTTPHeaders"]:
            raise AnswerBroken(f"an answer of the store at {self.url} does not say how long it is")
        # Compares what came with the length.
        download = self._limits.download
        if download is None and "ContentLength" in answer:
            return answer["Body"].read(), answer
        pieces = []
        size = 0
        while piece := answer["Body"].read(STEP_BYTES if download is None else download.step):
            if download is not None:
                download.take(len(piece))
            pieces.append(piece)
            size += len(piece)
            require_size(kind, name, size)
        return b"".join(pieces), answer

    def _read_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        try:
            body, answer = self._read(kind, name, Range=f"bytes={offset}-{offset + length - 1}")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "InvalidRange":
                return b""
            raise
        if "ContentRange" not in answer:
            # What stands before the store may not know ranges, and answer with everything.
            return body[offset : offset + length]
        found = _CONTENT_RANGE.fullmatch(answer["ContentRange"])
        begin, last, size = map(int, found.groups()) if found else (0, -1, 0)
        if begin != offset or len(body) != last + 1 - begin or len(body) != min(length, size - offset):
            raise AnswerBroken(
                f"the store at {self.url} answered with {len(body)} bytes ({answer['ContentRange']}) to a request for {length}"
            )
        return body

    def _list_page(self, **request: Any) -> dict[str, Any]:
        page: dict[str, Any] = self._client.list_objects_v2(Bucket=self.bucket, **request)
        # An empty answer reads like an empty list; a lock or a snapshot that is overlooked costs data.
        if "IsTruncated" not in page or (page["IsTruncated"] and "NextContinuationToken" not in page):
            raise AnswerBroken(f"what answers at {self.url} does not list {self.location}")
        return page

    def _create_bucket(self) -> None:
        try:
            self._client.create_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
                raise

    def _key(self, kind: FileKind, name: str) -> str:
        path = relative_path(kind, name)
        return f"{self.prefix}/{path}" if self.prefix else path

    def _directory(self, kind: FileKind) -> str:
        return f"{self.prefix}/{kind.value}/" if self.prefix else f"{kind.value}/"

    def _do(self, kind: FileKind | None, name: str, act: Callable[[], T]) -> T:
        """Return what `act` returns, in the end, with boto3's errors turned into the engine's."""
        what = f"{kind.value} {name} of {self.location}".replace("  ", " ") if kind else self.location

        def attempt() -> T:
            with failing_store(self.url, what):
                return act()

        return self._repeat(attempt)


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
        # Not cleared: the error that a failed request left behind may hold on to it.
        self._content = bytearray()


@contextlib.contextmanager
def failing_store(url: str, what: str) -> Iterator[None]:
    """Turn boto3's errors in the block into the engine's. `what`: what was asked for, as a person would name it."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error, url, what) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InvalidCredentials(f"no keys were given for the store at {url}") from error
    except SSLError as error:
        if is_about_certificate(error):
            raise CertificateRefused(f"the certificate of the store at {url} is not trusted") from error
        raise StoreUnreachable(f"the store at {url} does not answer with HTTPS") from error
    except (IncompleteReadError, ResponseStreamingError, ResponseParserError) as error:
        raise AnswerBroken(f"the answer of the store at {url} breaks off at {what}") from error
    except _SILENT as error:
        raise StoreUnreachable(f"the store at {url} does not answer") from error
    except ParamValidationError as error:
        raise StoreError(f"the store at {url} cannot have {what}: the name is not allowed") from error
    except RecursionError as error:  # boto3 follows one that leads nowhere until it cannot
        raise StoreError(f"the store at {url} answers with a redirect: is it http or https, and the region right?") from error
    except BotoCoreError as error:
        if isinstance(ours := error.kwargs.get("error"), StoreError):
            raise ours from None  # what `Trust.admit` had to say
        raise StoreError(f"the store at {url} failed at {what}: {type(error).__name__}") from error
    except ValueError as error:
        raise StoreError(f"{url} is no address of a store") from error


def _refusal(error: ClientError, url: str, what: str) -> StoreError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code") or status or "unknown")
    kind = _ERRORS.get(code) or (StoreBusy if status >= 500 or status == 429 else StoreError)
    sentence = _SUSPENDED if code == "UserSuspended" else _SENTENCES[kind]
    return kind(sentence.format(url=url, what=what, code=code))
