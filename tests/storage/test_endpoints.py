"""Endpoints through the API: where backups are kept, checked when they are registered."""

import base64

import pytest

from storage.models import Endpoint, Tenant

CEPH = {"address": "127.0.0.1:7480", "https": False, "type": 0, "display_name": "ceph"}
SHOWN = {**CEPH, "max_jobs": None, "authorities": "", "authorities_end": None}


@pytest.fixture
def endpoint(db) -> Endpoint:
    return Endpoint.objects.create(**CEPH)


def post(client, query="", **fields):
    return client.post(f"/api/endpoint{query}", {**CEPH, **fields}, format="json")


def encodings(text: str) -> list[str]:
    standard = base64.b64encode(text.encode()).decode()
    urlsafe = base64.urlsafe_b64encode(text.encode()).decode()
    forms = [standard.replace("/", "%2F"), standard.rstrip("="), urlsafe, urlsafe.rstrip("="), standard.replace("=", "%3D")]
    return [*forms, text.replace("/", "%2F"), text.replace(":", "%3A").replace("/", "%2F")]


def test_one_that_answers_is_registered(api, store) -> None:
    answer = post(api("administrator"), address=store.address)
    assert answer.status_code == 201
    assert answer.json() == {**SHOWN, "address": store.address}


def test_one_that_fails_is_400_and_says_so(api, store) -> None:
    store.buckets = (503, "")
    answer = post(api("administrator"), address=store.address)
    assert answer.status_code == 400
    assert "503" in answer.json()["error"]


def test_one_that_refuses_strangers_answers(api, store) -> None:
    store.refuse(403, "AccessDenied")
    assert post(api("administrator"), address=store.address).status_code == 201


def test_one_that_does_not_answer_is_400_and_says_so(api, closed_port) -> None:
    answer = post(api("administrator"), address=f"127.0.0.1:{closed_port}")
    assert answer.status_code == 400
    assert f"127.0.0.1:{closed_port}" in answer.json()["error"]
    assert "does not answer" in answer.json()["error"]
    assert not Endpoint.objects.exists()


def test_one_that_does_not_speak_https_is_400_and_says_so(api, store) -> None:
    answer = post(api("administrator"), address=store.address, https=True)
    assert answer.status_code == 400
    assert "HTTPS" in answer.json()["error"]


@pytest.mark.parametrize("address", ["127.0.0.1:7480", "a-b.example:1", "[::1]:7480", "/mnt/ÿ?>~/backups"])
def test_one_is_changed_and_deleted_by_every_form_of_its_key(api, db, address) -> None:
    client = api("administrator")
    for key in encodings(address):
        Endpoint.objects.create(address=address, type=2 if address.startswith("/") else 0)
        quoted = key.replace("?", "%3F")
        answer = client.put(f"/api/endpoint/{quoted}?check=false", {"display_name": key}, format="json")
        assert (answer.status_code, answer.json()["display_name"]) == (200, key)
        assert client.delete(f"/api/endpoint/{quoted}/").status_code == 204
        assert not Endpoint.objects.exists()


@pytest.mark.parametrize("check", ["false", "0", "False"])
def test_the_check_can_be_left_out(api, closed_port, check) -> None:
    assert post(api("administrator"), f"?check={check}", address=f"127.0.0.1:{closed_port}").status_code == 201


def test_a_check_that_is_neither_true_nor_false_is_400(api) -> None:
    assert post(api("administrator"), "?check=perhaps").status_code == 400


def test_a_directory_is_an_absolute_path_that_can_be_written(api, tmp_path) -> None:
    client = api("administrator")
    answer = post(client, type=2, address=f"{tmp_path}//./")
    assert answer.status_code == 201
    assert answer.json()["address"] == str(tmp_path)
    missing = post(client, type=2, address=str(tmp_path / "missing"))
    assert missing.status_code == 400
    assert "missing" in missing.json()["error"]
    assert post(client, type=2, address="relative").status_code == 400


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://a:1",
        "a:0",
        "a:65536",
        "a:b",
        "a b",
        "a/b",
        "user@host",
        "[::1",
        "[zz]:1",
        "a\0",
        "x" * 256,
        "-a",
        "a..b",
        None,
        [],
        {"a": 1},
    ],
)
def test_an_address_that_cannot_be_is_400(api, address) -> None:
    answer = post(api("administrator"), "?check=false", address=address)
    assert answer.status_code == 400
    assert "address" in answer.json()["fields"]


@pytest.mark.parametrize("address", ["host", "host.example:80", "10.0.0.1", "[::1]:7480", "a_b.c-d:1"])
def test_an_address_is_a_host_with_or_without_a_port(api, address) -> None:
    assert post(api("administrator"), "?check=false", address=address).status_code == 201


@pytest.mark.parametrize(
    ("field", "value"), [("type", 3), ("type", "x"), ("type", 2**70), ("https", "x"), ("display_name", "x" * 256)]
)
def test_a_field_that_cannot_be_is_400(api, field, value) -> None:
    answer = post(api("administrator"), "?check=false", **{field: value})
    assert answer.status_code == 400
    assert field in answer.json()["fields"]


def test_the_same_address_twice_is_409(api, endpoint) -> None:
    answer = post(api("administrator"), "?check=false")
    assert answer.status_code == 409
    assert CEPH["address"] in answer.json()["error"]


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_only_administrators_change_them_and_everyone_reads_them(api, endpoint, role) -> None:
    client = api(role)
    assert client.get("/api/endpoint").json() == [SHOWN]
    assert post(client).status_code == 403
    assert client.put("/api/endpoint/127.0.0.1:7480", {}, format="json").status_code == 403
    assert client.delete("/api/endpoint/127.0.0.1:7480").status_code == 403


def test_without_a_token_it_is_401(api, endpoint) -> None:
    assert api(None).get("/api/endpoint").status_code == 401
    assert post(api(None)).status_code == 401


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("address", ["127.0.0.1:7480", "/srv/bäckup??/x", "[fe80::1]:80"])
def test_every_form_of_a_key_finds_it(api, address, slash) -> None:
    Endpoint.objects.create(address=address)
    client = api("administrator")
    for key in encodings(address):
        answer = client.get(f"/api/endpoint/{key.replace('?', '%3F')}{slash}")
        assert answer.status_code == 200, key
        assert answer.json()["address"] == address


def test_a_plain_key_goes_before_what_it_would_decode_to(api) -> None:
    plain = base64.b64encode(b"other").decode()
    Endpoint.objects.create(address="other")
    Endpoint.objects.create(address=plain)
    assert api("viewer").get(f"/api/endpoint/{plain}").json()["address"] == plain


def test_a_change_leaves_what_is_not_sent(api, endpoint) -> None:
    answer = api("administrator").put("/api/endpoint/127.0.0.1:7480?check=false", {"display_name": "new"}, format="json")
    assert answer.status_code == 200
    assert answer.json() == {**SHOWN, "display_name": "new"}


def test_a_change_is_checked_too(api, endpoint, closed_port) -> None:
    body = {"address": f"127.0.0.1:{closed_port}"}
    assert api("administrator").put("/api/endpoint/127.0.0.1:7480", body, format="json").status_code == 400
    answer = api("administrator").put("/api/endpoint/127.0.0.1:7480?check=false", body, format="json")
    assert answer.json()["address"] == body["address"]


def test_a_change_to_a_taken_address_is_409(api, endpoint) -> None:
    Endpoint.objects.create(address="other")
    answer = api("administrator").put("/api/endpoint/other?check=false", {"address": CEPH["address"]}, format="json")
    assert answer.status_code == 409


def test_a_store_with_tenants_cannot_become_a_directory(api, endpoint) -> None:
    Tenant.objects.create(endpoint=endpoint, username="user")
    answer = api("administrator").put("/api/endpoint/127.0.0.1:7480?check=false", {"type": 2, "address": "/srv"}, format="json")
    assert answer.status_code == 409


def test_one_can_be_deleted_by_its_key_in_base64(api, endpoint) -> None:
    key = base64.b64encode(CEPH["address"].encode()).decode()
    answer = api("administrator").delete(f"/api/endpoint/{key}")
    assert answer.status_code == 204
    assert api("administrator").delete(f"/api/endpoint/{key}").status_code == 404


def test_one_that_tenants_use_is_409_and_names_them(api, endpoint) -> None:
    Tenant.objects.create(endpoint=endpoint, username="s3user")
    answer = api("administrator").delete("/api/endpoint/127.0.0.1:7480")
    assert answer.status_code == 409
    assert "s3user" in answer.json()["error"]


@pytest.mark.parametrize("rows", [1, 50])
def test_a_list_takes_a_fixed_number_of_queries(api, rows, django_assert_num_queries) -> None:
    for number in range(rows):
        Endpoint.objects.create(address=f"host{number}")
    client = api("viewer")
    with django_assert_num_queries(3):
        assert len(client.get("/api/endpoint").json()) == rows
