"""An object store in memory that speaks as much of S3 as backups use, on a loopback port, and fails when it is told to.

It counts what it is asked. Signatures are not checked. The processes that a test forks inherit its sockets, so a connection is
never ended by closing it, which would leave the copies open.
"""

import ctypes
import itertools
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


class Fault(Enum):
    """How a request fails. From LOST on, what was asked for is done all the same."""

    ERROR = "answered with 500"
    BUSY = "answered with 503 SlowDown"
    SILENT = "never answered"
    RESET = "cut off while it is sent"
    LOST = "done, and the answer lost"
    HEAD = "done, and the answer cut off in its head"
    HALF = "done, and half of the answer's body lost"
    EMPTY = "done, and the answer's body lost"
    SHORT = "answered with less of the range than was asked for, in good form"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came. `key`: "" for one about a bucket; sizes of the bodies in bytes."""

    method: str
    key: str
    is_range: bool
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class ObjectStore:
    """Its buckets, what it was asked since `begin`, and what it is to do wrong. `url`: http://127.0.0.1:port.

    `connections` were opened, `faults` were met, `expected` requests waited to be asked for their body ("Expect: 100-continue").
    """

    def __init__(self) -> None:
        self.url = ""
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.begin()

    def begin(self, fault: Fault | None = None, first: int = 1, count: int = 1) -> None:
        """Count anew; of the requests to come, `count` from the `first` one on have the fault."""
        self.requests: list[Request] = []
        self.connections = 0
        self.faults = 0
        self.expected = 0
        self.knows_ranges = True
        self.wants_digests = False
        self.failing = range(first, first + count) if fault else range(0)
        self.fault = fault
        self.refusal: tuple[int, str] | None = None
        self._numbers = itertools.count(1)

    def refuse(self, status: int, code: str) -> None:
        """Answer everything with this error."""
        self.refusal = status, code

    def next_fault(self) -> Fault | None:
        if next(self._numbers) not in self.failing:
            return None
        self.faults += 1
        return self.fault

    def answer(self, method: str, target: str, ranges: str, body: bytes) -> _Answer:
        """Do what was asked. `ranges`: the header of that name, "" if there is none."""
        if self.refusal:
            return _error(*self.refusal)
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, keep_blank_values=True)
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        objects = self.buckets.get(bucket)
        if method == "PUT" and not key:
            self.buckets.setdefault(bucket, {})
            return _Answer(200)
        if objects is None:
            return _error(404, "NoSuchBucket")
        if not key and "location" in query:
            return _Answer(200, b"<LocationConstraint/>")
        if not key:
            return _listing(bucket, objects, {name: values[0] for name, values in query.items()})
        if method == "PUT":
            objects[key] = body
            return _Answer(200, headers=(("ETag", f'"{md5(body).hexdigest()}"'),))
        if method == "DELETE":
            objects.pop(key, None)
            return _Answer(204)
        if key not in objects:
            return _error(404, "NoSuchKey")
        return _content(objects[key], ranges if self.knows_ranges else "")


def _error(status: int, code: str, message: str = "no") -> _Answer:
    return _Answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


def _digest(body: bytes) -> str:
    return b64encode(md5(body).digest()).decode()


def _content(content: bytes, ranges: str) -> _Answer:
    headers = (("ETag", f'"{md5(content).hexdigest()}"'), ("Last-Modified", formatdate(usegmt=True)))
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", ranges)
    if not found:
        return _Answer(200, content, headers)
    begin, end = int(found[1]), int(found[2] or len(content)) + 1
    if begin >= len(content):
        return _error(416, "InvalidRange")
    part = content[begin:end]
    said = ("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(content)}")
    return _Answer(206, part, (*headers, said))


def _listing(bucket: str, objects: dict[str, bytes], query: dict[str, str]) -> _Answer:
    after, limit = query.get("continuation-token", ""), min(int(query.get("max-keys", PAGE)), PAGE)
    names = sorted(name for name in list(objects) if name.startswith(query.get("prefix", "")) and name > after)
    shown = names[:limit]
    entries = "".join(f"<Contents><Key>{quote(name)}</Key><Size>{len(objects.get(name, b''))}</Size></Contents>" for name in shown)
    more = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if len(names) > limit and shown else ""
    return _Answer(
        200,
        f"<?xml version='1.0'?><ListBucketResult><Name>{bucket}</Name><EncodingType>url</EncodingType>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{entries}</ListBucketResult>".encode(),
    )


def _unchunked(body: bytes) -> bytes:
    """Return what a body holds that is signed piece by piece, as restic's are: before each is a line of its size and signature."""
    pieces, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.store.connections += 1

    def serve(self) -> None:
        store = self.server.store
        fault = store.next_fault()
        size = int(self.headers.get("Content-Length", 0))
        if fault is Fault.RESET:
            self.rfile.read(size // 2)
            return self._reset()
        body = self.rfile.read(size)
        if len(body) < size:
            return self._hang_up()
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            body = _unchunked(body)
        if fault is Fault.SILENT:
            self.rfile.read(1)  # returns when the other side gives up
            return self._hang_up()
        if fault is Fault.ERROR:
            answer = _error(500, "InternalError")
        elif fault is Fault.BUSY:
            answer = _error(503, "SlowDown")
        elif store.wants_digests and self.command == "PUT" and self.headers.get("Content-MD5") != _digest(body):
            answer = _error(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")
        else:
            ranges = self.headers.get("Range", "")
            if fault is Fault.SHORT:
                ranges = re.sub(r"-(\d+)", lambda last: f"-{int(last[1]) - 1}", ranges)
            answer = store.answer(self.command, self.path, ranges, body)
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        has_body = self.command != "HEAD" and answer.status != 204
        sent = len(answer.body) if has_body else 0
        store.requests.append(Request(self.command, key, "Range" in self.headers, size, sent))
        if fault is Fault.LOST:
            return self._reset()
        head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        length = "" if answer.status == 204 else f"Content-Length: {len(answer.body)}\r\n"
        head = f"HTTP/1.1 {answer.status} said\r\n{head}{length}\r\n"
        cut = {Fault.HEAD: head.index("\r\n") + 4, Fault.HALF: len(head) + sent // 2, Fault.EMPTY: len(head)}
        self.wfile.write((head.encode() + answer.body[:sent])[: cut.get(fault)])
        self.wfile.flush()
        if fault in cut:
            self._hang_up()

    do_GET = do_PUT = do_HEAD = do_DELETE = serve

    def handle_expect_100(self) -> bool:
        self.server.store.expected += 1
        is_ready = super().handle_expect_100()
        self.wfile.flush()
        return is_ready

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        self.close_connection = True
        # To connect to the unspecified address is to break off, whoever else has the socket open.
        ctypes.CDLL(None).connect(self.connection.fileno(), bytes(16), 16)

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    block_on_close = False
    request_queue_size = 64

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run the store for the length of the block."""
    store = ObjectStore()
    server = _Server(store)
    store.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
