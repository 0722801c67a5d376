"""A job between server and agent: claimed once, leased while it runs, finished once, tried again when it was lost."""

import itertools
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from jobs import claiming
from jobs.models import BackupPlan
from jobs.planning import run_plan
from jobs.watchdog import watch
from records import lifecycle
from records.models import BackupRecord, Event, RecoveryRecord, State
from tests.factories import agent_token, make_client, make_plan, make_record

RESULT = {"snapshot_id": "a" * 64, "files_total": 3, "bytes_total": 10, "bytes_added": 5, "bytes_stored": 4, "duration_s": 1.5}


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path, hold_type=1, hold_time=7)


@pytest.fixture
def record(plan) -> BackupRecord:
    return run_plan(plan)


def agent_of(client) -> APIClient:
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    return agent


def say(agent: APIClient, record: BackupRecord, step: str, attempt: int = 1, **more):
    return agent.post(f"/api/agent/job/{record.job}/{step}", {"attempt": attempt, **more}, format="json")


@pytest.fixture
def agent(plan) -> APIClient:
    return agent_of(plan.client)


def test_handing_a_job_back_is_no_loss_however_often(agent, record, settings) -> None:
    for attempt in range(1, settings.JOB_ATTEMPTS + 3):
        assert say(agent, record, "claim", attempt).status_code == 200
        answer = say(agent, record, "finish", attempt, outcome="handed_back", error="the agent was stopped")
        assert answer.json() == {"state": State.QUEUED, "attempt": attempt + 1}
        assert say(agent, record, "finish", attempt, outcome="handed_back").status_code == 409
    handed_back = attempt
    for lost in range(1, settings.JOB_ATTEMPTS + 1):
        assert say(agent, record, "claim", handed_back + lost).status_code == 200
        answer = say(agent, record, "finish", handed_back + lost, outcome="crashed", error="signal 9")
    assert answer.json() == {"state": State.LOST, "attempt": handed_back + settings.JOB_ATTEMPTS}
    lost_events = Event.objects.filter(job=record.job, level=Event.Level.ERROR)
    assert lost_events.count() == settings.JOB_ATTEMPTS


def test_a_job_that_was_to_be_cancelled_is_so_when_it_is_handed_back(agent, record) -> None:
    say(agent, record, "claim")
    record.refresh_from_db()
    lifecycle.cancel_job(record)
    assert say(agent, record, "finish", outcome="handed_back").json() == {"state": State.CANCELLED, "attempt": 1}


def test_a_claim_tells_what_to_do_with_the_keys_and_is_not_kept(agent, record, plan) -> None:
    answer = say(agent, record, "claim")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    told = answer.json()
    assert (told["job"], told["attempt"], told["kind"]) == (record.job, 1, "backup")
    assert told["repository"] == {
        "location": plan.repository.location, "password": plan.repository.password, "access_key": None, "secret_key": None,
        "authorities": "",
        "allowed_addresses": [],
    }  # fmt: skip
    assert told["backup"]["include"] == ["/etc"]
    assert told["backup"]["exclude"] == ["/etc/ssl"]
    assert told["backup"]["host"] == plan.client.hostname
    record.refresh_from_db()
    assert record.state == State.RUNNING
    assert record.lease_until > timezone.now()


def test_paths_are_relative_to_the_clients_root(tmp_path, db) -> None:
    client = make_client(root="/srv/data")
    data = json.dumps({"include": ["a", "/etc"], "exclude": ["a/b", "*.tmp"]})
    record = run_plan(make_plan(tmp_path, client=client, backup_data=data))
    told = say(agent_of(client), record, "claim").json()["backup"]
    assert told["include"] == ["/srv/data/a", "/etc"]
    assert told["exclude"] == ["/srv/data/a/b", "*.tmp"]


def test_a_claim_of_a_recovery_tells_what_to_restore_where_to_and_how(api, plan) -> None:
    target = make_client(root="/srv")
    backup = make_record(plan, snapshot="a" * 64)
    data = {"destination": "back", "include": ["etc/hosts"], "overwrite": "never", "verify": False}
    for asked in (data, {"destination": "/back"}):
        body = {"client": {"ipv4": target.ipv4}, "backup_record": {"id": backup.pk}, "recovery_data": json.dumps(asked)}
        number = api("operator").post("/api/recovery", body, format="json").json()["id"]
        told = say(agent_of(target), RecoveryRecord.objects.get(pk=number), "claim").json()
        assert told["kind"] == "recovery"
        assert told["repository"]["password"] == plan.repository.password
        if asked is data:
            assert told["recovery"] == {
                "snapshot": "a" * 64, "destination": "/srv/back", "include": ["/etc/hosts"], "overwrite": "never",
                "verify": False, "dry_run": False
            }  # fmt: skip
        else:
            assert told["recovery"] == {
                "snapshot": "a" * 64, "destination": "/back", "include": [], "overwrite": "if-changed",
                "verify": True, "dry_run": False
            }  # fmt: skip


def test_a_job_is_claimed_once(agent, record) -> None:
    assert say(agent, record, "claim").status_code == 200
    assert say(agent, record, "claim").status_code == 409
    assert say(agent, record, "claim", attempt=2).status_code == 409


def test_another_clients_job_does_not_exist(record) -> None:
    stranger = agent_of(make_client())
    for step, more in (("claim", {}), ("progress", {"progress": {}}), ("finish", {"outcome": "success"})):
        assert say(stranger, record, step, **more).status_code == 404


def test_people_are_no_agents_and_agents_are_no_people(api, agent, record) -> None:
    assert say(api("administrator"), record, "claim").status_code == 401
    assert agent.get("/api/backup").status_code == 401


def test_progress_renews_the_lease_and_is_shown(agent, api, record) -> None:
    say(agent, record, "claim")
    BackupRecord.objects.update(lease_until=timezone.now() + timedelta(seconds=1))
    answer = say(agent, record, "progress", progress={"files_done": 2})
    assert answer.json()["cancel"] is False
    record.refresh_from_db()
    assert record.lease_until > timezone.now() + timedelta(seconds=5)
    assert api("viewer").get(f"/api/record/backup/{record.pk}").json()["progress"] == {"files_done": 2}


def test_a_cancel_rides_on_the_answer_to_progress(agent, api, record) -> None:
    say(agent, record, "claim")
    assert api("operator").post(f"/api/record/backup/{record.pk}/cancel").status_code == 200
    assert say(agent, record, "progress", progress={}).json()["cancel"] is True
    assert say(agent, record, "finish", outcome="cancelled").status_code == 200
    record.refresh_from_db()
    assert record.state == State.CANCELLED


def test_a_finish_fills_the_record_and_may_be_repeated(agent, api, record) -> None:
    say(agent, record, "claim")
    for _ in range(2):
        assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 200
    shown = api("viewer").get(f"/api/record/backup/{record.pk}").json()
    assert shown["state"] == 0
    assert (shown["snapshot"], shown["files_total"], shown["bytes_read"]) == ("a" * 64, 3, 10)
    assert shown["progress"] is None
    assert shown["hold_time"] - shown["end_time"] == 7 * 86400
    assert Event.objects.filter(job=record.job, level=Event.Level.SUCCESS).count() == 1


def test_a_finish_that_contradicts_is_refused(agent, record) -> None:
    say(agent, record, "claim")
    say(agent, record, "finish", outcome="failed", error="no space")
    assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 409
    record.refresh_from_db()
    assert (record.state, record.error) == (State.FAILED, "no space")


def test_unreadable_files_make_warnings_and_are_listed(agent, api, record) -> None:
    say(agent, record, "claim")
    unreadable = [{"path": "/etc/shadow", "reason": "Permission denied"}]
    say(agent, record, "finish", outcome="warnings", result=RESULT, unreadable=unreadable)
    shown = api("viewer").get(f"/api/record/backup/{record.pk}").json()
    assert (shown["state"], shown["unreadable"]) == (5, unreadable)


def test_a_crash_is_lost_and_tried_again(agent, record) -> None:
    say(agent, record, "claim")
    assert say(agent, record, "finish", outcome="crashed", error="signal 9").json() == {"state": 1, "attempt": 2}
    assert say(agent, record, "progress", progress={}).status_code == 409
    assert Event.objects.filter(job=record.job, title__contains="lost").exists()
    assert say(agent, record, "claim", attempt=2).status_code == 200
    say(agent, record, "finish", attempt=2, outcome="success", result=RESULT)
    record.refresh_from_db()
    assert (record.state, record.attempt) == (State.SUCCESS, 2)


def test_a_lease_that_runs_out_is_lost_and_tried_again_until_the_last_attempt(agent, record, settings) -> None:
    settings.JOB_ATTEMPTS = 2
    for attempt, state in ((1, State.QUEUED), (2, State.LOST)):
        assert say(agent, record, "claim", attempt=attempt).status_code == 200
        watch()
        record.refresh_from_db()
        assert record.state == State.RUNNING
        BackupRecord.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        watch()
        record.refresh_from_db()
        assert record.state == state
    assert record.end_time is not None
    assert say(agent, record, "finish", attempt=1, outcome="success", result=RESULT).status_code == 409


def test_a_job_that_is_cancelled_and_then_lost_is_not_tried_again(agent, api, record) -> None:
    say(agent, record, "claim")
    api("operator").post(f"/api/record/backup/{record.pk}/cancel")
    BackupRecord.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    watch()
    record.refresh_from_db()
    assert record.state == State.CANCELLED


# What a host's file system may put into a report: a name that is not UTF-8, as Python spells it, and NUL.
FOREIGN = "/srv/b\udcfcro\0/"


def test_progress_in_a_directory_whose_name_is_not_utf8_renews_the_lease_and_is_shown(agent, api, record) -> None:
    say(agent, record, "claim")
    said = {"attempt": 1, "progress": {"current": FOREIGN, "files_done": 2, "files_total": None, "\udcfc": 1}}
    answer = agent.post(f"/api/agent/job/{record.job}/progress", json.dumps(said), content_type="application/json")
    assert answer.status_code == 200
    shown = api("viewer").get(f"/api/record/backup/{record.pk}").json()["progress"]
    assert shown == {"current": "/srv/b?ro/", "files_done": 2, "files_total": None, "?": 1}


def test_no_text_of_a_report_is_refused(agent, record) -> None:
    say(agent, record, "claim")
    unreadable = [{"path": FOREIGN + "x" * 5000, "reason": ""}]
    said = {"attempt": 1, "outcome": "failed", "error": FOREIGN + "x" * 20_000, "unreadable": unreadable}
    answer = agent.post(f"/api/agent/job/{record.job}/finish", json.dumps(said), content_type="application/json")
    assert answer.status_code == 200
    record.refresh_from_db()
    assert record.state == State.FAILED
    assert record.error == ("/srv/b?ro/" + "x" * 20_000)[:10_000]
    assert record.unreadable == [{"path": ("/srv/b?ro/" + "x" * 5000)[:4096], "reason": ""}]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("progress", {"progress": {"files_done": [1]}}),
        ("progress", {"progress": {"rate": 1e308 * 10}}),
        ("finish", {"outcome": "success", "result": {"snapshot_id": "x"}}),
        ("finish", {"outcome": "success", "result": {"files_total": 1 << 64}}),
    ],
)
def test_figures_that_are_none_are_refused(agent, record, step, said) -> None:
    say(agent, record, "claim")
    body = json.dumps({"attempt": 1, **said}).replace("Infinity", "1e999")
    answer = agent.post(f"/api/agent/job/{record.job}/{step}", body, content_type="application/json")
    assert answer.status_code == 400
    record.refresh_from_db()
    assert record.state == State.RUNNING


def test_a_lease_that_is_renewed_at_the_last_moment_is_not_lost(agent, record, monkeypatch) -> None:
    say(agent, record, "claim")
    BackupRecord.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    lose = lifecycle.lose_job

    def renewed_first(*arguments, **options) -> bool:
        assert say(agent, record, "progress", progress={}).status_code == 200
        return lose(*arguments, **options)

    monkeypatch.setattr(lifecycle, "lose_job", renewed_first)
    assert lifecycle.lose_expired() == 0
    record.refresh_from_db()
    assert (record.state, record.attempt) == (State.RUNNING, 1)


def lose(record: BackupRecord) -> None:
    """Let the lease run out, as it does while the server cannot be reached."""
    BackupRecord.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert lifecycle.lose_expired() == 1
    record.refresh_from_db()


@pytest.mark.parametrize(("attempts", "state"), [(2, State.QUEUED), (1, State.LOST)])
def test_an_agent_that_is_heard_again_goes_on_with_the_attempt_that_was_lost(agent, record, settings, attempts, state) -> None:
    settings.JOB_ATTEMPTS = attempts
    say(agent, record, "claim")
    lose(record)
    assert record.state == state
    assert say(agent, record, "progress", progress={"files_done": 2}).json()["cancel"] is False
    record.refresh_from_db()
    assert (record.state, record.attempt, record.error, record.end_time) == (State.RUNNING, 1, "", None)
    assert record.lease_until > timezone.now()
    assert say(agent, record, "claim", attempt=2).status_code == 409
    assert Event.objects.filter(job=record.job, title__contains="heard again").exists()
    assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 200


def test_of_two_reports_that_come_late_together_none_is_refused(agent, record, monkeypatch) -> None:
    say(agent, record, "claim")
    lose(record)
    lost_to_time = lifecycle._lost_to_time

    def after_another(attempt: int):
        monkeypatch.setattr(lifecycle, "_lost_to_time", lost_to_time)
        assert say(agent, record, "progress", progress={"files_done": 1}).status_code == 200
        return lost_to_time(attempt)

    monkeypatch.setattr(lifecycle, "_lost_to_time", after_another)
    assert say(agent, record, "progress", progress={"files_done": 2}).status_code == 200
    record.refresh_from_db()
    assert (record.state, record.attempt, record.progress) == (State.RUNNING, 1, {"files_done": 2})


@pytest.mark.parametrize(("attempts", "state"), [(2, State.QUEUED), (1, State.LOST)])
def test_an_outcome_counts_that_comes_after_the_attempt_was_lost(agent, record, settings, attempts, state) -> None:
    settings.JOB_ATTEMPTS = attempts
    say(agent, record, "claim")
    lose(record)
    assert record.state == state
    for _ in range(2):
        assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 200
    record.refresh_from_db()
    assert (record.state, record.attempt, record.error, record.snapshot) == (State.SUCCESS, 1, "", "a" * 64)


def test_an_attempt_does_not_count_any_more_once_the_next_has_begun(agent, record) -> None:
    say(agent, record, "claim")
    lose(record)
    assert say(agent, record, "claim", attempt=2).status_code == 200
    assert say(agent, record, "progress", progress={}).status_code == 409
    assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 409
    record.refresh_from_db()
    assert (record.state, record.attempt) == (State.RUNNING, 2)


def test_a_job_that_was_cancelled_after_it_was_lost_is_not_taken_back(agent, api, record) -> None:
    say(agent, record, "claim")
    lose(record)
    assert api("operator").post(f"/api/record/backup/{record.pk}/cancel").json()["state"] == 4
    assert say(agent, record, "progress", progress={}).status_code == 409
    assert say(agent, record, "finish", outcome="success", result=RESULT).status_code == 409


def test_a_job_that_is_lost_and_queued_again_while_it_is_cancelled_is_cancelled(agent, record) -> None:
    say(agent, record, "claim")
    updates = itertools.count()

    def lost_after_the_first(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and "records_backuprecord" in sql and next(updates) == 0:
            lifecycle.lose_job(record, 1, "the engine died")
        return result

    with connection.execute_wrapper(lost_after_the_first):
        lifecycle.cancel_job(BackupRecord.objects.get(pk=record.pk))
    record.refresh_from_db()
    assert record.state == State.CANCELLED


def test_a_job_whose_secrets_cannot_be_read_fails_and_says_why(agent, record, settings) -> None:
    settings.ENCRYPTION_KEYS = ["another"]
    answer = say(agent, record, "claim")
    assert answer.status_code == 409
    assert "BACKUPCENTER_ENCRYPTION_KEYS" in answer.json()["error"]
    record.refresh_from_db()
    assert (record.state, record.error) == (State.FAILED, answer.json()["error"])
    assert Event.objects.filter(job=record.job, level=Event.Level.ERROR).exists()
    assert not Event.objects.filter(job=record.job, title__contains="started").exists()


def test_a_job_is_not_claimed_without_its_specification(agent, record, monkeypatch) -> None:
    agent.raise_request_exception = False
    monkeypatch.setattr(claiming, "job_specification", lambda record: {}["missing"])
    assert say(agent, record, "claim").status_code == 500
    record.refresh_from_db()
    assert record.state == State.QUEUED


def test_a_claim_whose_answer_was_lost_is_answered_again_to_the_same_agent(agent, record) -> None:
    first = say(agent, record, "claim", nonce="n1")
    assert say(agent, record, "claim", nonce="n1").json() == first.json()
    assert Event.objects.filter(job=record.job, title__contains="started").count() == 1
    assert say(agent, record, "claim", nonce="n2").status_code == 409
    assert say(agent, record, "claim").status_code == 409
    say(agent, record, "finish", outcome="success", result=RESULT)
    assert say(agent, record, "claim", nonce="n1").status_code == 409
