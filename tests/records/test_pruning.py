"""Space comes back with a prune, once a day at most, after something was forgotten."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from engine.commands.backup import backup
from records.maintenance import request_maintenance, run_maintenance
from records.models import MaintenanceRun, State
from records.pruning import PRUNE_EVERY, request_due_prunes
from records.tasks import housekeep
from storage.models import Repository
from storage.repositories import open_repository
from tests.factories import make_plan

Kind = MaintenanceRun.Kind


@pytest.fixture
def repository(db, tmp_path: Path) -> Repository:
    return make_plan(tmp_path).repository


def forgotten(repository: Repository, **fields) -> None:
    run = request_maintenance(repository, Kind.FORGET)
    MaintenanceRun.objects.filter(pk=run.pk).update(state=State.SUCCESS, end_time=timezone.now(), **fields)


def prunes() -> int:
    return MaintenanceRun.objects.filter(kind=Kind.PRUNE).count()


def test_a_repository_in_which_nothing_was_forgotten_is_left_alone(repository) -> None:
    request_maintenance(repository, Kind.CHECK)
    request_maintenance(repository, Kind.FORGET)
    assert request_due_prunes() == 0


def test_what_was_forgotten_is_pruned_once(repository) -> None:
    forgotten(repository)
    housekeep()
    housekeep()
    assert prunes() == 1


def test_a_repository_is_pruned_again_after_a_day_and_not_before(repository) -> None:
    forgotten(repository)
    assert request_due_prunes() == 1
    forgotten(repository)
    now = timezone.now()
    assert request_due_prunes(now + PRUNE_EVERY - timedelta(minutes=1)) == 0
    assert request_due_prunes(now + PRUNE_EVERY) == 1
    assert request_due_prunes(now + 3 * PRUNE_EVERY) == 0


def test_the_space_of_a_forgotten_snapshot_comes_back(repository, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(range(256)) * 4096)
    opened = open_repository(repository)
    snapshot = backup(opened, [tmp_path / "source"], host="here").snapshot_id
    opened.close()
    forget = request_maintenance(repository, Kind.FORGET, {"snapshots": [snapshot]})
    run_maintenance(forget.pk, 1)
    prune = request_maintenance(repository, Kind.PRUNE)
    run_maintenance(prune.pk, 1)
    prune.refresh_from_db()
    assert prune.state == State.SUCCESS, prune.error
    assert prune.result["packs_deleted"] == 2
    assert prune.result["bytes_deleted"] > 0
