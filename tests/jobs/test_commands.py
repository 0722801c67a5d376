"""Plans with commands: what they may say, what agents are told, and that no agent leaves them out in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client as Browser
from django.urls import reverse
from rest_framework.test import APIClient

from clients.compatibility import COMMANDS_PROTOCOL
from jobs.commands import HOOK_S, STREAM_S
from jobs.offering import offer_jobs
from jobs.planning import change_plan, run_plan
from records.models import BackupRecord, State
from records.slots import explain_waiting
from tests.factories import agent_token, make_client, make_plan
from tests.jobs.test_agent_jobs import RESULT

STREAM = {"name": "/dumps/shop.sql", "command": ["dump-shop"]}
HOOK = {"command": ["flush", "level=full"], "timeout_s": 60}
TOO_OLD = "its agent is too old for this job: install the server's version of it on the host"


def data(**what: Any) -> str:
    return json.dumps({"include": ["/etc"], "exclude": [], **what})


def say(agent: APIClient, record: BackupRecord, step: str, protocol: int = COMMANDS_PROTOCOL, **more: Any) -> Any:
    body = {"attempt": 1, **more}
    return agent.post(f"/api/agent/job/{record.job}/{step}", body, format="json", headers={"Agent-Protocol": str(protocol)})


def beat(agent: APIClient, protocol: int = COMMANDS_PROTOCOL, **said: Any) -> None:
    headers = {"Agent-Protocol": str(protocol), "User-Agent": "backupcenter-agent/0.0.1"}
    assert agent.post("/api/agent/heartbeat", {"version": "0.0.1", **said}, format="json", headers=headers).status_code == 200


@pytest.fixture
def client(db: None) -> Any:
    return make_client()


@pytest.fixture
def agent(client: Any) -> APIClient:
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    return agent


def test_a_claim_tells_of_commands_with_their_limits_and_of_none_where_there_are_none(
    agent: APIClient, client: Any, tmp_path: Path
) -> None:
    beat(agent)
    hooks = {"before": [{**HOOK, "on_failure": "continue"}], "after": [{"command": ["thaw"]}]}
    plan = make_plan(tmp_path, client=client, backup_data=data(streams=[STREAM], presets=["postgresql"], hooks=hooks))
    told = say(agent, run_plan(plan), "claim").json()["backup"]
    assert told["streams"] == [{**STREAM, "timeout_s": STREAM_S}]
    assert told["presets"] == ["postgresql"]
    assert told["hooks"] == {**hooks, "after": [{"command": ["thaw"], "timeout_s": HOOK_S}]}
    assert told["plan"] == {"uuid": str(plan.uuid), "name": plan.backup_name}
    plain = say(agent, run_plan(make_plan(tmp_path, client=client)), "claim").json()["backup"]
    assert plain.keys().isdisjoint({"streams", "presets", "hooks"})


def test_without_a_path_a_plan_needs_a_stream_or_a_preset(db: None, tmp_path: Path) -> None:
    for what in ({"streams": [STREAM]}, {"presets": ["redis"]}):
        make_plan(tmp_path, backup_data=json.dumps({"include": [], **what}))
        make_plan(tmp_path, backup_data=json.dumps(what))
    for what in ({}, {"streams": []}, {"hooks": {"before": [HOOK]}}):
        with pytest.raises(ValidationError, match="at least one path"):
            make_plan(tmp_path, backup_data=json.dumps({"include": [], **what}))


@pytest.mark.parametrize(
    "what",
    [
        {"stream": [STREAM]},
        {"streams": STREAM},
        {"streams": ["dump-shop"]},
        {"streams": [STREAM] * 21},
        {"streams": [STREAM, STREAM]},
        {"streams": [{**STREAM, "name": "shop.sql"}]},
        {"streams": [{**STREAM, "name": "/a/../b"}]},
        {"streams": [{**STREAM, "name": "/"}]},
        {"streams": [{**STREAM, "name": "/a\0"}]},
        {"streams": [{"command": ["dump-shop"]}]},
        {"streams": [{**STREAM, "shell": True}]},
        {"streams": [{**STREAM, "command": "dump-shop"}]},
        {"streams": [{**STREAM, "command": []}]},
        {"streams": [{**STREAM, "command": ["/usr/bin/pg_dump"]}]},
        {"streams": [{**STREAM, "command": ["dump", "shop"]}]},
        {"streams": [{**STREAM, "command": ["dump", "x=\ud800"]}]},
        {"streams": [{**STREAM, "command": ["dump", 7]}]},
        {"streams": [{**STREAM, "timeout_s": 0}]},
        {"streams": [{**STREAM, "timeout_s": True}]},
        {"streams": [{**STREAM, "timeout_s": 1.5}]},
        {"presets": "redis"},
        {"presets": ["../redis"]},
        {"presets": ["redis", "redis"]},
        {"hooks": [HOOK]},
        {"hooks": {"around": [HOOK]}},
        {"hooks": {"before": HOOK}},
        {"hooks": {"before": [{**HOOK, "on_failure": "retry"}]}},
        {"hooks": {"after": [{**HOOK, "on_failure": "continue"}]}},
        {"hooks": None},
    ],
)
def test_what_makes_no_sense_is_refused_by_the_api_with_the_field(api: Any, client: Any, tmp_path: Path, what: Any) -> None:
    plan = make_plan(tmp_path, client=client)
    body = {"backup_data": data(**what)}
    answer = api("operator").put(f"/api/backup/{plan.uuid}", body, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["backup_data"]


def test_a_run_with_commands_waits_for_an_agent_that_knows_them_and_says_so(
    agent: APIClient, client: Any, tmp_path: Path
) -> None:
    beat(agent, protocol=2)
    record = run_plan(make_plan(tmp_path, client=client, backup_data=data(streams=[STREAM])))
    other = run_plan(make_plan(tmp_path, client=client))
    offer_jobs()
    assert BackupRecord.objects.filter(offered_at__isnull=False).get() == other
    explain_waiting([record])
    assert record.waits_for == TOO_OLD
    # Not even if it asks for the job by itself, nor if it says nothing of its protocol.
    for protocol in (2, 1):
        answer = say(agent, record, "claim", protocol)
        assert (answer.status_code, "too old" in answer.json()["error"]) == (409, True)
    record.refresh_from_db()
    assert record.state == State.QUEUED
    beat(agent)
    offer_jobs()
    assert say(agent, record, "claim").status_code == 200


def test_a_record_keeps_what_the_commands_wrote_and_shows_it(
    agent: APIClient, client: Any, api: Any, account: Any, tmp_path: Path
) -> None:
    beat(agent)
    record = run_plan(make_plan(tmp_path, client=client, backup_data=data(streams=[STREAM], hooks={"before": [HOOK]})))
    say(agent, record, "claim")
    said = {"stage": "before", "command": "flush", "status": 3, "duration_s": 0.5, "output": "<b>full</b>\0\n", "error": "status 3"}
    lengthy = {"stage": "stream", "command": "dump-shop", "output": "x" * 100_000}
    answer = say(agent, record, "finish", outcome="warnings", error="e", result=RESULT, commands=[said, lengthy])
    assert answer.status_code == 200
    first, second = api("viewer").get(f"/api/record/backup/{record.pk}").json()["commands"]
    assert first == {**said, "output": "<b>full</b>\n"}
    assert (second["status"], second["duration_s"], len(second["output"])) == (None, 0.0, 64 << 10)
    browser = Browser()
    browser.force_login(account("viewer"))
    page = browser.get(reverse("admin:records_backuprecord_change", args=[record.pk])).content.decode()
    assert "&lt;b&gt;full&lt;/b&gt;" in page
    assert "/dumps/shop.sql ← dump-shop" in page
    assert "before: flush level=full" in page


def test_what_a_client_allows_is_known_and_a_plan_that_wants_more_says_so(
    agent: APIClient, client: Any, api: Any, account: Any, tmp_path: Path
) -> None:
    beat(agent, allowed=["dump-shop", "preset:redis"])
    assert api("viewer").get(f"/api/client/{client.ipv4}").json()["allowed"] == ["dump-shop", "preset:redis"]
    plan = make_plan(tmp_path, client=client, backup_data=data(streams=[STREAM], presets=["redis"]))
    shown = api("viewer").get(f"/api/backup/{plan.uuid}").json()
    assert shown["not_allowed"] == []
    change_plan(plan, backup_data=data(streams=[STREAM], presets=["lvm"], hooks={"after": [HOOK]}))
    shown = api("viewer").get(f"/api/backup/{plan.uuid}").json()
    assert shown["not_allowed"] == ["flush", "preset:lvm"]
    address = reverse("admin:jobs_backupplan_change", args=[plan.pk])
    browser = Browser()
    browser.force_login(account("operator"))
    page = browser.get(address)
    assert "dump-shop, preset:redis" in page.content.decode()
    form = page.context["adminform"].form
    values = {name: "" if value is None else value for name, value in form.initial.items()}
    for name, field in form.fields.items():
        if field.__class__.__name__ == "SplitDateTimeField":
            moment = values.pop(name)
            values |= {f"{name}_0": moment.date().isoformat(), f"{name}_1": moment.time().isoformat()} if moment else {}
    answer = browser.post(address, values, follow=True)
    assert "does not allow: flush, preset:lvm." in answer.content.decode()
