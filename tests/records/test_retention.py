"""Backups go when their hold has ended, or when no keep rule of their plan keeps them, and not before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.models import BackupPlan
from jobs.planning import change_plan, delete_plan
from jobs.recovery import request_recovery
from jobs.retention import apply_retention, preview_retention
from jobs.tasks import apply_retention_task
from records.deleting import undelete_backup_record
from records.models import BackupRecord, Event, MaintenanceRun, RecoveryRecord, State
from tests.factories import make_plan, make_record

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path, hold_type=BackupPlan.HoldType.COUNT, hold_time=2)


@pytest.fixture
def ruled(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path, keep={"daily": 2})


def kept() -> list[BackupRecord]:
    return list(BackupRecord.objects.order_by("pk"))


def record_of(plan: BackupPlan, time: datetime, **fields) -> BackupRecord:
    return make_record(plan, start_time=time, end_time=time, **fields)


def test_a_backup_goes_into_the_trash_when_its_time_is_over_and_it_is_told(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    over = [make_record(plan, hold_until=NOW - timedelta(seconds=number), snapshot=f"{number:064x}") for number in range(2)]
    held = make_record(plan, hold_until=NOW + timedelta(seconds=1))
    for_ever = make_record(plan)
    assert apply_retention(NOW) == 2
    assert kept() == [held, for_ever]
    assert sorted(record.pk for record in BackupRecord.trash.filter(is_let_go=True)) == [record.pk for record in over]
    assert not MaintenanceRun.objects.exists()
    event = Event.objects.get(plan_uuid=plan.uuid)
    assert event.title == f"Backup plan {plan.backup_name} let 2 backups go"
    assert "brought back for 7 days" in event.message
    assert apply_retention(NOW) == 0


def test_the_newest_backups_of_a_plan_stay_by_number(plan, tmp_path) -> None:
    other = make_record(make_plan(tmp_path, hold_type=BackupPlan.HoldType.COUNT, hold_time=1))
    records = [make_record(plan, state=state) for state in (State.SUCCESS, State.WARNINGS, State.SUCCESS, State.SUCCESS)]
    assert apply_retention(NOW) == 2
    assert kept() == [other, *records[2:]]


def test_what_cannot_be_restored_does_not_push_out_what_can(plan) -> None:
    good = make_record(plan)
    bad = [make_record(plan, state=state, snapshot="") for state in (State.FAILED, State.CANCELLED, State.LOST, State.RUNNING)]
    assert apply_retention(NOW) == 0
    assert kept() == [good, *bad]


def test_a_backup_is_held_as_its_plan_said_when_it_ran(plan) -> None:
    old = [make_record(plan) for _ in range(2)]
    change_plan(plan, hold_time=1)
    plan.refresh_from_db()
    new = make_record(plan)
    assert apply_retention(NOW) == 1
    assert kept() == [old[1], new]


def test_a_backup_that_is_being_restored_stays_until_that_is_done(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    record = make_record(plan, hold_until=NOW)
    request_recovery(plan.client, record, '{"destination": "/back"}')
    assert apply_retention(NOW) == 0
    RecoveryRecord.objects.update(state=State.SUCCESS)
    assert apply_retention(NOW) == 1


def test_it_happens_by_itself(db, tmp_path) -> None:
    make_record(make_plan(tmp_path), hold_until=datetime(2020, 1, 1, tzinfo=UTC))
    apply_retention_task()
    assert kept() == []


def test_keep_rules_are_those_of_restic_on_the_clock_of_the_plan(db, tmp_path) -> None:
    plan = make_plan(tmp_path, keep={"daily": 2}, timezone="Asia/Shanghai")
    # 23:30, 00:30 and 07:30 of two days there, all of one day in UTC.
    records = [record_of(plan, datetime(2029, 12, 30, hour, 30, tzinfo=UTC)) for hour in (15, 16, 23)]
    assert apply_retention(NOW) == 1
    assert kept() == [records[0], records[2]]


def test_the_present_rules_judge_the_backups_that_there_are(ruled) -> None:
    records = [record_of(ruled, NOW - timedelta(days=days)) for days in (3, 2, 1)]
    assert apply_retention(NOW) == 1
    change_plan(ruled, keep={"last": 1})
    assert apply_retention(NOW) == 1
    assert kept() == [records[2]]


def test_new_rules_do_not_break_the_promise_of_a_hold_by_time(ruled) -> None:
    promised = record_of(ruled, NOW - timedelta(days=9), hold_until=NOW + timedelta(days=1))
    for_ever = record_of(ruled, NOW - timedelta(days=8))
    newest = [record_of(ruled, NOW - timedelta(days=days)) for days in (2, 1)]
    assert apply_retention(NOW) == 1
    assert kept() == [promised, *newest]
    assert apply_retention(NOW + timedelta(days=2)) == 1
    assert for_ever.pk not in {record.pk for record in kept()}


@pytest.mark.parametrize("how", ["deleted", "held"])
def test_runs_under_rules_stay_under_those_when_the_plan_has_none_any_more(ruled, how) -> None:
    records = [record_of(ruled, NOW - timedelta(days=days)) for days in (3, 2, 1)]
    if how == "deleted":
        delete_plan(ruled)
    else:
        change_plan(ruled, keep={}, hold_type=BackupPlan.HoldType.DAYS, hold_time=1)
    assert apply_retention(NOW) == 1
    assert kept() == records[1:]


def test_what_was_brought_back_stays(ruled) -> None:
    oldest = record_of(ruled, NOW - timedelta(days=3))
    for days in (2, 1):
        record_of(ruled, NOW - timedelta(days=days))
    assert apply_retention(NOW) == 1
    undelete_backup_record(oldest)
    assert apply_retention(NOW) == 0
    assert oldest in kept()


def test_no_rules_let_the_newest_backup_go(db, tmp_path) -> None:
    plan = make_plan(tmp_path, keep={"within": "1h"})
    records = [record_of(plan, NOW - timedelta(days=days)) for days in (300, 200)]
    assert apply_retention(NOW) == 1
    assert kept() == records[1:]


def test_a_preview_says_what_would_go_and_why_the_others_stay_and_changes_nothing(ruled) -> None:
    records = [record_of(ruled, NOW - timedelta(days=days)) for days in (3, 2, 1)]
    shown = preview_retention(ruled, now=NOW)
    assert [(one.record, one.reasons) for one in shown.judged] == [
        (records[2].pk, ("daily snapshot",)),
        (records[1].pk, ("daily snapshot",)),
        (records[0].pk, ()),
    ]
    tried = preview_retention(ruled, {"last": 1, "within": "20h"}, now=NOW)
    assert [one.record for one in tried.go] == [records[1].pk, records[0].pk]
    assert [one.reasons for one in tried.stay] == [("within 20h", "last snapshot")]
    assert kept() == records


def test_without_rules_a_preview_tells_of_holds(plan) -> None:
    gone, held = make_record(plan), make_record(plan)
    for_ever = make_record(plan, backup_detail={"hold_type": 0, "hold_time": 0})
    reasons = {one.record: one.reasons for one in preview_retention(plan, now=NOW).judged}
    assert reasons == {
        gone.pk: (),
        held.pk: ("it is among the newest 2",),
        for_ever.pk: ("it is held for ever",),
    }
