"""Agents of other releases: an older one works and is shown as such, one that is not understood is told what to do."""

import pytest

from agent.center import ABOUT_US, PROTOCOL
from clients import compatibility
from clients.compatibility import AgentStatus, agent_status
from clients.models import Client, JoinToken
from engine import __version__
from jobs.planning import run_plan
from records.models import State
from tests.factories import make_plan

HOST = {"hostname": "host1", "ipv4": 1}


class Agent:
    """An agent that joined; it says of itself what it is made with."""

    def __init__(self, api, **headers: str) -> None:
        self.api, self.headers = api(None), headers
        self.client = Client.objects.create(ipv4=7, hostname="client7")
        _row, token = JoinToken.issue(self.client)
        answer = self.api.post("/api/agent/join", {**HOST, "token": token}, format="json", headers=headers)
        self.api.credentials(HTTP_AUTHORIZATION=f"Agent {answer.json()['token']}")

    def post(self, path: str, **body: object):
        return self.api.post(f"/api/agent/{path}", body, format="json", headers=self.headers)

    def shown(self, api) -> dict:
        return api("viewer").get("/api/client/7").json()


def test_this_releases_agent_is_current(api, db) -> None:
    agent = Agent(api, **ABOUT_US)
    assert agent.post("heartbeat", version=__version__, running=["backup-1"], load=0.5).status_code == 200
    shown = agent.shown(api)
    assert (shown["agent_status"], shown["protocol"]) == ("current", PROTOCOL)
    assert (shown["running"], shown["load"], shown["online"]) == (["backup-1"], 0.5, True)


def test_an_agent_from_before_the_headers_works_and_is_shown_as_older(api, db, tmp_path) -> None:
    agent = Agent(api)
    record = run_plan(make_plan(tmp_path, client=agent.client))
    assert agent.post("heartbeat", version="0.0.9").status_code == 200
    shown = agent.shown(api)
    assert (shown["agent_status"], shown["protocol"]) == ("outdated", 1)
    assert agent.post(f"job/{record.job}/claim", attempt=1).status_code == 200
    assert agent.post(f"job/{record.job}/progress", attempt=1, progress={}).status_code == 200
    assert agent.post(f"job/{record.job}/finish", attempt=1, outcome="failed", error="no").status_code == 200


@pytest.mark.parametrize(
    ("protocol", "oldest", "advice"),
    [
        ("1", 2, f"install version {__version__}"),
        ("0", 1, f"install version {__version__}"),
        ("two", 1, f"install version {__version__}"),
        ("9", 1, "update the server first"),
    ],
)
def test_an_agent_that_is_not_understood_is_told_what_to_do_and_its_jobs_wait(
    api, db, tmp_path, monkeypatch, protocol: str, oldest: int, advice: str
) -> None:
    monkeypatch.setattr(compatibility, "OLDEST_PROTOCOL", oldest)
    agent = Agent(api, **ABOUT_US)
    record = run_plan(make_plan(tmp_path, client=agent.client))
    agent.headers = {"User-Agent": "backupcenter-agent/7.7.7", "Agent-Protocol": protocol}
    for path, body in (("heartbeat", {}), (f"job/{record.job}/claim", {"attempt": 1})):
        answer = agent.post(path, **body)
        assert answer.status_code == 426
        assert advice in answer.json()["error"]
        assert "7.7.7" in answer.json()["error"]
    shown = agent.shown(api)
    assert (shown["agent_status"], shown["version"], shown["online"]) == ("unsupported", "7.7.7", True)
    record.refresh_from_db()
    assert record.state == State.QUEUED


def test_a_host_whose_agent_is_not_understood_does_not_use_up_its_join_token(api, db) -> None:
    row, token = JoinToken.issue()
    answer = api(None).post("/api/agent/join", {**HOST, "token": token}, format="json", headers={"Agent-Protocol": "9"})
    assert answer.status_code == 426
    row.refresh_from_db()
    assert row.used_at is None


def test_the_server_understands_its_own_agent_and_whoever_it_lets_work() -> None:
    assert compatibility.OLDEST_PROTOCOL <= PROTOCOL == compatibility.NEWEST_PROTOCOL


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("", None),
        (__version__, AgentStatus.CURRENT),
        ("999.0", AgentStatus.CURRENT),
        ("0.0.10", AgentStatus.OUTDATED),
        ("0.1.0rc1", AgentStatus.OUTDATED),
        ("what?", AgentStatus.OUTDATED),
    ],
)
def test_versions_are_compared_as_versions(version: str, status: AgentStatus | None) -> None:
    assert agent_status(version, PROTOCOL) is status
