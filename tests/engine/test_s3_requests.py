"""One request to an object store: what is repeated and how often, what fails at once, and what an answer must have."""

import contextlib
import socket
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.backends import Credentials, open_store
from engine.backends.connections import Trust
from engine.backends.patience import Patience
from engine.errors import (
    AccessDenied,
    AnswerBroken,
    BucketMissing,
    CertificateRefused,
    FileMissing,
    InvalidCredentials,
    QuotaExceeded,
    StoreBusy,
    StoreError,
    StoreUnreachable,
)
from engine.store import FileKind
from tests.services.s3 import Fault, object_store

NAME = "ab" + "0" * 62
CONTENT = bytes(range(256)) * 8
ALWAYS = 1_000_000
QUICK = Patience(read_timeout_s=20, first_pause_s=0.001, longest_pause_s=0.002, deadline_s=20, first_answer_s=20)
# For answers that never come; the others may take their time on a busy machine.
IMPATIENT = replace(QUICK, read_timeout_s=0.05)
ACTS = {
    "put": lambda store: store.put(FileKind.DATA, NAME, CONTENT),
    "get": lambda store: store.get(FileKind.DATA, NAME),
    "get a range": lambda store: store.get_range(FileKind.DATA, NAME, 100, 50),
    "list": lambda store: list(store.list(FileKind.DATA)),
    "exists": lambda store: store.exists(FileKind.DATA, NAME),
    "delete": lambda store: store.delete(FileKind.INDEX, NAME),
    "create": lambda store: store.create(),
}
BY_ACT = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
FAULTS = [fault for fault in Fault if fault is not Fault.SHORT]


@pytest.fixture(scope="module")
def server():
    with object_store() as running:
        yield running


@pytest.fixture
def s3(server):
    server.begin()
    server.buckets = {"bucket": {f"data/ab/{NAME}": CONTENT, f"index/{NAME}": b"x"}}
    return server


@pytest.fixture(scope="module")
def opened(server):
    """Return a function that opens a bucket, sharing what boto3 reads when it begins."""
    stores = {}

    def opened(bucket="bucket", patience=None):
        if (bucket, patience) not in stores:
            keys = Credentials("key", "secret-key")
            stores[bucket, patience] = open_store(f"s3:{server.url}/{bucket}", credentials=keys, patience=patience)
        return stores[bucket, patience].reopened()

    return opened


def patience_for(fault):
    return IMPATIENT if fault is Fault.SILENT else QUICK


@pytest.fixture
def store(s3, opened):
    return opened(patience=QUICK)


@BY_ACT
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_once_is_repeated_and_answers_as_if_nothing_had_been(s3, opened, act, fault):
    store = opened(patience=patience_for(fault))
    expected = act(store)
    s3.begin(fault)
    assert act(store) == expected
    assert s3.faults == 1


@BY_ACT
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.ERROR, StoreBusy, "for the moment: InternalError"),
        (Fault.BUSY, StoreBusy, "for the moment: SlowDown"),
        (Fault.SILENT, StoreUnreachable, "does not answer"),
        (Fault.RESET, StoreUnreachable, "does not answer"),
        (Fault.LOST, StoreUnreachable, "does not answer"),
    ],
)
def test_a_store_that_keeps_failing_is_given_up_on_with_its_address_and_no_secret(s3, opened, act, fault, kind, words):
    store = opened(patience=replace(patience_for(fault), first_answer_s=0.2))
    s3.begin(fault, count=ALWAYS)
    with pytest.raises(kind, match=words) as raised:
        act(store)
    assert s3.faults >= 1
    assert s3.url in str(raised.value)
    assert "secret-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        ("get", Fault.HEAD),
        ("get", Fault.HALF),
        ("get", Fault.EMPTY),
        ("get a range", Fault.HALF),
        ("get a range", Fault.SHORT),
        ("list", Fault.EMPTY),
        ("put", Fault.HEAD),
    ],
)
def test_an_answer_that_is_not_whole_is_asked_for_again_a_few_times_and_never_taken(s3, store, act, fault):
    s3.begin(fault, count=ALWAYS)
    with pytest.raises(AnswerBroken, match=s3.url):
        ACTS[act](store)
    assert s3.faults == QUICK.broken_answers


@BY_ACT
@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "SignatureDoesNotMatch", InvalidCredentials, "does not accept these keys"),
        (403, "InvalidAccessKeyId", InvalidCredentials, "does not accept these keys"),
        (403, "AccessDenied", AccessDenied, "denies these keys"),
        (403, "UserSuspended", AccessDenied, "has suspended the owner of these keys"),
        (403, "QuotaExceeded", QuotaExceeded, "has used up the quota"),
        (400, "InvalidRequest", StoreError, "refused"),
        (501, "NotImplemented", StoreError, "refused"),
    ],
)
def test_what_the_store_refuses_for_a_reason_fails_at_once_with_its_code(s3, opened, act, status, code, kind, words):
    store = opened()
    s3.refuse(status, code)
    with pytest.raises(kind, match=f"{words}.*{code}"):
        act(store)
    assert len(s3.requests) == 1


@BY_ACT
def test_a_bucket_that_is_missing_is_told_at_once_and_made_when_asked_for(s3, opened, act):
    store = opened("missing")
    if act is ACTS["create"]:
        act(store)
        assert "missing" in s3.buckets
    else:
        with pytest.raises(BucketMissing, match="NoSuchBucket"):
            act(store)
        assert len(s3.requests) == 1


def test_a_file_that_is_missing_is_told_at_once(s3, store):
    with pytest.raises(FileMissing, match="NoSuchKey"):
        store.get(FileKind.SNAPSHOTS, NAME)
    assert len(s3.requests) == 1


def test_of_an_answer_that_ignores_the_range_the_range_is_taken(s3, store):
    s3.knows_ranges = False
    assert store.get_range(FileKind.DATA, NAME, 100, 50) == CONTENT[100:150]


def test_a_long_list_is_read_page_by_page_and_each_page_can_fail(s3, store):
    names = [f"{number:064x}" for number in range(2500)]
    s3.buckets["bucket"] = {f"index/{name}": b"x" for name in names}
    for number in range(1, 4):
        s3.begin(Fault.EMPTY, number)
        assert sorted(name for name, _ in store.list(FileKind.INDEX)) == names
        assert (len(s3.requests), s3.faults) == (4, 1)


def test_one_connection_serves_many_requests_and_what_was_read_to_its_end_does_not_break_it(s3, store):
    for act in (*ACTS.values(), *ACTS.values()):
        act(store)
    with pytest.raises(FileMissing):
        store.get(FileKind.SNAPSHOTS, NAME)
    assert s3.connections == 1


def test_a_small_file_is_written_by_one_request_that_waits_for_no_permission(s3, store):
    store.put(FileKind.INDEX, NAME, b"some bytes")
    assert s3.expected == 0


def test_a_store_that_wants_digests_as_one_under_object_lock_does_is_told_them_from_then_on(s3, store):
    s3.wants_digests = True
    store.put(FileKind.INDEX, NAME, b"some bytes")
    assert [request.method for request in s3.requests] == ["PUT", "PUT"]
    store.put(FileKind.DATA, NAME, bytearray(b"others"))
    assert len(s3.requests) == 3
    assert (store.get(FileKind.INDEX, NAME), store.get(FileKind.DATA, NAME)) == (b"some bytes", b"others")


@BY_ACT
def test_the_head_of_an_answer_is_acknowledged_at_once_since_a_store_may_wait_for_that_with_the_body(s3, store, act, monkeypatch):
    wishes = []
    real = socket.socket.setsockopt
    monkeypatch.setattr(
        socket.socket, "setsockopt", lambda self, *option: [wishes.append(option), real(self, *option)][1]
    )  # fmt: skip
    act(store)
    assert wishes.count((socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)) == len(s3.requests) == 1


class _Silent(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def https(tmp_path):
    """A server with a certificate that it signed itself: its port, the certificate's path, and who connected."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    unencrypted = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    connections = []

    class Server(ThreadingHTTPServer):
        def get_request(self):
            connections.append(1)
            with contextlib.suppress(ssl.SSLError):
                return super().get_request()
            raise OSError("refused")

    server = Server(("127.0.0.1", 0), _Silent)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server.server_port, pem, connections
    server.shutdown()
    server.server_close()


def test_a_certificate_that_nobody_trusts_is_refused_at_once_and_accepted_once_it_is_named(https):
    port, pem, connections = https
    keys = Credentials("key", "secret-key")
    with pytest.raises(CertificateRefused, match="not trusted"):
        open_store(f"s3:https://localhost:{port}/bucket", credentials=keys).get(FileKind.CONFIG, "")
    assert len(connections) == 1
    trust = Trust(pem.read_text())
    with pytest.raises(StoreError, match="501"):
        open_store(f"s3:https://localhost:{port}/bucket", credentials=keys, trust=trust).get(FileKind.CONFIG, "")
