"""Backups go when their hold has ended, as their plan said when they ran, and not before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.models import BackupPlan
from jobs.planning import change_plan
from jobs.recovery import request_recovery
from records.models import BackupRecord, Event, MaintenanceRun, RecoveryRecord, State
from records.retention import forget_expired
from records.tasks import housekeep
from tests.factories import make_plan, make_record

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path, hold_type=BackupPlan.HoldType.COUNT, hold_time=2)


def kept() -> list[BackupRecord]:
    return list(BackupRecord.objects.order_by("pk"))


def test_a_backup_goes_with_its_snapshot_when_its_time_is_over_and_it_is_told(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    over = [make_record(plan, hold_until=NOW - timedelta(seconds=number), snapshot=f"{number:064x}") for number in range(2)]
    held = make_record(plan, hold_until=NOW + timedelta(seconds=1))
    for_ever = make_record(plan)
    assert forget_expired(NOW) == 2
    assert kept() == [held, for_ever]
    run = MaintenanceRun.objects.get()
    assert (run.kind, run.repository) == (MaintenanceRun.Kind.FORGET, plan.repository)
    assert run.arguments == {"snapshots": [record.snapshot for record in over]}
    assert Event.objects.get(plan_uuid=plan.uuid).title == f"Backup plan {plan.backup_name} let 2 backups go"
    assert forget_expired(NOW) == 0


def test_the_newest_backups_of_a_plan_stay_by_number(plan, tmp_path) -> None:
    other = make_record(make_plan(tmp_path, hold_type=BackupPlan.HoldType.COUNT, hold_time=1))
    records = [make_record(plan, state=state) for state in (State.SUCCESS, State.WARNINGS, State.SUCCESS, State.SUCCESS)]
    assert forget_expired(NOW) == 2
    assert kept() == [other, *records[2:]]


def test_what_cannot_be_restored_does_not_push_out_what_can(plan) -> None:
    good = make_record(plan)
    bad = [make_record(plan, state=state, snapshot="") for state in (State.FAILED, State.CANCELLED, State.LOST, State.RUNNING)]
    assert forget_expired(NOW) == 0
    assert kept() == [good, *bad]


def test_a_backup_is_held_as_its_plan_said_when_it_ran(plan) -> None:
    old = [make_record(plan) for _ in range(2)]
    change_plan(plan, hold_time=1)
    plan.refresh_from_db()
    new = make_record(plan)
    assert forget_expired(NOW) == 1
    assert kept() == [old[1], new]


def test_a_backup_that_is_being_restored_stays_until_that_is_done(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    record = make_record(plan, hold_until=NOW)
    request_recovery(plan.client, record, '{"destination": "/back"}')
    assert forget_expired(NOW) == 0
    RecoveryRecord.objects.update(state=State.SUCCESS)
    assert forget_expired(NOW) == 1


def test_housekeeping_lets_backups_go(db, tmp_path) -> None:
    make_record(make_plan(tmp_path), hold_until=datetime(2020, 1, 1, tzinfo=UTC))
    housekeep()
    assert kept() == []
