"""Logging in: a user name and the MD5 digest of a password become a token, as plain text and nothing else."""

import logging

import pytest
from knox.models import AuthToken

from accounts.models import password_digest
from backupcenter.logs import Redaction, redact
from tests.conftest import PASSWORD

DIGEST = password_digest(PASSWORD)
WRONG = password_digest("wrong")


def log_in(client, username="viewer", password=DIGEST, path="/login"):
    return client.get(path, {"username": username, "password": password})


def test_it_answers_a_query_with_a_token_as_plain_text(api, account) -> None:
    account("viewer")
    answer = log_in(api(None))
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    token = answer.content.decode()
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get("/api/account").status_code == 200


@pytest.mark.parametrize("form", ["json", "multipart", "urlencoded"])
@pytest.mark.parametrize("path", ["/login", "/login/"])
def test_it_takes_a_body_as_json_or_as_a_form(api, account, form, path) -> None:
    account("viewer")
    data = {"username": "viewer", "password": DIGEST.upper()}
    if form == "urlencoded":
        answer = api(None).post(path, f"username=viewer&password={DIGEST}", content_type="application/x-www-form-urlencoded")
    else:
        answer = api(None).post(path, data, format=form)
    assert answer.status_code == 200, answer.content
    assert AuthToken.objects.filter(token_key=answer.content.decode()[:15]).exists()


def test_an_answer_is_not_stored_by_anyone(api, account) -> None:
    account("viewer")
    assert "no-store" in log_in(api(None))["Cache-Control"]


def test_a_token_is_stored_hashed_and_expires(api, account) -> None:
    account("viewer")
    token = log_in(api(None)).content.decode()
    row = AuthToken.objects.get()
    assert token not in (row.digest, row.token_key)
    assert row.expiry is not None


def test_an_expired_token_is_401(api, account) -> None:
    from datetime import timedelta

    user = account("viewer")
    _row, token = AuthToken.objects.create(user, expiry=timedelta(seconds=-1))
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get("/api/account").status_code == 401


def test_wrong_name_wrong_password_and_no_digest_are_the_same_401(api, account) -> None:
    account("viewer")
    client = api(None)
    answers = [log_in(client, password=WRONG), log_in(client, username="nobody"), log_in(client, password="plain")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert set(answers[0].json()) == {"error"}
    assert all(answer["WWW-Authenticate"] == "Token" for answer in answers)


def test_an_unknown_name_costs_a_password_hash_too(api, account, monkeypatch) -> None:
    account("viewer")
    checked = []

    def check(digest, stored):
        checked.append(stored)
        return False

    monkeypatch.setattr("accounts.login.check_password", check)
    log_in(api(None))
    log_in(api(None), username="nobody")
    assert len(checked) == 2
    assert len({stored.partition("$")[0] for stored in checked}) == 1


def test_an_account_that_is_not_active_is_401(api, account) -> None:
    user = account("viewer")
    user.is_active = False
    user.save()
    assert log_in(api(None)).status_code == 401


@pytest.mark.parametrize("query", [{}, {"username": "viewer"}, {"password": DIGEST}, {"username": "a\0", "password": DIGEST}])
def test_missing_or_impossible_fields_are_400(api, db, query) -> None:
    answer = api(None).get("/login", query)
    assert answer.status_code == 400
    assert answer.json()["fields"]


def test_repeated_failures_are_429_for_that_name_only(api, account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 3
    account("viewer")
    account("operator")
    client = api(None)
    assert [log_in(client, password=WRONG).status_code for _ in range(4)] == [401, 401, 401, 429]
    answer = log_in(client)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert log_in(client, username="operator").status_code == 200


def test_one_address_cannot_try_name_after_name(api, db, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    answers = [log_in(api(None), username=f"user{number}").status_code for number in range(6)]
    assert answers == [401] * 5 + [429]


@pytest.mark.parametrize(("other", "status"), [("2001:db8::2", 429), ("2001:db8:0:1::1", 401), ("10.0.0.2", 401)])
def test_a_network_of_one_owner_counts_as_one_address(api, account, settings, other, status) -> None:
    settings.LOGIN_ATTEMPTS = 1
    account("viewer")
    query = {"username": "viewer", "password": WRONG}
    assert api(None).get("/login", query, REMOTE_ADDR="2001:db8::1").status_code == 401
    assert api(None).get("/login", query, REMOTE_ADDR=other).status_code == status


def test_a_stranger_elsewhere_locks_nobody_out(api, account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    account("viewer")
    for _ in range(20):
        api(None).get("/login", {"username": "viewer", "password": WRONG}, REMOTE_ADDR="10.0.0.66")
    assert log_in(api(None)).status_code == 200


def test_successes_are_not_counted(api, account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    account("viewer")
    assert [log_in(api(None)).status_code for _ in range(8)] == [200] * 8


def test_a_forged_forwarded_address_does_not_escape_the_count(api, account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    account("viewer")
    client = api(None)
    for number in range(2):
        query = {"username": "viewer", "password": WRONG}
        answer = client.get("/login", query, HTTP_X_FORWARDED_FOR=f"10.0.0.{number}")
    assert answer.status_code == 429


def test_it_works_while_the_cache_is_away(api, account, settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    account("viewer")
    assert log_in(api(None)).status_code == 200
    assert log_in(api(None), password=WRONG).status_code == 401


def test_the_form_with_a_query_can_be_switched_off(api, account, settings) -> None:
    settings.LOGIN_BY_GET = False
    account("viewer")
    assert log_in(api(None)).status_code == 405
    assert api(None).post("/login", {"username": "viewer", "password": DIGEST}).status_code == 200


def test_logging_out_ends_the_token(api) -> None:
    client = api("viewer")
    assert client.post("/logout").status_code == 204
    assert client.get("/api/account").status_code == 401


def test_a_bearer_token_is_taken_too(api, account) -> None:
    _row, token = AuthToken.objects.create(account("viewer"))
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/account").status_code == 200


@pytest.mark.parametrize("header", ["Token", "Token x", "Token a b", "Token \xff\xfe", "Bearer \x00", "Basic eDp5", "Agent x"])
def test_a_header_that_is_no_token_is_401(api, db, header) -> None:
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=header)
    answer = client.get("/api/account")
    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}


def test_an_access_log_names_no_password_and_no_token() -> None:
    line = '%s - "%s %s HTTP/%s" %d'
    arguments = ("127.0.0.1:1", "GET", f"/login?username=a&password={DIGEST}&token=abc", "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, line, arguments, None)
    assert Redaction().filter(record)
    assert DIGEST not in record.getMessage()
    assert "abc" not in record.getMessage()
    assert "username=a" in record.getMessage()
    assert len(record.args) == 5


@pytest.mark.parametrize(
    "query",
    [
        "%74oken=hidden",
        "a=b&%70assword=hidden&c=d",
        "PASSW%4fRD=hidden",
        "new%5Fpassword=hidden",
        "secret%5fkey=hidden",
        "token=my'hidden",
        "token='my'hidden",
        'password="my"hidden',
        "token==hidden",
        "next=/login?token=hidden",
    ],
)
def test_no_spelling_of_a_parameter_brings_its_secret_into_a_log(query) -> None:
    lines = [
        ('%s - "%s %s HTTP/%s" %d', ("127.0.0.1:1", "GET", f"/login?{query}", "1.1", 200)),
        ('"%s" %s %s', (f"GET /login?{query} HTTP/1.1", "200", "40")),
        (f"GET /login?{query} failed", ()),
    ]
    for line, arguments in lines:
        record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, line, arguments, None)
        assert Redaction().filter(record)
        assert "hidden" not in record.getMessage()
        assert "/login?" in record.getMessage()
        assert len(record.args or ()) == len(arguments)


def test_a_secret_that_is_an_argument_of_its_own_is_masked() -> None:
    record = logging.LogRecord("any", logging.INFO, "", 0, "user=%s token=%s", ("viewer", "hidden"), None)
    Redaction().filter(record)
    assert record.getMessage() == "user=viewer token=********"


def test_the_web_servers_own_logs_are_redacted() -> None:
    for name in ("uvicorn.access", "django.server"):
        assert any(isinstance(known, Redaction) for known in logging.getLogger(name).filters)
    assert redact("/api/event?token=abc") == "/api/event?token=********"


def test_no_log_line_of_a_login_names_password_or_token(api, account, caplog) -> None:
    account("viewer")
    with caplog.at_level(logging.DEBUG):
        token = log_in(api(None)).content.decode()
        log_in(api(None), password=WRONG)
    assert token not in caplog.text
    assert DIGEST not in caplog.text
    assert WRONG not in caplog.text
