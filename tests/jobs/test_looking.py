"""Looking at a client through its agent: who may ask, what the agent is told, and who gets the answer."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from agent.app import LOOK as AGENTS_LOOK
from agent.center import ABOUT_US
from clients.compatibility import LOOKING_PROTOCOL
from clients.models import Client
from jobs.looking import LOOK
from tests.factories import agent_token, make_client

LISTING = {"path": "/srv", "offset": 0, "total": 1, "is_whole": True, "entries": [{"name": "a\0b", "type": "file", "size": 3}]}


@pytest.fixture
def host(db: None) -> Client:
    return make_client(last_seen=timezone.now(), protocol=LOOKING_PROTOCOL)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any], str]]:
    """What was put on queues."""
    told: list[tuple[str, list[Any], str]] = []
    monkeypatch.setattr("jobs.looking.send", lambda *message: told.append(message) or True)
    return told


def agent_of(client: Client) -> APIClient:
    agent = APIClient(headers=ABOUT_US)
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    return agent


def browse(people: APIClient, client: Client, **body: object) -> Any:
    return people.post(f"/api/client/{client.ipv4}/browse", body, format="json")


def test_a_look_goes_to_the_agent_and_its_answer_to_who_asked(api, host, sent) -> None:
    operator, agent = api("operator"), agent_of(host)
    asked = browse(operator, host, path="/srv")
    assert asked.status_code == 202
    number = asked.json()["look"]
    assert sent == [(LOOK, [{"look": number}], host.queue)], "the queue carries a number, no path"
    assert LOOK == AGENTS_LOOK
    assert operator.get(f"/api/look/{number}").json()["is_answered"] is False
    assert agent.post(f"/api/agent/look/{number}/question").json() == {"kind": "list", "path": "/srv", "offset": 0}
    assert agent.post(f"/api/agent/look/{number}/answer", {"listing": LISTING}, format="json").status_code == 200
    shown = operator.get(f"/api/look/{number}").json()
    assert (shown["is_answered"], shown["problem"], shown["estimate"]) == (True, "", None)
    assert shown["listing"]["entries"][0] == {
        "name": "ab", "is_text": True, "type": "file", "size": 3, "mtime": None, "target": "", "reason": ""
    }  # fmt: skip
    assert api("administrator").get(f"/api/look/{number}").status_code == 404, "it is another's"


def test_an_estimate_is_asked_for_with_a_limit_of_time(api, host, sent) -> None:
    operator = api("operator")
    asked = operator.post(f"/api/client/{host.ipv4}/estimate", {"include": ["/srv"], "exclude": ["*.tmp"]}, format="json")
    number, agent = asked.json()["look"], agent_of(host)
    question = agent.post(f"/api/agent/look/{number}/question").json()
    assert question == {"kind": "estimate", "include": ["/srv"], "exclude": ["*.tmp"], "seconds": 20}
    counted = {"files": 3, "bytes": 14, "is_whole": False, "missing": []}
    agent.post(f"/api/agent/look/{number}/answer", {"estimate": counted}, format="json")
    assert operator.get(f"/api/look/{number}").json()["estimate"] == counted


def test_an_agent_sees_and_answers_looks_at_its_own_host_alone(api, host, sent) -> None:
    number = browse(api("operator"), host).json()["look"]
    stranger = agent_of(make_client())
    assert stranger.post(f"/api/agent/look/{number}/question").status_code == 404
    assert stranger.post(f"/api/agent/look/{number}/answer", {"problem": "no"}, format="json").status_code == 404
    assert api("operator").get(f"/api/look/{number}").json()["is_answered"] is False


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"last_seen": None}, "has no agent yet"),
        ({"last_seen": timezone.now() - timedelta(days=1)}, "does not answer: start it"),
        ({"protocol": LOOKING_PROTOCOL - 1}, "is too old to show its files"),
        ({"protocol": None}, "is too old to show its files"),
    ],
)
def test_an_agent_that_cannot_answer_is_not_asked(api, host, sent, fields, sentence) -> None:
    Client.objects.filter(pk=host.pk).update(**fields)
    refused = browse(api("operator"), host)
    assert refused.status_code == 409
    assert sentence in refused.json()["error"]
    assert sent == []


def test_a_broker_that_is_away_is_told(api, host) -> None:
    assert "Redis does not answer" in browse(api("operator"), host).json()["error"]


def test_who_may_not_make_plans_may_not_look_and_looking_is_in_the_audit_log(api, host, sent) -> None:
    assert browse(api("viewer"), host).status_code == 403
    browse(api("operator"), host, path="/srv")
    entry = AuditEntry.objects.get(action="client-browse.post", outcome="done")
    assert entry.actor == User.objects.get(role="operator").username
    assert [(each["model"], each["id"]) for each in entry.touched] == [("clients.client", str(host.pk))]


@pytest.mark.parametrize("body", [{"path": "a\0b"}, {"path": ""}, {"offset": -1}, {"path": ["/"]}, {"path": "/" + "x" * 5000}])
def test_what_is_no_path_is_refused(api, host, sent, body) -> None:
    assert browse(api("operator"), host, **body).status_code == 400
    assert sent == []
