"""Agents: a one-time token becomes an agent's own, which ends when it is revoked."""

import json
import shlex
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from django.utils import timezone

from agent.__main__ import parse_arguments
from clients.joining import join_command
from clients.models import AgentLogin, Client, JoinToken
from clients.presence import agent_started, presence_changed
from clients.tasks import watch_presence
from tests.factories import agent_token

HOST = {"hostname": "host1", "ipv4": 1, "ipv6": None, "os": "Debian 12", "version": "0.1.0"}


@pytest.fixture
def client_row(db) -> Client:
    return Client.objects.create(ipv4=7, hostname="client7")


def join(api, token, **fields):
    return api(None).post("/api/agent/join", {"token": token, **HOST, **fields}, format="json", headers={"Agent-Protocol": "3"})


def agent(api, token):
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Agent {token}")
    return client


@pytest.fixture
def joined(api, client_row):
    """An API client of an agent that has joined as `client_row`."""
    return agent(api, agent_token(client_row))


@pytest.fixture
def changes(db):
    """The presence changes that were told, as pairs of host name and whether it is online."""
    told = []

    def receive(sender, client, online, **_extra):
        told.append((client.hostname, online))

    presence_changed.connect(receive)
    yield told
    presence_changed.disconnect(receive)


def test_the_command_to_join_with_is_understood_when_its_token_begins_with_a_dash(monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(join_command("-a_token")))
    assert parse_arguments().token == "-a_token"


def test_a_free_token_creates_a_client(api, db, settings) -> None:
    settings.AGENT_BROKER_URL = "redis://:shared@broker:6379/0"
    _row, token = JoinToken.issue()
    answer = join(api, token)
    assert answer.status_code == 201
    client = Client.objects.get()
    body = answer.json()
    assert body == {
        "client": {"id": client.pk, "hostname": "host1"},
        "token": body["token"],
        "queue": f"client.{client.pk}",
        "broker": body["broker"],
    }
    assert (client.ipv4, client.os, client.version) == (1, "Debian 12", "0.1.0")
    broker = urlsplit(body["broker"])
    assert (broker.username, broker.hostname, broker.port, broker.path) == (f"client.{client.pk}", "broker", 6379, "/0")
    row = AgentLogin.objects.get(client=client)
    assert [row.token_hash, row.broker_hash] == [sha256(said.encode()).hexdigest() for said in (body["token"], broker.password)]
    assert agent(api, body["token"]).post("/api/agent/heartbeat", {}, format="json").status_code == 200


def test_a_free_token_binds_to_the_client_that_has_the_address(api, client_row) -> None:
    _row, token = JoinToken.issue()
    assert join(api, token, ipv4=7).json()["client"] == {"id": client_row.pk, "hostname": "client7"}
    assert Client.objects.count() == 1


def test_of_two_hosts_behind_one_address_the_second_does_not_become_the_first(api, db) -> None:
    first = join(api, JoinToken.issue()[1], ipv4=None).json()
    row, token = JoinToken.issue()
    answer = join(api, token, ipv4=None, hostname="host2")
    assert answer.status_code == 409
    assert "host1 has joined with the address 127.0.0.1 already" in answer.json()["error"]
    assert agent(api, first["token"]).post("/api/agent/heartbeat", {}, format="json").status_code == 200
    row.refresh_from_db()
    assert (row.used_at, Client.objects.count()) == (None, 1)
    # What the answer says to do.
    second = Client.objects.create(ipv4=2, hostname="host2")
    assert join(api, JoinToken.issue(second)[1], ipv4=None, hostname="host2").json()["client"]["id"] == second.pk


def test_of_two_new_hosts_that_join_at_once_with_one_address_one_is_told_so(api, client_row, monkeypatch) -> None:
    """The other is stored between the look for its address and the storing of this one."""
    monkeypatch.setattr("clients.joining._client_at", lambda hostname, ipv4, ipv6: Client(hostname=hostname, ipv4=ipv4))
    row, token = JoinToken.issue()
    assert join(api, token, ipv4=7).status_code == 409
    row.refresh_from_db()
    assert (row.used_at, Client.objects.count()) == (None, 1)


@pytest.mark.parametrize("was", ["joined", "heard of", "cut off"])
def test_whoever_has_had_an_agent_is_not_joined_as_by_its_address(api, client_row, was) -> None:
    if was != "heard of":
        assert join(api, JoinToken.issue(client_row)[1]).status_code == 201
    if was == "heard of":
        Client.objects.update(last_seen=timezone.now())
    if was == "cut off":
        assert api("administrator").post("/api/client/7/revoke").status_code == 200
    assert join(api, JoinToken.issue()[1], ipv4=7).status_code == 409
    assert join(api, JoinToken.issue(client_row)[1]).status_code == 201


@pytest.mark.parametrize("is_bound", [True, False])
def test_who_has_lost_the_answer_may_ask_again_with_the_same_nonce(api, client_row, is_bound) -> None:
    _row, token = JoinToken.issue(client_row if is_bound else None)
    lost = join(api, token, ipv4=7, nonce="one")
    assert join(api, token, ipv4=7).status_code == join(api, token, ipv4=7, nonce="other").status_code == 401
    again = join(api, token, ipv4=7, nonce="one")
    assert (again.status_code, again.json()["client"]) == (201, lost.json()["client"])
    assert agent(api, again.json()["token"]).post("/api/agent/heartbeat", {}, format="json").status_code == 200
    # It has its login now, and what was lost ends with that.
    assert agent(api, lost.json()["token"]).post("/api/agent/heartbeat", {}, format="json").status_code == 401
    assert join(api, token, ipv4=7, nonce="one").status_code == 401


@pytest.mark.parametrize("since", ["revoked", "another joined", "long ago"])
def test_a_join_is_not_repeated_once_something_has_happened_since(api, client_row, since) -> None:
    _row, token = JoinToken.issue(client_row)
    assert join(api, token, nonce="one").status_code == 201
    if since == "revoked":
        assert api("administrator").post("/api/client/7/revoke").status_code == 200
    if since == "another joined":
        assert join(api, JoinToken.issue(client_row)[1], nonce="two").status_code == 201
    if since == "long ago":
        JoinToken.objects.update(used_at=timezone.now() - timedelta(minutes=11))
    assert join(api, token, nonce="one").status_code == 401


def test_a_bound_token_joins_as_its_client_whatever_the_address(api, client_row) -> None:
    _row, token = JoinToken.issue(client_row)
    assert join(api, token, ipv4=9).json()["client"]["id"] == client_row.pk
    client_row.refresh_from_db()
    assert client_row.ipv4 == 7


def test_addresses_of_two_clients_are_409_and_leave_the_token_unused(api, client_row) -> None:
    Client.objects.create(ipv6="fe80::1", hostname="other")
    row, token = JoinToken.issue()
    assert join(api, token, ipv4=7, ipv6="fe80::1").status_code == 409
    row.refresh_from_db()
    assert row.used_at is None


def test_an_agent_that_does_not_know_its_address_gets_the_one_it_speaks_from(api, db) -> None:
    _row, token = JoinToken.issue()
    assert join(api, token, ipv4=None).status_code == 201
    assert Client.objects.get().ipv4 == 0x7F000001


def test_a_token_joins_once(api, client_row) -> None:
    _row, token = JoinToken.issue(client_row)
    assert join(api, token).status_code == 201
    answer = join(api, token)
    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}


def test_an_expired_or_unknown_token_is_401(api, client_row) -> None:
    _row, token = JoinToken.issue(client_row)
    JoinToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert join(api, token).status_code == 401
    assert join(api, "unknown").status_code == 401


@pytest.mark.parametrize("fields", [{"token": ""}, {"hostname": ""}, {"ipv4": -1}, {"ipv6": "x"}])
def test_fields_that_cannot_be_are_400(api, db, fields) -> None:
    _row, token = JoinToken.issue()
    answer = join(api, **{"token": token, **fields})
    assert answer.status_code == 400


def test_joining_again_ends_the_first_token(api, joined, client_row) -> None:
    _row, token = JoinToken.issue(client_row)
    join(api, token)
    assert joined.post("/api/agent/heartbeat", {}, format="json").status_code == 401


def test_a_revoked_agent_is_401(api, joined, client_row) -> None:
    assert joined.post("/api/agent/heartbeat", {}, format="json").status_code == 200
    _row, token = JoinToken.issue(client_row)
    assert api("administrator").post("/api/client/7/revoke").status_code == 200
    answer = joined.post("/api/agent/heartbeat", {}, format="json")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Agent"
    assert join(api, token).status_code == 401


@pytest.mark.parametrize("header", ["Agent", "Agent ", "Agent a b", "Agent x", "Agent \xff", "Token x"])
def test_a_header_that_is_no_agents_token_is_401(api, client_row, header) -> None:
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=header)
    assert client.post("/api/agent/heartbeat", {}, format="json").status_code == 401


def test_people_and_agents_do_not_take_each_others_place(api, joined) -> None:
    assert api("administrator").post("/api/agent/heartbeat", {}, format="json").status_code == 401
    assert joined.get("/api/client").status_code == 401


def test_a_heartbeat_is_noted(api, joined, client_row) -> None:
    body = {"version": "0.2.0", "os": "Debian 13", "running": ["backup-1"], "load": 0.5}
    answer = joined.post("/api/agent/heartbeat/", body, format="json")
    assert answer.json() == {"client": client_row.pk, "login_due": False, "beat_every_s": 15.0}
    client_row.refresh_from_db()
    assert client_row.online
    assert (client_row.version, client_row.os, client_row.load) == ("0.2.0", "Debian 13", 0.5)


def test_of_an_agent_that_was_started_others_are_told_once(joined, client_row) -> None:
    started = []

    def receive(sender, client, **_extra):
        started.append(client)

    agent_started.connect(receive)
    try:
        for body in ({"started": True}, {"running": ["backup-1"]}):
            assert joined.post("/api/agent/heartbeat", body, format="json").status_code == 200
    finally:
        agent_started.disconnect(receive)
    assert started == [client_row]


@pytest.mark.parametrize("body", [{"load": "nan"}, {"load": "inf"}, {"running": "x"}, {"running": [{}]}])
def test_a_heartbeat_that_cannot_be_is_400(joined, body) -> None:
    assert joined.post("/api/agent/heartbeat", body, format="json").status_code == 400


def test_a_client_that_falls_silent_is_reported_once_and_again_when_it_is_back(joined, client_row, changes, settings) -> None:
    joined.post("/api/agent/heartbeat", {}, format="json")
    watch_presence()
    assert changes == []
    Client.objects.update(last_seen=timezone.now() - timedelta(seconds=settings.CLIENT_OFFLINE_S + 1))
    watch_presence()
    watch_presence()
    assert changes == [("client7", False)]
    joined.post("/api/agent/heartbeat", {}, format="json")
    joined.post("/api/agent/heartbeat", {}, format="json")
    assert changes == [("client7", False), ("client7", True)]


def test_a_client_that_was_never_there_is_not_reported(client_row, changes) -> None:
    watch_presence()
    assert changes == []


def test_a_listener_that_fails_does_not_fail_the_heartbeat(joined, client_row) -> None:
    def fail(sender, **_extra):
        raise RuntimeError

    agent_started.connect(fail)
    try:
        assert joined.post("/api/agent/heartbeat", {"started": True}, format="json").status_code == 200
    finally:
        agent_started.disconnect(fail)


def test_a_heartbeat_takes_a_fixed_number_of_queries(joined, django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(6):
        joined.post("/api/agent/heartbeat", {}, format="json")


def test_what_an_agent_says_of_its_system_is_cut_and_made_storable_but_not_refused(joined, client_row) -> None:
    body = json.dumps({"version": "x" * 65, "os": "Debian\udcfc\0" + "x" * 300})
    assert joined.post("/api/agent/heartbeat", body, content_type="application/json").status_code == 200
    client_row.refresh_from_db()
    assert (client_row.version, client_row.os) == ("x" * 64, ("Debian?" + "x" * 300)[:255])


def test_the_console_says_whom_a_token_without_a_client_is_for(account, client, db) -> None:
    client.force_login(account("administrator"))
    assert "for a host that is new here" in client.get(reverse("admin:clients_jointoken_add")).content.decode()
