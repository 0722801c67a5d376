"""What follows from a job's new state and fails: the job goes on, and people see what is missing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from records.following import job_changed
from records.lifecycle import claim_job, finish_job
from records.models import BackupRecord, Event, State
from records.notifying.models import Channel, Delivery, Rule
from tests.factories import make_plan, make_record

pytestmark = pytest.mark.django_db


@pytest.fixture
def record(tmp_path) -> BackupRecord:
    return make_record(make_plan(tmp_path), state=State.QUEUED, offered_at=timezone.now())


@pytest.fixture
def follower() -> Iterator[Callable[..., None]]:
    """One who follows jobs, and cannot."""

    def fail(**_told: Any) -> None:
        raise RuntimeError("s3cr3t of the fault")

    job_changed.connect(fail)
    yield fail
    job_changed.disconnect(fail)


@contextmanager
def refusing(statement: str) -> Iterator[None]:
    """Have the database refuse the statements that begin like this one."""

    def refuse(execute, sql, *arguments):
        if sql.startswith(statement):
            raise OperationalError("the disk is full")
        return execute(sql, *arguments)

    with connection.execute_wrapper(refuse):
        yield


def test_a_follower_that_fails_keeps_no_job_from_going_on_and_is_told_as_an_event(record, follower):
    claim_job(record, 1)
    record.refresh_from_db()
    assert record.state == State.RUNNING
    event = Event.objects.get(title__startswith="What follows from")
    assert (event.level, event.job) == (Event.Level.ERROR, record.job)
    assert "RuntimeError" in event.message
    assert "s3cr3t" not in event.message


def test_an_event_that_cannot_be_told_on_any_channel_is_stored_and_says_so(record):
    channel = Channel.objects.create(name="people", address="json://127.0.0.1/")
    Rule.objects.create(name="all", occasions=["failed"]).channels.set([channel])
    claim_job(record, 1)
    with refusing('INSERT INTO "records_delivery"'):
        finish_job(record, 1, "failed", error="no room")
    failed, silent = Event.objects.filter(job=record.job, level=Event.Level.ERROR).order_by("pk")
    assert failed.message == "no room"
    assert silent.title == f"Nobody was notified of: {failed.title}"
    assert "OperationalError" in silent.message
    assert not Delivery.objects.exists()


def test_a_rule_that_cannot_be_reckoned_with_loses_no_event_and_fails_no_job(record):
    channel = Channel.objects.create(name="people", address="json://127.0.0.1/")
    Rule.objects.create(name="all", occasions=["failed"], timezone="Gone/Away").channels.set([channel])
    claim_job(record, 1)
    finish_job(record, 1, "failed", error="no room")
    assert Event.objects.filter(title__startswith="Nobody was notified of", plan_uuid=record.plan_uuid).exists()
