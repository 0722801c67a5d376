"""What holds for every route: one form of error, JSON whatever happens, slashes at the end or not, roles."""

from threading import Event
from unittest.mock import patch

import pytest
from django.test import AsyncClient

METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"]
UUID = "00000000-0000-0000-0000-000000000000"
ROUTES = [
    "/login",
    "/logout",
    "/api/account",
    "/api/account/name",
    "/api/endpoint",
    "/api/endpoint/address",
    "/api/repository",
    "/api/repository/1",
    "/api/tenant",
    "/api/tenant/name?endpoint=a",
    "/api/client",
    "/api/client/1",
    "/api/client/1/token",
    "/api/client/1/revoke",
    "/api/jointoken",
    "/api/agent/join",
    "/api/agent/heartbeat",
    "/api/agent/checks",
    "/api/agent/stores",
    "/api/agent/job/backup-1/claim",
    "/api/agent/job/backup-1/progress",
    "/api/agent/job/backup-1/finish",
    "/api/backup",
    f"/api/backup/{UUID}",
    f"/api/backup/{UUID}/run",
    f"/api/backup/{UUID}/pause",
    f"/api/backup/{UUID}/resume",
    f"/api/backup/{UUID}/next",
    "/api/recovery",
    "/api/record/backup",
    "/api/record/backup/1",
    "/api/record/backup/1/cancel",
    "/api/record/backup/1/files",
    "/api/record/backup/1/download",
    "/api/record/recovery",
    "/api/record/recovery/1",
    "/api/record/recovery/1/cancel",
]
BODIES = [
    b"",
    b"{",
    b"[",
    b"null",
    b"1",
    b'"text"',
    b"[]",
    b"[1, {}]",
    b"NaN",
    b'{"a": NaN}',
    b"\xff\xfe",
    b"\x00",
    b'{"username": "\\ud800", "address": "\\ud800", "hostname": "\\ud800", "token": "\\ud800"}',
    b'{"username": "\\u0000", "address": "\\u0000", "hostname": "\\u0000", "token": "\\u0000"}',
    b'{"ipv4": 99999999999999999999999999, "hostname": "h"}',
    b'{"ipv4": -1, "hostname": "h"}',
    b'{"ipv4": true, "hostname": {"a": 1}, "address": [], "type": {}, "https": [], "endpoint": [], "access_key": 5}',
    b'{"ipv4": 1e400, "load": 1e400, "running": "x"}',
    b'{"ipv4": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


def send(client, method, path, body=b"", content_type="application/json"):
    return client.generic(method.upper(), path, body, content_type)


def assert_is_error(answer) -> None:
    assert answer["Content-Type"].startswith("application/json"), answer.content
    body = answer.json()
    assert set(body) <= {"error", "fields"}
    assert isinstance(body["error"], str)
    assert body["error"]
    for messages in body.get("fields", {}).values():
        assert all(isinstance(message, str) for message in messages)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("route", ROUTES)
def test_every_method_answers_with_and_without_a_slash(api, route, slash) -> None:
    path, _, query = route.partition("?")
    client = api("administrator")
    for method in METHODS:
        if route == "/logout":
            client = api("administrator")
        answer = send(client, method, f"{path}{slash}?{query}", b"{}")
        assert answer.status_code < 500
        assert answer.status_code not in (301, 302, 308)
        if answer.status_code >= 400 and method != "head":
            assert_is_error(answer)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:24]))
def test_no_body_breaks_anything(api, route, body) -> None:
    for method in ("post", "put"):
        answer = send(api("administrator"), method, route, body)
        assert answer.status_code < 500
        if answer.status_code >= 400:
            assert_is_error(answer)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "image/png", "x"])
def test_a_body_that_is_not_json_is_415(api, content_type) -> None:
    answer = send(api("administrator"), "post", "/api/client", b"{}", content_type)
    assert answer.status_code == 415
    assert_is_error(answer)


@pytest.mark.parametrize("charset", ["hex", "rot13", "base64", "utf-16", "idna", "punycode", "zlib"])
def test_an_exotic_charset_is_415(charset) -> None:
    assert status_of_charset(charset) == 415


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "us-ascii", "latin-1", "unheard-of", '"'])
def test_an_ordinary_or_unknown_charset_reaches_the_api(charset) -> None:
    assert status_of_charset(charset) == 401


def status_of_charset(charset: str) -> int:
    """Return how the ASGI application answers a request with this charset."""
    from asgiref.sync import async_to_sync
    from asgiref.testing import ApplicationCommunicator

    # The web process sends its events from a thread, which the tests' database in memory does not bear.
    with patch("backupcenter.background._is_on", Event()):
        from backupcenter.asgi import application

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/client",
        "query_string": b"a=b",
        "headers": [(b"content-type", f"application/json; charset={charset}".encode()), (b"host", b"localhost")],
    }

    async def ask() -> int:
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
        return (await communicator.receive_output(timeout=10))["status"]

    return async_to_sync(ask)()


def test_a_huge_body_is_413(api, monkeypatch) -> None:
    monkeypatch.setattr("backupcenter.api.requests.MAX_BODY_BYTES", 100)
    answer = send(api("administrator"), "post", "/api/client", b'{"hostname": "' + b"x" * 100 + b'"}')
    assert answer.status_code == 413
    assert_is_error(answer)


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/nothing/at/all/", "/api/client/1/2/3", "/api/%00"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_route_is_404_for_every_method(api, settings, path, debug) -> None:
    settings.DEBUG = debug
    for method in METHODS:
        answer = send(api("administrator"), method, path, b"{")
        assert answer.status_code == 404
        if method != "head":
            assert_is_error(answer)


@pytest.mark.parametrize("key", ["%00", "a%00b", "%0A", "%ED%A0%80", "%FF", "9" * 5000, "..", "%2F", "%F0%9F%92%A9", "=", "%2B"])
@pytest.mark.parametrize("collection", ["account", "endpoint", "tenant", "client"])
def test_an_odd_key_is_404(api, collection, key) -> None:
    for method in ("put", "delete"):
        answer = send(api("administrator"), method, f"/api/{collection}/{key}?endpoint={key}", b"{}")
        assert answer.status_code in (400, 404)
        assert_is_error(answer)


@pytest.mark.parametrize("path", [f"backup/{UUID}", "record/backup/1", "record/recovery/1"])
def test_what_is_not_there_is_said_without_the_names_of_our_classes(api, path) -> None:
    answer = api("viewer").get(f"/api/{path}")
    assert answer.status_code == 404
    assert answer.json() == {"error": "There is no such object."}


@pytest.mark.parametrize("digits", [3, 26, 5000])
def test_a_page_past_the_end_is_404_however_far(api, digits) -> None:
    for path in ("backup", "record/backup", "record/recovery"):
        answer = api("viewer").get(f"/api/{path}?page={'9' * digits}")
        assert answer.status_code == 404
        assert_is_error(answer)


@pytest.mark.parametrize("path", ["/api/docs", "/api/schema"])
def test_the_description_and_its_page_fail_as_everything_does(db, api, path) -> None:
    for method in ("post", "put", "patch", "delete"):
        answer = send(api(None), method, path, b"{}")
        assert answer.status_code == 405
        assert_is_error(answer)


def test_a_method_that_is_not_taken_is_405(api) -> None:
    answer = send(api("administrator"), "patch", "/api/client", b"{}")
    assert answer.status_code == 405
    assert_is_error(answer)
    assert "POST" in answer["Allow"]


def test_an_answer_is_json_whatever_the_caller_accepts(api) -> None:
    answer = api("viewer").get("/api/client?format=xml", HTTP_ACCEPT="text/html")
    assert answer.status_code == 200
    assert answer.json() == []


@pytest.mark.parametrize("accept", ["", "bogus", "a/b/c", "\xff", "*"])
def test_an_odd_accept_header_breaks_nothing(api, accept) -> None:
    assert api("viewer").get("/api/client", HTTP_ACCEPT=accept).status_code == 200


def test_a_fault_of_ours_is_said_in_the_same_form(api, monkeypatch) -> None:
    def fail(*arguments):
        raise RuntimeError

    monkeypatch.setattr("clients.api.ClientViewSet.list", fail)
    answer = api("viewer").get("/api/client")
    assert answer.status_code == 500
    assert_is_error(answer)


@pytest.mark.django_db(transaction=True)
def test_a_slash_in_a_key_survives_asgi() -> None:
    from asgiref.sync import async_to_sync
    from knox.models import AuthToken

    from accounts.models import User
    from storage.models import Endpoint, Tenant

    user = User.objects.create_user("administrator", password="x", role="administrator")
    endpoint = Endpoint.objects.create(address="store:1")
    Tenant.objects.create(endpoint=endpoint, username="team$a:b@c/d e", access_key="a", secret_key="s")
    _row, token = AuthToken.objects.create(user)
    client = AsyncClient()
    for slash in ("", "/"):
        path = f"/api/tenant/team%24a%3Ab%40c%2Fd%20e{slash}?endpoint=store%3A1"
        answer = async_to_sync(client.get)(path, headers={"authorization": f"Token {token}"})
        assert answer.status_code == 200
        assert answer.json()["username"] == "team$a:b@c/d e"


def test_the_description_is_complete_and_free_of_warnings(tmp_path) -> None:
    from django.core.management import call_command

    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(tmp_path / "schema.yml"))


def test_the_description_and_its_page_need_no_token_and_no_foreign_host(api, db) -> None:
    client = api(None)
    document = client.get("/api/schema")
    assert document.status_code == 200
    assert "/api/client/{ipv4}" in document.json()["paths"]
    page = client.get("/api/docs/")
    assert page.status_code == 200
    assert "cdn" not in page.content.decode()
    assert "https://" not in page.content.decode().replace("https://github", "")


def test_the_event_stream_is_described_too(api, db) -> None:
    operation = api(None).get("/api/schema").json()["paths"]["/api/event"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["token", "Last-Event-ID", "lastEventId"]
    assert set(operation["responses"]) == {"200", "400", "401", "405", "503"}
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]


def test_a_login_is_described_as_plain_text(api, db) -> None:
    operations = api(None).get("/api/schema").json()["paths"]["/login"]
    for method in ("get", "post"):
        assert operations[method]["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}


def test_a_record_is_described_with_the_plan_that_it_remembers(api, db) -> None:
    schemas = api(None).get("/api/schema").json()["components"]["schemas"]
    for record in ("BackupRecord", "BackupRecordDetail"):
        assert schemas[record]["properties"]["backup_detail"]["allOf"] == [{"$ref": "#/components/schemas/PlanDetail"}]
    assert set(schemas["PlanDetail"]["properties"]) == set(schemas["Plan"]["properties"]) - {"state", "next_time", "proof"}


def test_every_operation_names_the_failures_it_may_have(api, db) -> None:
    paths = api(None).get("/api/schema").json()["paths"]
    # The stream takes no body, and test_the_event_stream_is_described_too names its failures.
    del paths["/api/event"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert {"400", "405", "415"} <= statuses, (path, method)
            if "{" in path:
                assert "404" in statuses, (path, method)
