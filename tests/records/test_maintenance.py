"""Maintenance runs: given to a control worker, once, and not lost over a lock, a database or a fault."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from jobs.watchdog import watch
from records import publishing
from records.deleting import delete_backup_record
from records.maintenance import request_maintenance
from records.models import MaintenanceRun, State
from storage.models import Repository
from tests.factories import make_plan, make_record

Kind = MaintenanceRun.Kind


@pytest.fixture
def repository(db, tmp_path: Path) -> Repository:
    return make_plan(tmp_path).repository


@pytest.fixture
def sent(monkeypatch) -> list[list[object]]:
    """What is put on the queue of control workers."""
    messages: list[list[object]] = []
    monkeypatch.setattr(publishing, "send", lambda task, arguments, queue: messages.append(arguments) or True)
    return messages


def age(seconds: float) -> None:
    then = timezone.now() - timedelta(seconds=seconds)
    MaintenanceRun.objects.update(queued_at=then)
    MaintenanceRun.objects.filter(published_at__isnull=False).update(published_at=then)


def test_deleting_a_record_gives_the_forgetting_to_a_worker_at_once(
    db, tmp_path, sent, django_capture_on_commit_callbacks
) -> None:
    record = make_record(make_plan(tmp_path))
    with django_capture_on_commit_callbacks(execute=True):
        delete_backup_record(record)
    run = MaintenanceRun.objects.get()
    assert sent == [[run.pk, 1]]
    assert run.published_at is not None


def test_what_never_reached_its_queue_is_published_by_the_watchdog_once(repository, sent) -> None:
    run = request_maintenance(repository, Kind.CHECK)
    age(2)
    for _ in range(3):
        watch()
    assert sent == [[run.pk, 1]]


def test_what_nobody_takes_is_published_again_and_seldom_while_a_worker_is_busy(repository, sent, settings) -> None:
    request_maintenance(repository, Kind.CHECK)
    busy = request_maintenance(repository, Kind.CHECK)
    age(2)
    watch()
    assert len(sent) == 2
    age(settings.JOB_REPUBLISH_S + 1)
    rows = MaintenanceRun.objects.filter(pk=busy.pk)
    rows.update(state=State.RUNNING, lease_until=timezone.now() + timedelta(hours=1))
    watch()
    assert len(sent) == 2
    rows.update(state=State.SUCCESS)
    watch()
    assert len(sent) == 3
