"""Tenants through the API: two keys are all it takes, the store says the rest."""

import getpass
import logging
from urllib.parse import quote

import pytest
from django.db import connection
from django.utils import timezone

from clients.models import Client
from jobs.models import BackupPlan
from storage.models import Endpoint, Repository, Tenant
from storage.probing import parse_usage
from storage.secrets import MASK
from storage.tasks import refresh_all_tenants
from tests.factories import make_tenant
from tests.storage.scripted_store import USAGE

KEYS = {"access_key": "I74IB7JXCQN67HUS2XZD", "secret_key": "nwCiFFIJfchFGRARxiDqKoeprWIkX2hKXLX7R1wh"}


@pytest.fixture
def endpoint(db, store) -> Endpoint:
    return Endpoint.objects.create(address=store.address, https=False, type=0, display_name="ceph")


@pytest.fixture
def tenant(endpoint) -> Tenant:
    return Tenant.objects.create(endpoint=endpoint, username="s3user", display_name="S3 User", **KEYS)


def post(client, store, **fields):
    body = {"endpoint": {"address": store.address}, **KEYS, **fields}
    return client.post("/api/tenant", body, format="json")


def address_of(tenant, username=None) -> str:
    return f"/api/tenant/{quote(username or tenant.username, safe='')}?endpoint={quote(tenant.endpoint.address, safe='')}"


def test_the_store_says_name_display_name_quota_and_use(api, endpoint) -> None:
    answer = post(api("administrator"), endpoint)
    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("refreshed_at") > 0
    assert body == {
        "username": "s3user",
        "endpoint": {"address": endpoint.address, "https": False, "type": 0, "display_name": "ceph"},
        **KEYS,
        "quota": 1099511627776,
        "used": 100000,
        "display_name": "S3 User",
        "refresh_error": "",
        "growth_per_day": None,
        "full_time": None,
        "agent_access_key": "",
        "agent_username": "",
        "lock_days": None,
    }


def test_both_questions_are_signed_and_neither_holds_the_secret(api, endpoint, store) -> None:
    post(api("administrator"), endpoint)
    assert len(store.requests) == 2
    for path, headers in store.requests:
        assert f"Credential={KEYS['access_key']}/" in headers["Authorization"]
        assert KEYS["secret_key"] not in f"{path} {headers}"


def test_a_quota_of_minus_one_is_none(api, endpoint, store) -> None:
    store.usage = (200, USAGE.format(quota=-1, used=0))
    body = post(api("administrator"), endpoint).json()
    assert (body["quota"], body["used"]) == (None, 0)


@pytest.mark.parametrize("usage", [(404, ""), (403, "<Error/>"), (200, "no XML"), (200, "<ListAllMyBucketsResult/>")])
def test_a_store_that_knows_no_usage_has_no_quota(api, endpoint, store, usage) -> None:
    store.usage = usage
    answer = post(api("administrator"), endpoint)
    assert answer.status_code == 201
    assert answer.json()["quota"] is None


def test_another_kind_of_store_is_not_asked_for_usage(api, endpoint, store) -> None:
    endpoint.type = Endpoint.Type.S3
    endpoint.save()
    assert post(api("administrator"), endpoint).json()["quota"] is None
    assert not any("usage" in path for path, _headers in store.requests)


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE x [<!ENTITY a "1">]><Usage><Summary><QuotaMaxBytes>&a;</QuotaMaxBytes></Summary></Usage>',
        b"<Usage><Summary><QuotaMaxBytes>" + b"9" * 5000 + b"</QuotaMaxBytes></Summary></Usage>",
        b"<Usage><Summary><QuotaMaxBytes>99999999999999999999</QuotaMaxBytes></Summary></Usage>",
        b"<a>" * 100_000,
        b"x" * (2 << 20),
        b"\xff",
        b"",
    ],
    ids=["entities", "digits", "beyond 64 bits", "unclosed", "huge", "no text", "empty"],
)
def test_a_hostile_usage_document_says_nothing(document) -> None:
    assert parse_usage(document) == (None, None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "SignatureDoesNotMatch"),
        (403, "InvalidAccessKeyId"),
        (403, "UserSuspended"),
        (403, "AccessDenied"),
        (400, "Weird"),
    ],
)
def test_keys_that_the_store_refuses_are_400_with_its_own_error(api, endpoint, store, status, code) -> None:
    store.refuse(status, code)
    answer = post(api("administrator"), endpoint)
    assert answer.status_code == 400
    assert code in answer.json()["error"]
    assert KEYS["secret_key"] not in answer.content.decode()
    assert not Tenant.objects.exists()


def test_a_store_that_does_not_answer_is_400(api, db, closed_port) -> None:
    endpoint = Endpoint.objects.create(address=f"127.0.0.1:{closed_port}", https=False)
    answer = post(api("administrator"), endpoint)
    assert answer.status_code == 400
    assert "does not answer" in answer.json()["error"]


def test_an_unknown_endpoint_is_400_and_named(api, db) -> None:
    answer = post(api("administrator"), Endpoint(address="nowhere:1"))
    assert answer.status_code == 400
    assert "nowhere:1" in answer.json()["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"access_key": ""},
        {"secret_key": None},
        {"access_key": "a\nb"},
        {"secret_key": "ключ"},
        {"access_key": 5.5},
        {"access_key": ["a"]},
        {"endpoint": None},
        {"endpoint": "text"},
        {"endpoint": {}},
        {"endpoint": {"address": "a\0"}},
        {"endpoint": [1]},
    ],
)
def test_fields_that_cannot_be_are_400(api, endpoint, store, fields) -> None:
    store.refuse(403, "InvalidAccessKeyId")
    answer = post(api("administrator"), endpoint, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_same_user_twice_is_409(api, endpoint, tenant) -> None:
    answer = post(api("administrator"), endpoint)
    assert answer.status_code == 409
    assert "s3user" in answer.json()["error"]


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_others_see_a_mask_and_change_nothing(api, tenant, role) -> None:
    client = api(role)
    assert client.get("/api/tenant").json()[0]["secret_key"] == MASK
    assert client.get(address_of(tenant)).json()["secret_key"] == MASK
    assert post(client, tenant.endpoint).status_code == 403
    assert client.put(address_of(tenant), KEYS, format="json").status_code == 403
    assert client.delete(address_of(tenant)).status_code == 403


def test_administrators_see_the_secret_key(api, tenant) -> None:
    assert api("administrator").get("/api/tenant").json()[0]["secret_key"] == KEYS["secret_key"]


def test_without_a_token_it_is_401(api, tenant) -> None:
    client = api(None)
    assert client.get("/api/tenant").status_code == 401
    assert client.get(address_of(tenant)).status_code == 401
    assert post(client, tenant.endpoint).status_code == 401


def test_the_secret_key_is_encrypted_at_rest(tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret_key FROM storage_tenant")
        assert KEYS["secret_key"] not in cursor.fetchone()[0]


@pytest.mark.parametrize("username", ["s3user", "team$user", "a:b@c", "a/b", "a b", "ü%41", "tenant$a/b:c@d"])
def test_a_name_of_any_characters_is_found(api, endpoint, username) -> None:
    tenant = Tenant.objects.create(endpoint=endpoint, username=username, **KEYS)
    answer = api("administrator").get(address_of(tenant))
    assert answer.status_code == 200
    assert answer.json()["username"] == username
    with_slash = address_of(tenant).replace("?", "/?")
    assert api("administrator").delete(with_slash).status_code == 204


def test_the_endpoint_may_be_in_base64_and_must_be_there(api, tenant) -> None:
    import base64

    key = base64.urlsafe_b64encode(tenant.endpoint.address.encode()).decode()
    client = api("viewer")
    assert client.get(f"/api/tenant/s3user?endpoint={key}").status_code == 200
    assert client.get("/api/tenant/s3user").status_code == 400
    assert client.get("/api/tenant/s3user?endpoint=elsewhere").status_code == 404
    assert client.get(f"/api/tenant/nobody?endpoint={key}").status_code == 404


def test_new_keys_are_tried_before_they_are_kept(api, tenant, store) -> None:
    client = api("administrator")
    answer = client.put(address_of(tenant), {"access_key": "NEW", "secret_key": "newer"}, format="json")
    assert answer.status_code == 200
    assert (answer.json()["access_key"], answer.json()["secret_key"]) == ("NEW", "newer")
    store.refuse(403, "SignatureDoesNotMatch")
    refused = client.put(address_of(tenant), {"secret_key": "wrong"}, format="json")
    assert refused.status_code == 400
    assert "SignatureDoesNotMatch" in refused.json()["error"]
    tenant.refresh_from_db()
    assert tenant.secret_key == "newer"


@pytest.mark.parametrize(
    "change", [{"username": "other"}, {"quota": 5}, {"quota": None}, {"display_name": "x"}, {"endpoint": {"address": "else:1"}}]
)
def test_what_the_store_says_cannot_be_changed(api, tenant, store, change) -> None:
    refresh_all_tenants()
    answer = api("administrator").put(address_of(tenant), {**change, "secret_key": "newer"}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == list(change)
    tenant.refresh_from_db()
    assert (tenant.secret_key, tenant.quota) == (KEYS["secret_key"], 1099511627776)


def test_a_tenant_may_be_sent_back_whole(api, tenant, store) -> None:
    refresh_all_tenants()
    client = api("administrator")
    whole = client.get(address_of(tenant)).json()
    answer = client.put(address_of(tenant), whole, format="json")
    assert answer.status_code == 200, answer.json()
    assert answer.json()["secret_key"] == KEYS["secret_key"]


def test_a_directorys_tenant_may_be_sent_back_whole(api, tmp_path) -> None:
    client = api("administrator")
    address = address_of(make_tenant(tmp_path))
    whole = client.get(address).json()
    assert client.put(address, whole, format="json").status_code == 200


@pytest.mark.parametrize("key", ["access_key", "secret_key"])
def test_a_key_of_an_object_store_is_not_empty(api, tenant, key) -> None:
    answer = api("administrator").put(address_of(tenant), {key: ""}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [key]


def test_one_key_alone_leaves_the_other(api, tenant) -> None:
    answer = api("administrator").put(address_of(tenant), {"secret_key": "newer"}, format="json")
    assert answer.json()["access_key"] == KEYS["access_key"]


def test_keys_of_somebody_else_are_400(api, tenant, store) -> None:
    store.belongs_to("other")
    answer = api("administrator").put(address_of(tenant), KEYS, format="json")
    assert answer.status_code == 400
    assert "other" in answer.json()["error"]


def test_one_that_plans_use_is_409_and_names_them(api, tenant) -> None:
    BackupPlan.objects.create(
        backup_name="nightly",
        client=Client.objects.create(ipv4=1, hostname="client1"),
        tenant=tenant,
        repository=Repository.objects.create(tenant=tenant, bucket="bucket", password="x"),
        bucket="bucket",
        start_time=timezone.now(),
        backup_data="{}",
    )
    answer = api("administrator").delete(address_of(tenant))
    assert answer.status_code == 409
    assert "nightly" in answer.json()["error"]


def test_a_directory_needs_no_keys(api, tmp_path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x" * 1000)
    endpoint = Endpoint.objects.create(address=str(tmp_path), type=2)
    client = api("administrator")
    body = client.post("/api/tenant", {"endpoint": {"address": str(tmp_path)}}, format="json").json()
    assert body["username"] == getpass.getuser()
    assert (body["quota"], body["used"]) == (None, 1000)
    named = client.post("/api/tenant", {"endpoint": {"address": endpoint.address}, "username": "team"}, format="json")
    assert named.status_code == 201
    assert named.json()["username"] == "team"


def test_a_directory_that_is_gone_is_400(api, tmp_path) -> None:
    endpoint = Endpoint.objects.create(address=str(tmp_path / "gone"), type=2)
    answer = api("administrator").post("/api/tenant", {"endpoint": {"address": endpoint.address}}, format="json")
    assert answer.status_code == 400
    assert "gone" in answer.json()["error"]


def test_a_refresh_takes_over_what_the_store_says(tenant, store) -> None:
    store.usage = (200, USAGE.format(quota=5, used=3))
    refresh_all_tenants()
    tenant.refresh_from_db()
    assert (tenant.quota, tenant.used, tenant.refresh_error) == (5, 3, "")


def test_a_refresh_that_fails_keeps_what_was_known_and_says_why(tenant, store, caplog) -> None:
    refresh_all_tenants()
    store.refuse(403, "UserSuspended")
    with caplog.at_level(logging.DEBUG):
        refresh_all_tenants()
    tenant.refresh_from_db()
    assert tenant.used == 100000
    assert "UserSuspended" in tenant.refresh_error
    assert KEYS["secret_key"] not in caplog.text
    refresh_all_tenants()


@pytest.mark.parametrize("rows", [1, 50])
def test_a_list_takes_a_fixed_number_of_queries(api, endpoint, rows, django_assert_num_queries) -> None:
    for number in range(rows):
        Tenant.objects.create(endpoint=endpoint, username=f"user{number}", **KEYS)
    client = api("administrator")
    with django_assert_num_queries(4):
        assert len(client.get("/api/tenant").json()) == rows
