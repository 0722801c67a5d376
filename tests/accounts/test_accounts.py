"""Accounts through the API: only administrators make and remove them, everyone changes their own password."""

import pytest
from knox.models import AuthToken

from accounts.models import User, password_digest
from tests.conftest import PASSWORD

OLD = password_digest(PASSWORD)
NEW = password_digest("another")


def make(api, username="user", **fields):
    return api("administrator").post("/api/account", {"username": username, "password": NEW, **fields}, format="json")


def test_an_administrator_creates_one_with_the_least_rights(api) -> None:
    answer = make(api)
    assert answer.status_code == 201
    assert answer.json() == {"username": "user", "role": "viewer", "is_active": True, "last_login": None}
    login = api(None).post("/login", {"username": "user", "password": NEW}, format="json")
    assert login.status_code == 200
    assert isinstance(
        api(None).get("/api/account", HTTP_AUTHORIZATION=f"Token {login.content.decode()}").json()[0]["last_login"], int
    )


def test_a_role_may_be_given(api) -> None:
    assert make(api, role="operator").json()["role"] == "operator"
    assert make(api, "other", role="king").status_code == 400


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_nobody_else_creates_or_deletes_one(api, account, role) -> None:
    account("administrator")
    client = api(role)
    assert client.post("/api/account", {"username": "user", "password": NEW}, format="json").status_code == 403
    assert client.delete("/api/account/administrator").status_code == 403
    assert client.delete(f"/api/account/{role}").status_code == 403


def test_everything_needs_a_token(api, account) -> None:
    account("viewer")
    client = api(None)
    for answer in (
        client.get("/api/account"),
        client.post("/api/account", {"username": "user", "password": NEW}),
        client.put("/api/account/viewer", {"new_password": NEW}),
        client.delete("/api/account/viewer"),
        client.post("/logout"),
    ):
        assert answer.status_code == 401
        assert set(answer.json()) == {"error"}


def test_a_name_that_is_taken_is_409(api) -> None:
    make(api)
    answer = make(api)
    assert answer.status_code == 409
    assert "user" in answer.json()["error"]


@pytest.mark.parametrize("password", ["password", "x" * 32, "", None, 5, [], {}, NEW + "0", NEW[:31]])
def test_a_password_that_is_no_digest_is_400(api, password) -> None:
    client = api("administrator")
    answer = client.post("/api/account", {"username": "user", "password": password}, format="json")
    assert answer.status_code == 400
    assert "password" in answer.json()["fields"]


@pytest.mark.parametrize("username", ["", "a b", "a/b", "x" * 151, None, "a\0b", ["a"], {"a": 1}])
def test_a_name_that_cannot_be_is_400(api, username) -> None:
    client = api("administrator")
    answer = client.post("/api/account", {"username": username, "password": NEW}, format="json")
    assert answer.status_code == 400
    assert "username" in answer.json()["fields"]


def test_administrators_list_all_and_others_themselves(api, account) -> None:
    account("viewer")
    account("operator")
    names = [row["username"] for row in api("administrator").get("/api/account").json()]
    assert names == ["administrator", "operator", "viewer"]
    assert [row["username"] for row in api("viewer").get("/api/account").json()] == ["viewer"]
    assert api("viewer").get("/api/account/operator").status_code == 404


def test_one_changes_the_own_password(api) -> None:
    client = api("viewer")
    answer = client.put("/api/account/viewer", {"new_password": NEW, "old_password": OLD}, format="json")
    assert answer.status_code == 200
    assert User.objects.get(username="viewer").check_password("another")


def test_a_change_ends_the_other_tokens_and_keeps_the_own(api, account) -> None:
    user = account("viewer")
    _row, other = AuthToken.objects.create(user)
    client = api("viewer")
    client.put("/api/account/viewer/", {"new_password": NEW, "old_password": OLD}, format="json")
    assert client.get("/api/account").status_code == 200
    client.credentials(HTTP_AUTHORIZATION=f"Token {other}")
    assert client.get("/api/account").status_code == 401


@pytest.mark.parametrize("old", [{}, {"old_password": NEW}, {"old_password": "plain"}])
def test_the_own_password_takes_the_old_one(api, old) -> None:
    answer = api("administrator").put("/api/account/administrator", {"new_password": NEW, **old}, format="json")
    assert answer.status_code == 400
    assert "old_password" in answer.json()["fields"]


def test_guessing_the_old_password_is_429(api, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    client = api("viewer")
    guess = {"new_password": NEW, "old_password": NEW}
    answers = [client.put("/api/account/viewer", guess, format="json").status_code for _ in range(2)]
    assert answers == [400, 429]


def test_a_new_password_that_is_no_digest_is_400(api) -> None:
    body = {"new_password": "plain", "old_password": OLD}
    assert api("viewer").put("/api/account/viewer", body, format="json").status_code == 400


def test_nobody_else_changes_it(api, account) -> None:
    account("operator")
    client = api("viewer")
    for name in ("operator", "nobody"):
        assert client.put(f"/api/account/{name}", {"new_password": NEW}, format="json").status_code == 403


def test_an_administrator_sets_that_of_others_and_ends_their_tokens(api) -> None:
    viewer = api("viewer")
    answer = api("administrator").put("/api/account/viewer", {"new_password": NEW}, format="json")
    assert answer.status_code == 200
    assert viewer.get("/api/account").status_code == 401


def test_an_administrator_gives_roles_and_nobody_else(api) -> None:
    client = api("viewer")
    assert client.put("/api/account/viewer", {"role": "administrator"}, format="json").status_code == 403
    assert api("administrator").put("/api/account/viewer", {"role": "operator"}, format="json").json()["role"] == "operator"


@pytest.mark.parametrize("old", [{}, {"old_password": NEW}])
def test_a_change_that_is_refused_in_part_changes_nothing(api, account, old) -> None:
    User.objects.create_user("second", role="administrator")
    client = api("administrator")
    body = {"role": "viewer", "is_active": False, "new_password": NEW, **old}
    assert client.put("/api/account/administrator", body, format="json").status_code == 400
    user = User.objects.get(username="administrator")
    assert (user.role, user.is_active, user.check_password(PASSWORD)) == ("administrator", True, True)


def test_the_last_administrators_password_stays_when_the_role_must(api) -> None:
    body = {"role": "viewer", "new_password": NEW, "old_password": OLD}
    assert api("administrator").put("/api/account/administrator", body, format="json").status_code == 409
    assert User.objects.get(username="administrator").check_password(PASSWORD)


def test_a_role_and_the_own_password_change_together(api) -> None:
    User.objects.create_user("second", role="administrator")
    body = {"role": "viewer", "new_password": NEW, "old_password": OLD}
    answer = api("administrator").put("/api/account/administrator", body, format="json")
    assert (answer.status_code, answer.json()["role"]) == (200, "viewer")
    assert User.objects.get(username="administrator").check_password("another")


def test_an_administrator_locks_accounts_out_and_nobody_else(api) -> None:
    viewer, administrator = api("viewer"), api("administrator")
    assert viewer.put("/api/account/viewer", {"is_active": False}, format="json").status_code == 403
    answer = administrator.put("/api/account/viewer", {"is_active": False}, format="json")
    assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert viewer.get("/api/account").status_code == 401
    assert administrator.put("/api/account/administrator", {"is_active": False}, format="json").status_code == 409
    assert administrator.put("/api/account/viewer", {"is_active": True}, format="json").json()["is_active"] is True
    assert viewer.get("/api/account").status_code == 200


def test_an_account_may_be_sent_back_whole_but_not_renamed(api) -> None:
    client = api("viewer")
    whole = client.get("/api/account/viewer").json()
    assert client.put("/api/account/viewer", whole, format="json").json() == whole
    answer = client.put("/api/account/viewer", {"username": "other", "role": "viewer"}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["username"]


def test_an_account_can_be_deleted_with_its_tokens(api) -> None:
    viewer = api("viewer")
    answer = api("administrator").delete("/api/account/viewer")
    assert answer.status_code == 204
    assert not answer.content
    assert viewer.get("/api/account").status_code == 401
    assert api("administrator").delete("/api/account/viewer").status_code == 404


def test_the_last_administrator_stays(api, account) -> None:
    client = api("administrator")
    assert client.delete("/api/account/administrator").status_code == 409
    assert client.put("/api/account/administrator", {"role": "viewer"}, format="json").status_code == 409
    make(api, "second", role="administrator")
    assert client.delete("/api/account/second").status_code == 204
    User.objects.create_user("asleep", role="administrator", is_active=False)
    assert client.delete("/api/account/administrator").status_code == 409


def test_a_name_with_odd_but_allowed_characters_is_found(api) -> None:
    make(api, "a.b+c@d-e_f")
    assert api("administrator").delete("/api/account/a.b%2Bc%40d-e_f/").status_code == 204


@pytest.mark.parametrize("rows", [1, 50])
def test_a_list_takes_a_fixed_number_of_queries(api, rows, django_assert_num_queries) -> None:
    client = api("administrator")
    for number in range(rows):
        User.objects.create(username=f"user{number}")
    with django_assert_num_queries(3):
        assert len(client.get("/api/account").json()) == rows + 1
