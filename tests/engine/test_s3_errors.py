"""What an object store refuses for a reason fails at once and says so; nothing of it is tried again."""

import pytest

from engine.backends import Credentials, open_store
from engine.backends.patience import Patience
from engine.errors import AccessDenied, BucketMissing, InvalidCredentials, QuotaExceeded, StoreUnreachable
from engine.store import FileKind
from tests.services.ports import free_port

NAME = "ab" + "0" * 62
pytestmark = pytest.mark.ceph


@pytest.fixture(scope="module")
def keys(ceph_endpoint):
    return Credentials(*ceph_endpoint.make_user("engine-errors"))


@pytest.fixture(scope="module")
def bucket(ceph_endpoint, keys):
    open_store(f"s3:{ceph_endpoint.url}/engine-errors", credentials=keys).create()
    return f"s3:{ceph_endpoint.url}/engine-errors"


def attempt(location, credentials, kind, code, content=b"content"):
    """A write must fail after one request, with the store's own code and none of the keys."""
    store = open_store(location, credentials=credentials)
    requests = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.method))
    with pytest.raises(kind, match=code) as raised:
        store.put(FileKind.DATA, NAME, content)
    assert len(requests) == 1
    assert credentials.secret_key not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_secret(bucket, keys):
    attempt(bucket, Credentials(keys.access_key, "wrong" * 8), InvalidCredentials, "SignatureDoesNotMatch")


def test_an_unknown_key(bucket):
    attempt(bucket, Credentials("NOBODYSKEY0000000000", "wrong" * 8), InvalidCredentials, "InvalidAccessKeyId")


def test_a_bucket_that_is_not_there(ceph_endpoint, keys):
    attempt(f"s3:{ceph_endpoint.url}/not-there", keys, BucketMissing, "NoSuchBucket")


def test_a_bucket_of_somebody_else(ceph_endpoint, bucket):
    attempt(bucket, Credentials(*ceph_endpoint.make_user("engine-stranger")), AccessDenied, "AccessDenied")


def test_a_quota_that_is_used_up(ceph_endpoint):
    keys = Credentials(*ceph_endpoint.make_user("engine-quota", quota=4096))
    location = f"s3:{ceph_endpoint.url}/engine-quota"
    open_store(location, credentials=keys).create()
    attempt(location, keys, QuotaExceeded, "QuotaExceeded", bytes(200_000))


def test_a_user_that_is_suspended(ceph_endpoint):
    keys = Credentials(*ceph_endpoint.make_user("engine-suspended"))
    location = f"s3:{ceph_endpoint.url}/engine-suspended"
    open_store(location, credentials=keys).create()
    ceph_endpoint.admin("user", "suspend", "--uid", "engine-suspended")
    attempt(location, keys, AccessDenied, "has suspended the owner of these keys: UserSuspended")


def test_a_store_that_does_not_answer():
    port = free_port()
    keys = Credentials("key", "secret-key")
    store = open_store(f"s3:http://127.0.0.1:{port}/bucket", credentials=keys, patience=Patience(first_answer_s=0))
    with pytest.raises(StoreUnreachable, match="does not answer"):
        store.get(FileKind.CONFIG, "")
