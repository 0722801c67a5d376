"""A plan's newest backup is drilled by a client's agent: what it is told, what is kept of what it tells, how it is cancelled."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse

from agent import child
from agent.center import PROTOCOL
from agent.scratch import scratch_of
from backupcenter.api.exceptions import Conflict
from backupcenter.api.reading import validated
from clients.compatibility import DRILL_PROTOCOL
from clients.models import Client
from engine.commands.backup import backup
from jobs.claiming import hand_over
from jobs.console.acting import _repeat_recovery
from jobs.drills import change_drill, drill_of, drill_plan, request_due_drills
from jobs.models import BackupPlan
from jobs.proof import proof_of
from jobs.reports import FinishSerializer
from records.lifecycle import finish_job, lose_job
from records.models import DrillRecord, Event, RecoveryRecord, State
from records.reporting import report_progress
from storage.repositories import open_repository
from tests.factories import START, make_client, make_plan, make_record

RESULT = {
    "files_restored": 3, "files_verified": 3, "bytes_restored": 30, "duration_s": 2.5,
    "drill": {"files": 3, "of_files": 9, "failures": 0, "notes": 1},
}  # fmt: skip


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    plan = make_plan(tmp_path)
    make_record(plan, snapshot="a" * 64)
    return plan


@pytest.fixture
def target(plan) -> Client:
    return make_client()


@pytest.fixture
def drill(plan, target) -> DrillRecord:
    change_drill(plan, client=target)
    return drill_plan(plan)


def claimed(drill: DrillRecord, attempt: int = 1) -> dict[str, Any]:
    RecoveryRecord.objects.update(offered_at=START)
    return hand_over(recovery_of(drill), attempt, protocol=DRILL_PROTOCOL)


def recovery_of(drill: DrillRecord) -> RecoveryRecord:
    return RecoveryRecord.objects.select_related("client", "backup_record").get(drill=drill)


def done(drill: DrillRecord, outcome: str = "success", **said: Any) -> DrillRecord:
    claimed(drill)
    said = {"attempt": 1, "outcome": outcome, "result": RESULT} | said
    finish_job(recovery_of(drill), **validated(FinishSerializer, said))
    return DrillRecord.objects.get(pk=drill.pk)


def test_the_client_is_told_what_to_drill_and_no_destination(drill, target, settings) -> None:
    assert (drill.run, drill.place, drill.recovery.client) == (None, target.hostname, target)
    wanted = claimed(drill)["recovery"]
    limits = {"sample_bytes": settings.DRILL_SAMPLE_MIB << 20, "limit_bytes": settings.DRILL_GIB << 30}
    assert wanted == {"snapshot": "a" * 64, "drill": {"extent": "sample", **limits}, "checks": []}
    drill.refresh_from_db()
    assert drill.state == State.RUNNING
    assert drill.age_s > 0


def test_a_drill_that_could_not_follow_its_recovery_catches_up(drill, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("records.drills.onclient.begun_with", None)
        patch.setattr("records.drills.onclient.note_compared", None)
        assert done(drill).is_active
    assert recovery_of(drill).state == State.SUCCESS
    assert Event.objects.filter(title__startswith="What follows from", job=recovery_of(drill).job).exists()
    request_due_drills()
    drill.refresh_from_db()
    assert (drill.state, drill.compared) == (State.SUCCESS, 3)
    assert drill.end_time == recovery_of(drill).end_time


def test_an_agent_that_would_restore_instead_is_not_given_it(drill) -> None:
    RecoveryRecord.objects.update(offered_at=START)
    with pytest.raises(Conflict, match="too old"):
        hand_over(recovery_of(drill), 1, protocol=DRILL_PROTOCOL - 1)
    assert PROTOCOL >= DRILL_PROTOCOL


def test_what_the_agent_tells_is_the_evidence(plan, drill, target, api) -> None:
    ended = done(drill)
    assert (ended.state, ended.error, ended.problems) == (State.SUCCESS, "", [])
    assert (ended.files, ended.of_files, ended.compared, ended.mismatches, ended.notes) == (3, 9, 3, 0, 1)
    assert (ended.bytes_restored, ended.duration_s, ended.place) == (30, 2.5, target.hostname)
    assert ended.end_time is not None
    assert proof_of(plan).state == "proven"
    event = Event.objects.filter(plan_uuid=plan.uuid).latest("pk")
    assert (event.level, event.topic) == (Event.Level.SUCCESS, Event.Topic.MAINTENANCE)
    shown = api("viewer").get(f"/api/record/drill/{ended.pk}").json()
    assert shown["recovery"] == ended.recovery_id
    assert api("viewer").get(f"/api/record/recovery/{ended.recovery_id}").json()["drill"] is True


@pytest.mark.parametrize(("said", "problem", "mismatches"), [
    ({"result": {**RESULT, "files_verified": 2}}, "2 files were compared where the backup names 3", 1),
    ({"outcome": "failed", "error": "1 files", "unreadable": [{"path": "/a", "reason": "differs"}],
      "result": {**RESULT, "files_verified": 2, "drill": {**RESULT["drill"], "failures": 1}}}, "/a: differs", 1),
    ({"outcome": "failed", "error": "no room", "result": {}}, "no room", None),
    ({"result": {}}, "did not say what it has compared", None),
])  # fmt: skip
def test_what_differs_is_no_proof(plan, drill, said, problem, mismatches) -> None:
    ended = done(drill, **said)
    assert ended.state == State.FAILED
    assert problem in ended.error
    assert ended.problems == [ended.error]
    assert ended.mismatches == mismatches
    assert proof_of(plan).state == "failed"
    events = Event.objects.filter(occasion=Event.Occasion.DRILL_FAILED)
    assert events.count() == 1
    assert not Event.objects.filter(occasion=Event.Occasion.FAILED).exists()


def check(status: int | None) -> dict[str, Any]:
    return {"stage": "check", "command": "look", "status": status, "duration_s": 1.0, "output": "said", "error": ""}


@pytest.mark.parametrize(("status", "problem"), [(0, ""), (3, "status 3"), (None, "was ended after")])
def test_the_command_is_one_of_the_clients_and_judged_as_the_servers(plan, target, status, problem) -> None:
    change_drill(plan, client=target, command="look 'kind=a b'")
    drill = drill_plan(plan)
    ended = done(drill, "success" if status == 0 else "failed", error="the command", commands=[check(status)])
    assert json.loads(recovery_of(drill).recovery_data)["command"] == "look 'kind=a b'"
    assert (ended.state == State.SUCCESS) == (not problem)
    assert problem in ended.error
    assert (ended.command_status, ended.command_output) == (status, "said")


def test_a_command_that_nobody_heard_of_proves_nothing(plan, target) -> None:
    change_drill(plan, client=target, command="look")
    assert done(drill_plan(plan)).state == State.FAILED


def test_a_drill_is_cancelled_with_its_recovery(drill, api) -> None:
    cancel = f"/api/record/drill/{drill.pk}/cancel"
    claimed(drill)
    assert api("operator").post(cancel).json()["state"] == State.RUNNING
    recovery = recovery_of(drill)
    told = report_progress(recovery.client_id, recovery.job, 1, {})
    assert told is not None
    assert told.cancel_requested
    finish_job(recovery_of(drill), 1, "cancelled")
    drill.refresh_from_db()
    assert (drill.state, drill.compared) == (State.CANCELLED, None)
    assert api("operator").post(cancel).status_code == 409


def test_a_queued_drill_is_cancelled_at_once(drill, api) -> None:
    assert api("operator").post(f"/api/record/drill/{drill.pk}/cancel").json()["state"] == State.CANCELLED
    assert recovery_of(drill).state == State.CANCELLED


def test_a_drill_waits_again_if_its_agent_is_lost_and_is_lost_in_the_end(drill, settings) -> None:
    settings.JOB_ATTEMPTS = 2
    for attempt, state in ((1, State.QUEUED), (2, State.LOST)):
        claimed(drill, attempt)
        lose_job(recovery_of(drill), attempt, "silent")
        drill.refresh_from_db()
        assert drill.state == state
    assert drill.end_time is not None


def test_lists_and_pages_say_that_a_recovery_is_a_drill(drill, account) -> None:
    done(drill)
    browser = Browser()
    browser.force_login(account("operator"))
    number = recovery_of(drill).pk
    page = browser.get(reverse("admin:records_recoveryrecord_change", args=[number])).content.decode()
    assert "Restore drill: " in page
    assert "Run it again" not in page
    assert "restore drill" in browser.get(reverse("admin:records_recoveryrecord_changelist")).content.decode().lower()
    page = browser.get(reverse("admin:records_drillrecord_change", args=[drill.pk])).content.decode()
    assert reverse("admin:records_recoveryrecord_change", args=[number]) in page


def test_a_drill_is_not_run_again_as_a_restore(drill) -> None:
    done(drill)
    with pytest.raises(Conflict, match="drill its plan"):
        _repeat_recovery(recovery_of(drill).pk, for_real=False)


def test_a_client_that_goes_leaves_the_drills_to_the_server_without_its_command(plan, target) -> None:
    change_drill(plan, client=target, command="look")
    target.delete()
    settings = drill_of(plan)
    assert (settings.client, settings.command) == (None, "")


def test_who_may_say_where_a_command_is_run(plan, target, api, account) -> None:
    address = f"/api/backup/{plan.uuid}/drill"
    assert api("operator").put(address, {"client": target.pk}, format="json").json()["client"] == target.pk
    assert api("operator").put(address, {"client": None}, format="json").json()["client"] is None
    assert api("administrator").put(address, {"client": target.pk, "command": "look '"}, format="json").status_code == 400
    assert api("administrator").put(address, {"client": target.pk, "command": "look"}, format="json").status_code == 200
    assert api("operator").put(address, {"client": None}, format="json").status_code == 403
    browser = Browser()
    page = reverse("admin:jobs_plandrill_change", args=[drill_of(plan).pk])
    for role, may in (("operator", False), ("administrator", True)):
        browser.force_login(account(role))
        assert ('name="client"' in browser.get(page).content.decode()) == may
    browser.post(page, {"cron_expression": "", "extent": "whole", "client": "", "command": ""})
    assert (drill_of(plan).client, drill_of(plan).extent) == (None, "whole")


def test_the_engine_does_what_the_server_asks_for(tmp_path, db, monkeypatch) -> None:
    """The specification as a server makes it, done as an agent does, judged by the server."""
    (tmp_path / "store").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"file-{number}").write_text(str(number))
    plan = make_plan(tmp_path / "store")
    make_record(plan, snapshot=backup(open_repository(plan.repository), [source], host="here").snapshot_id)
    change_drill(plan, client=make_client(), extent="whole")
    drill = drill_plan(plan)
    monkeypatch.setattr(child._Out, "say", lambda self, event, **said: None)
    with scratch_of(claimed(drill), tmp_path) as told:
        result = child.run({**told, "derived_keys": {}}, child._Out(), child.threading.Event())
    assert list((tmp_path / "drills").iterdir()) == []
    finish_job(recovery_of(drill), 1, "success", result=result)
    drill.refresh_from_db()
    assert (drill.state, drill.error, drill.files, drill.of_files, drill.compared) == (State.SUCCESS, "", 3, 3, 3)
