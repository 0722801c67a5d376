"""The tick starts what is due, once; what was missed is made up for as the plan says, and said."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from jobs import dispatch, planning
from jobs.beat import PLAN_TASK, Scheduler
from jobs.models import BackupPlan
from jobs.planning import change_plan, delete_plan, pause_plan, resume_plan
from jobs.scheduling import fire_due_plans
from records.deleting import delete_backup_record
from records.models import BackupRecord, Event, State
from tests.factories import make_plan

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    """A plan that fires every three seconds from noon."""
    return make_plan(tmp_path, cron_expression="0/3 * * * * ?", start_time=NOON)


def finish_all() -> None:
    BackupRecord.objects.filter(state=State.QUEUED).update(state=State.SUCCESS)


def scheduled() -> list[datetime]:
    return list(BackupRecord.objects.order_by("scheduled_at").values_list("scheduled_at", flat=True))


def test_each_fire_starts_one_run(plan) -> None:
    for second in range(60):
        fire_due_plans(NOON + timedelta(seconds=second))
        finish_all()
    assert scheduled() == [NOON + timedelta(seconds=3 * number) for number in range(20)]
    assert not BackupRecord.objects.filter(state=State.CANCELLED).exists()


def test_a_second_scheduler_starts_nothing_more(plan) -> None:
    fire_due_plans(NOON)
    # As if it had read the plan before the first had fired it.
    BackupPlan.objects.update(next_fire_at=NOON)
    fire_due_plans(NOON)
    assert scheduled() == [NOON]


def test_a_tick_that_comes_late_leaves_no_fire_out(plan) -> None:
    fire_due_plans(NOON + timedelta(seconds=7))
    assert scheduled() == [NOON, NOON + timedelta(seconds=3), NOON + timedelta(seconds=6)]
    assert not BackupRecord.objects.filter(is_late=True).exists()


def test_a_fire_that_finds_an_earlier_run_waiting_is_left_out_and_says_so(plan) -> None:
    fire_due_plans(NOON)
    fire_due_plans(NOON + timedelta(seconds=3))
    left_out = BackupRecord.objects.get(scheduled_at=NOON + timedelta(seconds=3))
    assert left_out.state == State.CANCELLED
    assert left_out.error
    assert Event.objects.filter(job=left_out.job).exists()


def test_missed_fires_run_once_late_and_say_so(plan) -> None:
    fire_due_plans(NOON + timedelta(hours=1, seconds=1))
    late = BackupRecord.objects.get(is_late=True)
    assert late.state == State.QUEUED
    assert Event.objects.filter(plan_uuid=plan.uuid, level=Event.Level.WARNING, title__contains="missed").exists()
    plan.refresh_from_db()
    assert plan.next_fire_at > NOON + timedelta(hours=1)


def test_missed_fires_are_skipped_if_the_plan_says_so(tmp_path, db) -> None:
    plan = make_plan(tmp_path, cron_expression="0 0 12 * * ?", start_time=NOON, misfire="skip")
    fire_due_plans(NOON + timedelta(hours=1))
    assert not BackupRecord.objects.exists()
    assert Event.objects.filter(plan_uuid=plan.uuid, title__contains="missed").exists()
    fire_due_plans(NOON + timedelta(days=1))
    assert scheduled() == [NOON + timedelta(days=1)]


def test_a_plan_without_an_expression_runs_once(tmp_path, db) -> None:
    plan = make_plan(tmp_path, cron_expression=None, start_time=NOON)
    fire_due_plans(NOON - timedelta(seconds=1))
    assert scheduled() == []
    fire_due_plans(NOON)
    fire_due_plans(NOON + timedelta(days=1))
    assert scheduled() == [NOON]
    plan.refresh_from_db()
    finish_all()
    assert plan.state == BackupPlan.State.ENDED


def test_a_plan_that_ran_once_does_not_run_again_when_its_record_is_gone_and_it_is_changed(tmp_path, db) -> None:
    plan = make_plan(tmp_path, cron_expression=None, start_time=timezone.now())
    assert fire_due_plans() == 1
    finish_all()
    delete_backup_record(BackupRecord.objects.get())
    change_plan(plan, backup_name="renamed", end_time=NOON)
    assert fire_due_plans() == 0
    later = change_plan(plan, start_time=NOON - timedelta(days=1))
    assert later.next_fire_at == NOON - timedelta(days=1)


def test_a_plan_that_was_to_run_once_while_it_was_paused_does_not_run_when_it_is_resumed(tmp_path, db) -> None:
    plan = pause_plan(make_plan(tmp_path, cron_expression=None, start_time=NOON))
    BackupPlan.objects.update(start_time=timezone.now() - timedelta(hours=1))
    assert resume_plan(plan).next_fire_at is None
    change_plan(plan, end_time=NOON)
    assert fire_due_plans() == 0


def test_nothing_fires_after_the_end(tmp_path, db) -> None:
    make_plan(tmp_path, cron_expression="0/3 * * * * ?", start_time=NOON, end_time=NOON + timedelta(seconds=4))
    for second in range(20):
        fire_due_plans(NOON + timedelta(seconds=second))
        finish_all()
    assert scheduled() == [NOON, NOON + timedelta(seconds=3)]


def test_a_paused_plan_does_not_fire_and_makes_nothing_up_for_it(plan) -> None:
    pause_plan(plan)
    fire_due_plans(NOON + timedelta(seconds=30))
    assert scheduled() == []
    resumed = resume_plan(plan)
    assert resumed.next_fire_at == NOON


def test_the_time_zone_is_the_plans(tmp_path, db) -> None:
    plan = make_plan(tmp_path, cron_expression="0 0 3 * * ?", timezone="Asia/Shanghai", start_time=NOON)
    assert plan.next_fire_at == datetime(2030, 1, 1, 19, tzinfo=UTC)


def test_the_schedule_shows_among_the_periodic_tasks_and_beat_leaves_it_alone(plan) -> None:
    row = PeriodicTask.objects.get(task=PLAN_TASK)
    assert plan.backup_name in row.name
    assert "0/3 * * * * ?" in row.description
    assert row.clocked.clocked_time == NOON
    row.full_clean()
    fire_due_plans(NOON)
    row.refresh_from_db()
    assert row.clocked.clocked_time == NOON + timedelta(seconds=3)
    assert PLAN_TASK not in set(Scheduler.enabled_models_qs(Scheduler.__new__(Scheduler)).values_list("task", flat=True))
    change_plan(plan, cron_expression="0/5 * * * * ?")
    assert "0/5" in PeriodicTask.objects.get(task=PLAN_TASK).description
    delete_plan(plan)
    assert not PeriodicTask.objects.filter(task=PLAN_TASK).exists()


def test_a_plan_is_deleted_though_its_run_ends_at_that_moment(plan, monkeypatch) -> None:
    fire_due_plans(NOON)
    cancel = planning.cancel_job

    def ended_first(record, reason) -> None:
        finish_all()
        cancel(record, reason)

    monkeypatch.setattr(planning, "cancel_job", ended_first)
    delete_plan(plan)
    assert not BackupPlan.objects.exists()
    assert BackupRecord.objects.get().state == State.SUCCESS


def test_a_plan_that_cannot_fire_is_told_and_keeps_no_other_from_firing(plan, tmp_path) -> None:
    other = make_plan(tmp_path, cron_expression="0/3 * * * * ?", start_time=NOON)
    BackupPlan.objects.filter(pk=plan.pk).update(timezone="Mars/Olympus")
    assert fire_due_plans(NOON) == 1
    assert BackupRecord.objects.get().plan_uuid == other.uuid
    assert Event.objects.filter(plan_uuid=plan.uuid, level=Event.Level.ERROR, title__contains="could not start").count() == 1
    plan.refresh_from_db()
    assert plan.next_fire_at > NOON
    assert change_plan(plan, timezone="UTC").next_fire_at == NOON


@pytest.fixture
def due(db, tmp_path: Path) -> BackupPlan:
    """A plan of which a fire is due that no tick has seen yet."""
    plan = make_plan(tmp_path, cron_expression="0 0 3 * * ?")
    plan.next_fire_at = timezone.now() - timedelta(seconds=1)
    plan.save()
    return plan


def test_a_change_that_leaves_the_schedule_alone_takes_no_fire_away(due) -> None:
    fire = due.next_fire_at
    assert change_plan(due, backup_name="renamed", cron_expression=due.cron_expression).next_fire_at == fire
    fire_due_plans()
    assert scheduled() == [fire]


def test_a_new_schedule_starts_what_was_due_by_the_old_one(due) -> None:
    fire = due.next_fire_at
    changed = change_plan(due, cron_expression="0 0 4 * * ?")
    assert scheduled() == [fire]
    assert changed.next_fire_at.hour == 4


def test_resuming_a_plan_that_is_not_paused_changes_nothing(due) -> None:
    assert resume_plan(due).next_fire_at == due.next_fire_at


def test_the_settings_name_the_scheduler_that_leaves_plans_alone() -> None:
    assert settings.CELERY_BEAT_SCHEDULER == "jobs.beat:Scheduler"


def test_runs_begin_within_the_plans_jitter_and_its_window_shows(tmp_path, db, api) -> None:
    plans = [make_plan(tmp_path, cron_expression="0 0 12 * * ?", start_time=NOON, jitter_s=600) for _ in range(20)]
    shown = api("viewer").get(f"/api/backup/{plans[0].uuid}/next?count=1").json()
    noon = int(NOON.timestamp())
    assert shown["next"] == [noon]
    window = shown["windows"][0]
    assert (window["earliest"], window["latest"]) == (noon, noon + 600)
    fire_due_plans(NOON)
    begin = dict(BackupRecord.objects.values_list("plan_uuid", "not_before"))
    assert begin[plans[0].uuid].timestamp() == window["planned"]
    assert all(NOON <= moment <= NOON + timedelta(seconds=600) for moment in begin.values())
    assert len(set(begin.values())) > 10
    assert scheduled() == [NOON] * 20
    assert api("operator").put(f"/api/backup/{plans[0].uuid}", {"jitter_s": 86_401}, format="json").status_code == 400


def test_a_tick_takes_as_many_queries_for_twenty_plans_as_for_one(tmp_path, db) -> None:
    # The first tick of all makes the row by which rounds come one after the other.
    for hour, plans in ((12, 1), (13, 1), (14, 20)):
        for _ in range(plans):
            make_plan(tmp_path, cron_expression=f"0 0 {hour} * * ?", start_time=NOON)
        with CaptureQueriesContext(connection) as queries:
            assert fire_due_plans(NOON + timedelta(hours=hour - 12)) == plans
        if hour == 13:
            one = len(queries)
    assert len(queries) == one


def test_one_plan_that_cannot_fire_keeps_no_other_of_its_tick_from_firing(plan, tmp_path, monkeypatch) -> None:
    broken = make_plan(tmp_path, cron_expression="0/3 * * * * ?", start_time=NOON)
    real = dispatch.plan_detail
    monkeypatch.setattr(dispatch, "plan_detail", lambda each: 1 / 0 if each.pk == broken.pk else real(each))
    assert fire_due_plans(NOON) == 1
    assert BackupRecord.objects.get().plan_uuid == plan.uuid
    broken.refresh_from_db()
    assert broken.next_fire_at > NOON
    assert Event.objects.filter(plan_uuid=broken.uuid, level=Event.Level.ERROR).exists()
