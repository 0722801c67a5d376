"""Traces of a real installation: one goes from a request to the agent and back, and none holds a secret."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import requests

from tests.services.collector import Collected, Collector, collector
from tests.services.ports import wait_until
from tests.services.postgres import postgres_server
from tests.system.operating import Operator
from tests.system.processes import Installation, Process, installation

pytestmark = pytest.mark.postgres

WEB, WORKER, AGENT = "backupcenter-web", "backupcenter-worker", "backupcenter-agent"
DIGEST = "0123456789abcdef" * 4


class Stage(NamedTuple):
    center: Installation
    collector: Collector
    operator: Operator
    agent: Process
    plan: dict[str, object]

    def span(self, service: str, name: str, path: str = "") -> Collected:
        """Return the only span of this service, whose name contains `name` and whose address ends in `path`, when it has come."""

        def found() -> list[Collected]:
            named = [span for span in self.collector.spans if span.service == service and name in span.name]
            return [span for span in named if _path(span).endswith(path)]

        wait_until(lambda: bool(found()), f"a span {name} {path} of {service}")
        (span,) = found()
        return span


def _path(span: Collected) -> str:
    return str(span.attributes.get("url.path") or span.attributes.get("url.full") or "")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with postgres_server() as url, collector() as collected, installation(url, LOG_FORMAT="json") as center:
        center.redis()
        for environment in (center.environment, center.agent_environment):
            environment |= {**collected.environment, "BACKUPCENTER_LOG_FORMAT": "json"}
        center.web()
        center.maintenance()
        operator = Operator(center)
        operator.register()
        agent = center.agent()
        source = center.directory / "source"
        source.mkdir()
        (source / "file").write_text("content")
        plan = operator.plan("plan", source, "0 0 0 1 1 ? 2099")
        yield Stage(center, collected, operator, agent, plan)


def test_a_trace_goes_from_the_request_through_the_agent_and_back(stage: Stage) -> None:
    record = stage.operator.run(stage.plan)
    asked = stage.span(WEB, "POST", "/run")
    sent = stage.span(WEB, "send/agent.run_job")
    worked = stage.span(AGENT, "run/agent.run_job")
    assert (asked.parent, sent.parent, worked.parent) == ("", asked.id, sent.id)
    for step in ("claim", "finish"):
        request, answer = stage.span(AGENT, "POST", f"/{step}"), stage.span(WEB, "POST", f"/{step}")
        assert (request.parent, answer.parent) == (worked.id, request.id)
        queries = [span for span in stage.collector.spans if span.parent == answer.id and "db.query.text" in span.attributes]
        for span in (request, answer, *queries):
            assert (span.trace, span.attributes["backup.job_id"]) == (asked.trace, f"backup-{record['id']}")
        assert {span.name for span in queries} >= {"SELECT", "UPDATE"}
    lines = [json.loads(line) for line in stage.agent.log.read_text().splitlines() if '"job": "backup-' in line]
    assert {line["trace_id"] for line in lines} == {asked.trace}


def test_a_trace_goes_from_the_request_to_the_control_worker(stage: Stage) -> None:
    (repository,) = stage.operator.api.get("/api/repository")
    run = stage.operator.api.post(f"/api/repository/{repository['id']}/checks", {})
    asked = stage.span(WEB, "POST", "/checks")
    sent, worked = stage.span(WEB, "send/records.run_maintenance"), stage.span(WORKER, "run/records.run_maintenance")
    assert [span.trace for span in (sent, worked)] == [asked.trace] * 2
    assert (sent.parent, worked.parent, worked.attributes["backup.maintenance_id"]) == (asked.id, sent.id, run["id"])


def test_no_trace_is_of_what_comes_all_the_time_nor_of_a_listener(stage: Stage) -> None:
    headers = {"Authorization": f"Token {stage.operator.token}"}
    with requests.get(f"{stage.center.url}/api/event", headers=headers, stream=True, timeout=30) as stream:
        assert stream.status_code == 200
    assert requests.get(f"{stage.center.url}/metrics", headers=headers, timeout=30).status_code == 200
    assert requests.get(f"{stage.center.url}/api/docs?last", headers=headers, timeout=30).status_code == 200
    stage.span(WEB, "GET", "/api/docs")
    left_out = re.compile("/(event|metrics|heartbeat|progress)$")
    assert [span for span in stage.collector.spans if left_out.search(_path(span))] == []
    firsts = {span.name.partition(" ")[0] for span in stage.collector.spans if not span.parent}
    assert firsts <= {"GET", "POST"}


def test_no_span_holds_a_secret(stage: Stage) -> None:
    wrong = {"username": "administrator", "password": DIGEST}
    assert requests.get(f"{stage.center.url}/login", params=wrong, timeout=30).status_code == 401
    assert requests.post(f"{stage.center.url}/login", json=wrong, timeout=30).status_code == 401
    stage.span(WEB, "GET", "/login")
    stage.span(WEB, "POST", "/login")
    state = json.loads((stage.center.directory / "agent" / "agent.json").read_text())
    secrets = [DIGEST, stage.operator.token, stage.center.redis_password, state["token"], state["broker"]]
    secrets += [urlsplit(state["broker"]).password, stage.center.environment["BACKUPCENTER_SECRET_KEY"]]
    sent = "\n".join(stage.collector.raw)
    assert [secret for secret in secrets if secret in sent] == []
    # What was sent is searched: this is in it.
    assert "backup-" in sent
