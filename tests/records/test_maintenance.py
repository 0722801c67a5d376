"""Maintenance runs: given to a control worker, once, and not lost over a lock, a database or a fault."""

import itertools
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from engine.errors import BucketMissing, LockLost, StoreUnreachable
from jobs.watchdog import watch
from records import maintenance, publishing
from records.maintenance import request_maintenance, run_maintenance
from records.models import Event, MaintenanceRun, State
from storage.models import Repository
from storage.repositories import open_repository
from tests.factories import make_plan

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


def test_two_runs_of_one_repository_come_one_after_the_other(repository, sent) -> None:
    first, second = (request_maintenance(repository, Kind.CHECK) for _ in range(2))
    MaintenanceRun.objects.filter(pk=first.pk).update(state=State.RUNNING, lease_until=timezone.now() + timedelta(minutes=1))
    run_maintenance(second.pk, 1)
    second.refresh_from_db()
    assert (second.state, second.attempt) == (State.QUEUED, 1)
    assert second.not_before > timezone.now()
    MaintenanceRun.objects.filter(pk=first.pk).update(state=State.SUCCESS)
    run_maintenance(second.pk, 1)
    second.refresh_from_db()
    assert (second.state, second.error) == (State.SUCCESS, "")


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


def test_a_run_whose_repository_is_in_use_waits_and_costs_no_attempt(repository, sent) -> None:
    run = request_maintenance(repository, Kind.FORGET, {"snapshots": ["b" * 64]})
    opened = open_repository(repository)
    with opened.lock():
        for _ in range(2):
            run_maintenance(run.pk, 1)
            run.refresh_from_db()
            assert (run.state, run.attempt, run.lease_until) == (State.QUEUED, 1, None)
            assert "locked" in run.error
    told = Event.objects.filter(topic=Event.Topic.MAINTENANCE)
    assert [event.level for event in told] == [Event.Level.WARNING]
    age(2)
    watch()
    assert sent == []
    MaintenanceRun.objects.update(not_before=timezone.now())
    watch()
    assert sent == [[run.pk, 1]]
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert (run.state, run.error) == (State.SUCCESS, "")


@pytest.mark.parametrize(
    ("kind", "failure", "state"),
    [
        (Kind.FORGET, LockLost("renewed too late"), State.QUEUED),
        (Kind.FORGET, StoreUnreachable("nothing answers"), State.QUEUED),
        (Kind.FORGET, BucketMissing("no such bucket"), State.FAILED),
        (Kind.CHECK, StoreUnreachable("nothing answers"), State.FAILED),
    ],
)
def test_what_is_to_be_forgotten_waits_for_its_store(repository, monkeypatch, kind, failure, state) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(maintenance, "forget", fail)
    monkeypatch.setattr(maintenance, "check", fail)
    run = request_maintenance(repository, kind, {"snapshots": ["b" * 64]})
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert (run.state, run.error) == (state, str(failure))
    assert (run.not_before is not None) == (state == State.QUEUED)


@pytest.mark.django_db(transaction=True)
def test_an_outcome_waits_for_a_database_that_is_away(repository, monkeypatch) -> None:
    finish, tried = maintenance._finish, []

    def fail_first(*arguments: Any) -> None:
        tried.append(arguments)
        if len(tried) < 3:
            raise OperationalError("the server closed the connection")
        finish(*arguments)

    monkeypatch.setattr(maintenance, "_finish", fail_first)
    monkeypatch.setattr(maintenance, "PERSIST_EVERY_S", 0)
    run = request_maintenance(repository, Kind.CHECK)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert (run.state, run.attempt, len(tried)) == (State.SUCCESS, 1, 3)


def test_a_run_whose_work_missed_the_database_is_done_again_later(repository, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OperationalError("secret")

    monkeypatch.setattr(maintenance, "check", fail)
    run = request_maintenance(repository, Kind.CHECK)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert (run.state, run.attempt, run.error) == (State.QUEUED, 1, "OperationalError; the control worker's log says more.")
    assert run.not_before is not None


def test_a_fault_of_ours_fails_the_run_and_leaves_its_text_to_the_log(repository, monkeypatch, caplog) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(maintenance, "check", fail)
    run = request_maintenance(repository, Kind.CHECK)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "ZeroDivisionError" in run.error
    assert "secret" not in run.error
    assert "secret" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_once_does_not_end_the_renewing_of_a_lease(tmp_path, monkeypatch) -> None:
    run = request_maintenance(make_plan(tmp_path).repository, Kind.CHECK)
    renewals = itertools.count()
    renewed = threading.Event()

    class Rows:
        def update(self, **fields: object) -> int:
            if next(renewals) == 0:
                raise OperationalError("the server closed the connection")
            renewed.set()
            return 1

    monkeypatch.setattr(maintenance, "RENEW_EVERY_S", 0.01)
    monkeypatch.setattr(MaintenanceRun.objects, "filter", lambda **conditions: Rows())
    with maintenance._Lease(run.pk, 1):
        assert renewed.wait(10)


def test_a_run_that_is_to_be_done_cannot_be_deleted_in_the_console(repository, account) -> None:
    browser = Browser()
    browser.force_login(account("administrator"))
    queued, done = (request_maintenance(repository, Kind.CHECK) for _ in range(2))
    MaintenanceRun.objects.filter(pk=done.pk).update(state=State.SUCCESS)
    address = reverse("admin:records_maintenancerun_changelist")
    for run in (queued, done):
        browser.post(address, {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"})
    assert list(MaintenanceRun.objects.all()) == [queued]
    assert browser.post(reverse("admin:records_maintenancerun_delete", args=[queued.pk]), {"post": "yes"}).status_code == 403
