"""Once a day a repository forgets what was deleted long enough ago, and gives its space back if that pays."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from engine.commands.backup import backup
from engine.commands.snapshots import list_snapshots
from engine.pruning import ByteCounts
from jobs.models import BackupPlan
from records import maintenance
from records.deleting import delete_backup_record
from records.maintenance import request_maintenance, run_maintenance
from records.models import BackupRecord, Event, MaintenanceRun, RecoveryRecord, State
from records.pruning import pays
from records.tasks import housekeep
from records.upkeep import EVERY, request_due_maintenance
from storage.repositories import open_repository
from tests.factories import make_plan, make_record

Kind = MaintenanceRun.Kind
GRACE = timedelta(days=7)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def deleted(plan: BackupPlan, ago: timedelta = GRACE, **fields) -> BackupRecord:
    return make_record(plan, deleted_at=timezone.now() - ago, **fields)


def backed_up(plan: BackupPlan, directory: Path, size: int) -> BackupRecord:
    """A record of the plan with a snapshot of random content of its own."""
    directory.mkdir()
    (directory / "content").write_bytes(os.urandom(size))
    opened = open_repository(plan.repository)
    snapshot = backup(opened, [directory], host="here").snapshot_id
    opened.close()
    assert snapshot
    return make_record(plan, snapshot=snapshot)


def done(run: MaintenanceRun) -> MaintenanceRun:
    run_maintenance(run.pk, run.attempt)
    run.refresh_from_db()
    return run


def snapshots(plan: BackupPlan) -> list[str]:
    opened = open_repository(plan.repository)
    return [snapshot.id for snapshot in list_snapshots(opened)]


def test_what_was_deleted_is_forgotten_when_its_grace_is_over_and_not_before(plan, tmp_path) -> None:
    old, young = (deleted(plan, ago, snapshot=letter * 64) for ago, letter in ((GRACE, "a"), (GRACE - timedelta(minutes=1), "b")))
    unsuccessful = deleted(plan, state=State.FAILED, snapshot="")
    other = deleted(make_plan(tmp_path), snapshot="c" * 64)
    assert request_due_maintenance() == 2
    assert list(BackupRecord.trash.all()) == [young]
    asked = {run.repository_id: run.arguments["snapshots"] for run in MaintenanceRun.objects.filter(kind=Kind.MAINTENANCE)}
    assert asked == {plan.repository_id: ["a" * 64], other.repository_id: ["c" * 64]}
    assert not BackupRecord._base_manager.filter(pk__in=[old.pk, unsuccessful.pk]).exists()


def test_the_grace_is_a_setting(plan, settings) -> None:
    settings.TRASH_DAYS = 0
    delete_backup_record(make_record(plan))
    housekeep()
    assert MaintenanceRun.objects.filter(kind=Kind.MAINTENANCE).count() == 1


def test_the_history_of_recoveries_outlives_what_was_forgotten(api, plan) -> None:
    record = deleted(plan)
    recovery = RecoveryRecord.objects.create(backup_record=record, backup_record_detail={"id": record.pk}, state=State.SUCCESS)
    request_due_maintenance()
    assert api("viewer").get(f"/api/record/recovery/{recovery.pk}").json()["backup_record"] == {"id": record.pk}


def test_a_repository_has_one_run_a_day_and_none_without_something_to_do(plan) -> None:
    assert request_due_maintenance() == 0
    deleted(plan)
    assert request_due_maintenance() == 1
    deleted(plan)
    now = timezone.now()
    assert request_due_maintenance(now + EVERY - timedelta(minutes=1)) == 0
    assert request_due_maintenance(now + EVERY) == 1
    MaintenanceRun.objects.update(state=State.SUCCESS, end_time=now + EVERY)
    assert request_due_maintenance(now + 3 * EVERY) == 0


@pytest.mark.parametrize("state", [State.FAILED, State.LOST])
def test_what_a_run_that_failed_was_to_forget_goes_on_to_the_next(plan, state) -> None:
    deleted(plan, snapshot="a" * 64)
    request_due_maintenance()
    MaintenanceRun.objects.update(state=state, end_time=timezone.now())
    assert request_due_maintenance() == 0
    assert request_due_maintenance(timezone.now() + EVERY) == 1
    assert MaintenanceRun.objects.get(state=State.QUEUED).arguments == {"snapshots": ["a" * 64]}
    MaintenanceRun.objects.filter(state=State.QUEUED).update(state=State.SUCCESS, end_time=timezone.now() + EVERY)
    assert request_due_maintenance(timezone.now() + 3 * EVERY) == 0


def test_a_run_forgets_and_gives_the_space_back_and_says_how_much(plan, tmp_path) -> None:
    gone, stays = backed_up(plan, tmp_path / "gone", 3 << 20), backed_up(plan, tmp_path / "stays", 1 << 20)
    BackupRecord.objects.filter(pk=gone.pk).update(deleted_at=timezone.now() - GRACE)
    request_due_maintenance()
    run = done(MaintenanceRun.objects.get())
    assert (run.state, run.error) == (State.SUCCESS, "")
    assert snapshots(plan) == [stays.snapshot]
    assert (run.result["is_pruned"], run.result["snapshots_forgotten"]) == (True, 1)
    assert run.result["bytes_deleted"] - run.result["bytes_added"] >= 3 << 20
    assert "were freed" in Event.objects.get(topic=Event.Topic.MAINTENANCE).message


def test_too_little_is_left_where_it_is_until_it_is_more(plan, tmp_path, monkeypatch) -> None:
    # Random content of 4 MB, of which a hundredth is too little to look at twice.
    gone, _stays = backed_up(plan, tmp_path / "gone", 10_000), backed_up(plan, tmp_path / "stays", 4 << 20)
    BackupRecord.objects.filter(pk=gone.pk).update(deleted_at=timezone.now() - GRACE)
    request_due_maintenance()
    run = done(MaintenanceRun.objects.get())
    assert (run.state, run.result["is_pruned"], run.result["bytes_deleted"]) == (State.SUCCESS, False, 0)
    assert 10_000 < run.result["bytes_unused"] < 20_000
    assert "too little to prune" in Event.objects.get(topic=Event.Topic.MAINTENANCE).message
    asked = done(request_maintenance(plan.repository, Kind.PRUNE))
    assert asked.result["is_pruned"]
    assert asked.result["bytes_deleted"] > 10_000


def test_a_run_whose_worker_died_between_forgetting_and_pruning_is_done_again(plan, tmp_path, monkeypatch) -> None:
    gone, stays = backed_up(plan, tmp_path / "gone", 3 << 20), backed_up(plan, tmp_path / "stays", 1 << 20)
    BackupRecord.objects.filter(pk=gone.pk).update(deleted_at=timezone.now() - GRACE)
    request_due_maintenance()

    def die(*arguments: object, **options: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "prune", die)
        with pytest.raises(SystemExit):
            run_maintenance(MaintenanceRun.objects.get().pk, 1)
    assert snapshots(plan) == [stays.snapshot]
    MaintenanceRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert maintenance.lose_expired_runs() == 1
    run = done(MaintenanceRun.objects.get())
    assert (run.state, run.attempt, run.result["is_pruned"]) == (State.SUCCESS, 2, True)


@pytest.mark.parametrize(
    ("total", "removed", "rewritten", "expected"),
    [
        (10_000, 0, 0, False),
        (10_000, 99, 0, False),
        (10_000, 100, 0, True),
        (10_000, 100, 500, True),
        (10_000, 100, 501, False),
        (10_000, 1_600, 6_400, True),
        (0, 0, 0, False),
    ],
)
def test_a_prune_pays_by_what_it_gives_back_for_what_it_writes_again(total, removed, rewritten, expected) -> None:
    sizes = ByteCounts(
        used=total - removed,
        duplicate=0,
        unused=removed,
        unreferenced=0,
        total=total,
        repack=rewritten + removed,
        repack_remove=removed,
        remove=0,
        remove_total=removed,
        remaining=total - removed,
        remaining_unused=0,
    )
    assert pays(sizes) is expected
