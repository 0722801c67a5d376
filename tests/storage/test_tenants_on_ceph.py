"""Tenants of a real Ceph gateway: it tells name, display name, quota and use to whoever holds a user's keys."""

import boto3
import pytest

from storage.models import Endpoint, Tenant
from storage.tasks import refresh_all_tenants

pytestmark = pytest.mark.ceph

QUOTA = 1 << 40


@pytest.fixture
def endpoint(db, ceph_endpoint) -> Endpoint:
    return Endpoint.objects.create(address=ceph_endpoint.address, https=False, type=0, display_name="ceph")


def post(api, endpoint, access_key, secret_key):
    body = {"endpoint": {"address": endpoint.address}, "access_key": access_key, "secret_key": secret_key}
    return api("administrator").post("/api/tenant", body, format="json")


def test_the_gateway_says_who_the_owner_of_the_keys_is(api, endpoint, ceph_endpoint) -> None:
    keys = ceph_endpoint.make_user("storage-described", quota=QUOTA, display_name="Described User")
    body = post(api, endpoint, *keys).json()
    assert (body["username"], body["display_name"]) == ("storage-described", "Described User")
    assert (body["quota"], body["used"]) == (QUOTA, 0)


def test_a_user_without_a_quota_has_none(api, endpoint, ceph_endpoint) -> None:
    keys = ceph_endpoint.make_user("storage-unlimited")
    assert post(api, endpoint, *keys).json()["quota"] is None


def test_wrong_keys_are_400_with_the_gateways_own_error(api, endpoint, ceph_endpoint) -> None:
    access_key, secret_key = ceph_endpoint.make_user("storage-refused")
    wrong_secret = post(api, endpoint, access_key, secret_key[::-1])
    assert wrong_secret.status_code == 400
    assert "SignatureDoesNotMatch" in wrong_secret.json()["error"]
    unknown = post(api, endpoint, "NOBODY", secret_key)
    assert unknown.status_code == 400
    assert "InvalidAccessKeyId" in unknown.json()["error"]
    ceph_endpoint.admin("user", "suspend", "--uid", "storage-refused")
    assert "UserSuspended" in post(api, endpoint, access_key, secret_key).json()["error"]


def test_a_refresh_sees_what_was_stored(api, endpoint, ceph_endpoint) -> None:
    access_key, secret_key = ceph_endpoint.make_user("storage-used")
    assert post(api, endpoint, access_key, secret_key).status_code == 201
    client = boto3.client(
        "s3",
        endpoint_url=ceph_endpoint.url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )
    client.create_bucket(Bucket="storage-used")
    client.put_object(Bucket="storage-used", Key="object", Body=b"x" * 100_000)
    ceph_endpoint.admin("user", "stats", "--uid", "storage-used", "--sync-stats")
    refresh_all_tenants()
    assert Tenant.objects.get(username="storage-used").used == 100_000


def test_an_endpoint_that_is_a_gateway_is_registered(api, db, ceph_endpoint) -> None:
    body = {"address": ceph_endpoint.address, "https": False, "type": 0, "display_name": "ceph"}
    assert api("administrator").post("/api/endpoint", body, format="json").status_code == 201
