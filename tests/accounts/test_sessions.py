"""Sessions of the console: of no use to who reads the database, listed, ended one by one and with a change of password."""

import pytest
from django.conf import settings
from django.test import Client as Browser
from django.urls import reverse

from accounts.housekeeping import delete_expired
from accounts.models import AuthToken, Session, password_digest
from accounts.sessions import SessionStore
from records.visitors import admit, still_admitted
from tests.conftest import PASSWORD

INDEX = reverse("admin:index")


def log_in(name: str, **headers: str) -> Browser:
    browser = Browser(headers=headers)
    form = {"username": name, "password": PASSWORD}
    assert browser.post(reverse("admin:login"), form).status_code == 302
    return browser


def key_of(browser: Browser) -> str:
    return str(browser.cookies[settings.SESSION_COOKIE_NAME].value)


def is_logged_in(browser: Browser) -> bool:
    return browser.get(INDEX).status_code == 200


def test_what_the_database_holds_opens_no_session(account) -> None:
    account("viewer")
    browser = log_in("viewer")
    row = Session.objects.get()
    assert is_logged_in(browser)
    assert key_of(browser) not in repr(row.__dict__)
    thief = Browser()
    for stolen in (row.session_key, row.session_data[:40]):
        thief.cookies[settings.SESSION_COOKIE_NAME] = stolen
        assert not is_logged_in(thief)


def test_what_a_session_holds_is_read_by_who_has_its_key_alone(account) -> None:
    account("viewer")
    browser = log_in("viewer")
    session = browser.session
    session["note"] = "a join token"
    session.save()
    row = Session.objects.get()
    assert SessionStore(key_of(browser))["note"] == "a join token"
    assert SessionStore(row.session_key).decode(row.session_data) == {}


def test_it_says_whose_it_is_where_from_and_since_when(account) -> None:
    account("viewer")
    log_in("viewer", **{"user-agent": "Firefox"})
    row = Session.objects.get()
    assert (row.user.username, row.address, row.browser) == ("viewer", "127.0.0.1", "Firefox")
    assert row.began_at is not None


def test_an_administrator_ends_one_at_once(account) -> None:
    account("viewer")
    account("administrator")
    browser, listener = log_in("viewer"), log_in("viewer")
    administrator = log_in("administrator")
    visitor = admit({"cookie": f"{settings.SESSION_COOKIE_NAME}={key_of(listener)}"}, "")
    assert still_admitted([visitor]) == {visitor}
    page = administrator.get(reverse("admin:accounts_session_changelist")).content.decode()
    assert page.count("viewer") >= 2
    assert key_of(browser) not in page
    rows = list(Session.objects.filter(user__username="viewer").values_list("pk", flat=True))
    administrator.post(reverse("admin:accounts_session_changelist"), {"action": "end", "_selected_action": rows})
    assert not is_logged_in(browser)
    assert still_admitted([visitor]) == set()
    assert is_logged_in(administrator)


def test_a_token_is_revoked_at_once(api, account) -> None:
    client = api("viewer")
    browser = Browser()
    browser.force_login(account("administrator"))
    form = {"action": "end", "_selected_action": [AuthToken.objects.get(user__username="viewer").pk]}
    browser.post(reverse("admin:accounts_token_changelist"), form)
    assert client.get("/api/client").status_code == 401


@pytest.mark.parametrize("way", ["console", "console of an administrator", "api", "api in a session", "command"])
def test_a_new_password_ends_the_other_sessions_and_tokens(api, account, way) -> None:
    user = account("viewer")
    token = api("viewer")
    changing, other = log_in("viewer"), log_in("viewer")
    new = "an entirely new one"
    digests = {"old_password": password_digest(PASSWORD), "new_password": password_digest(new)}
    match way:
        case "console":
            form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
            assert changing.post(reverse("admin:password_change"), form).status_code == 302
        case "console of an administrator":
            account("administrator")
            address = reverse("admin:auth_user_password_change", args=[user.pk])
            form = {"password1": new, "password2": new, "usable_password": "true"}
            assert log_in("administrator").post(address, form).status_code == 302
        case "api":
            assert api("viewer").put("/api/account/viewer", digests, format="json").status_code == 200
        case "api in a session":
            answer = changing.put("/api/account/viewer", digests, content_type="application/json")
            assert answer.status_code == 200, answer.content
        case "command":
            user.set_password(new)
            user.save()
    user.refresh_from_db()
    assert user.check_password(new)
    assert not is_logged_in(other)
    assert token.get("/api/client").status_code == 401
    # Who changed it goes on.
    assert is_logged_in(changing) == (way in ("console", "api in a session"))
    assert Session.objects.filter(user=user).count() == (way in ("console", "api in a session"))


def test_logging_in_to_the_api_begins_no_session(api, account) -> None:
    account("viewer")
    answer = api(None).post("/login", {"username": "viewer", "password": password_digest(PASSWORD)})
    assert settings.SESSION_COOKIE_NAME not in answer.cookies
    assert not Session.objects.exists()


def test_one_that_expired_is_of_no_use_and_removed(account) -> None:
    from django.utils import timezone

    account("viewer")
    browser = log_in("viewer")
    Session.objects.update(expire_date=timezone.now())
    assert not is_logged_in(browser)
    delete_expired()
    assert not Session.objects.exists()
