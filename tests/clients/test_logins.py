"""An agent's login is replaced from time to time, and whatever is lost on the way locks nobody out."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from agent.config import AgentConfig, load_config, save_config
from agent.login import Login
from clients.broker import Sharing
from clients.logins import IssuedLogin, issue_login
from clients.models import Client
from tests.factories import make_client

Ask = Callable[..., Any]


@pytest.fixture
def client_row(db: None) -> Client:
    return make_client()


@pytest.fixture
def ask(api: Callable[[None], APIClient]) -> Ask:
    """Return a function that asks as an agent with a token."""

    def post(path: str, token: str, **body: Any) -> Any:
        agent = api(None)
        agent.credentials(HTTP_AUTHORIZATION=f"Agent {token}")
        return agent.post(f"/api/agent/{path}", body, format="json", headers={"Agent-Protocol": "3"})

    return post


def heartbeat(ask: Ask, login: IssuedLogin, **body: Any) -> Any:
    return ask("heartbeat", login.token, **body)


def next_login(ask: Ask, login: IssuedLogin) -> IssuedLogin:
    answer = ask("login", login.token)
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    return IssuedLogin(**answer.json())


def age(client: Client, **by: float) -> None:
    client.logins.update(created_at=timezone.now() - timedelta(**by))


def test_a_login_is_due_after_a_while_and_the_next_one_ends_it_with_its_first_use(
    ask: Ask, client_row: Client, settings: Any
) -> None:
    first = issue_login(client_row)
    assert heartbeat(ask, first).json()["login_due"] is False
    age(client_row, seconds=settings.AGENT_LOGIN_ROTATION_S + 1)
    assert heartbeat(ask, first).json()["login_due"] is True
    second = next_login(ask, first)
    assert second.token != first.token
    assert second.broker != first.broker
    # The answer may not have arrived yet.
    assert heartbeat(ask, first).status_code == 200
    answer = heartbeat(ask, second)
    assert (answer.status_code, answer.json()["login_due"]) == (200, False)
    assert heartbeat(ask, first).status_code == 401
    assert client_row.logins.count() == 1


def test_an_agent_that_lost_the_answer_asks_again_however_often(ask: Ask, client_row: Client) -> None:
    first = issue_login(client_row)
    assert heartbeat(ask, first).status_code == 200
    issued = [next_login(ask, first) for _ in range(5)]
    # Not more than may be on their way.
    assert client_row.logins.count() == 3
    assert heartbeat(ask, issued[0]).status_code == 401
    assert heartbeat(ask, first).status_code == 200
    # A request that was repeated on the way: the first answer may be the one that arrives.
    assert heartbeat(ask, issued[-2]).status_code == 200
    assert [heartbeat(ask, login).status_code for login in (first, issued[-1])] == [401, 401]


def test_who_stole_a_login_and_has_it_replaced_is_noticed(ask: Ask, client_row: Client) -> None:
    stolen = issue_login(client_row)
    heartbeat(ask, stolen)
    thiefs = next_login(ask, stolen)
    heartbeat(ask, thiefs)
    assert heartbeat(ask, stolen).status_code == 401


def test_a_login_ends_after_its_lifetime_unless_it_is_replaced(ask: Ask, client_row: Client) -> None:
    login = issue_login(client_row)
    assert heartbeat(ask, login).status_code == 200
    client_row.logins.update(expires_at=timezone.now())
    assert heartbeat(ask, login).status_code == 401


def test_a_login_lasts_for_ever_where_that_is_wanted(client_row: Client, settings: Any) -> None:
    settings.AGENT_LOGIN_LIFETIME_S = 0
    issue_login(client_row)
    assert client_row.logins.get().expires_at is None


def test_an_older_agent_is_given_what_it_understands(api: Any, client_row: Client, settings: Any) -> None:
    from clients.models import JoinToken

    _row, token = JoinToken.issue(client_row)
    body = {"token": token, "hostname": "host", "ipv4": 1}
    answer = api(None).post("/api/agent/join", body, format="json", headers={"Agent-Protocol": "2"}).json()
    assert answer["broker"] == settings.AGENT_BROKER_URL
    login = client_row.logins.get()
    assert (login.broker_hash, login.expires_at) == ("", None)


def test_an_agent_with_the_shared_login_gets_its_own_when_it_can(ask: Ask, client_row: Client, monkeypatch: Any) -> None:
    old = issue_login(client_row, is_replaced=False)
    assert heartbeat(ask, old).json()["login_due"] is True
    new = next_login(ask, old)
    assert f"{client_row.queue}:" in new.broker
    assert heartbeat(ask, new).json()["login_due"] is False
    # And back, should the broker be exchanged for another.
    monkeypatch.setattr("clients.logins.sharing", lambda: Sharing.NO_REDIS)
    assert heartbeat(ask, new).json()["login_due"] is True
    assert client_row.queue not in next_login(ask, new).broker


def test_a_shared_login_that_the_broker_refuses_is_replaced_but_not_all_the_time(
    ask: Ask, client_row: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr("clients.logins.sharing", lambda: Sharing.NO_REDIS)
    login = issue_login(client_row)
    assert heartbeat(ask, login, broker_refused=True).json()["login_due"] is False
    age(client_row, minutes=2)
    assert heartbeat(ask, login).json()["login_due"] is False
    assert heartbeat(ask, login, broker_refused=True).json()["login_due"] is True


@pytest.mark.parametrize("rows", [1, 50])
def test_a_login_costs_no_query_once_it_has_arrived(
    ask: Ask, client_row: Client, rows: int, django_assert_num_queries: Any
) -> None:
    for _ in range(rows):
        issue_login(make_client())
    login = issue_login(client_row)
    heartbeat(ask, login)
    # Who it is, and that it is there.
    with django_assert_num_queries(2):
        heartbeat(ask, login)


def test_the_console_shows_what_login_an_agent_has(client_row: Client, account: Any, client: Any) -> None:
    from django.urls import reverse

    issue_login(client_row)
    client.force_login(account("administrator"))
    page = client.get(reverse("admin:clients_client_change", args=[client_row.pk])).content.decode()
    assert "with a login of its own to the broker" in page


# What the agent does with it.


@pytest.fixture
def state(tmp_path: Path) -> Path:
    save_config(tmp_path, AgentConfig("http://center", 7, "here", "client.7", "first", "redis://first@broker/0"))
    return tmp_path


def test_a_new_login_is_written_beside_the_old_one_until_it_has_opened(state: Path) -> None:
    login = Login(state, load_config(state))
    login.take("second", "redis://second@broker/0")
    assert (state / "agent.json").stat().st_mode & 0o077 == 0
    written = load_config(state)
    assert (written.token, written.previous_token) == ("second", "first")
    assert (login.token, login.broker) == ("second", "redis://second@broker/0")
    login.note_accepted("first")
    assert load_config(state).previous_token == "first"
    login.note_accepted("second")
    assert json.loads((state / "agent.json").read_text())["previous_token"] == ""


def test_an_agent_whose_new_login_is_refused_goes_on_with_the_old_one(state: Path) -> None:
    Login(state, load_config(state)).take("second", "redis://second@broker/0")
    login = Login(state, load_config(state))
    assert login.other_than("second") == "first"
    assert (login.token, login.broker) == ("first", "redis://first@broker/0")


def test_a_request_that_was_overtaken_by_a_new_login_is_made_again(state: Path) -> None:
    login = Login(state, load_config(state))
    login.take("second", "redis://second@broker/0")
    login.note_accepted("second")
    assert login.other_than("first") == "second"
    assert login.other_than("second") is None


def test_what_joining_again_has_written_is_taken_by_the_agent_that_runs(state: Path) -> None:
    login = Login(state, load_config(state))
    save_config(state, AgentConfig("http://center", 7, "here", "client.7", "joined", "redis://joined@broker/0"))
    assert login.other_than("first") == "joined"
    save_config(state, AgentConfig("http://center", 8, "there", "client.8", "another", "redis://another@broker/0"))
    assert login.other_than("joined") is None


def test_a_disk_that_is_full_leaves_the_login_as_it_was(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = Login(state, load_config(state))

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space"):
            login.take("second", "redis://second@broker/0")
    assert (login.token, load_config(state).token) == ("first", "first")
