"""A job's number reaches its client's queue, sooner or later; the message carries nothing else."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery
from django.utils import timezone
from rest_framework.test import APIClient

from backupcenter.celery import app as server_app
from clients.models import Client
from jobs.dispatch import publish, publish_waiting
from jobs.models import BackupPlan
from jobs.planning import run_plan
from records.models import BackupRecord, State
from records.publishing import BUSY_FACTOR
from tests.factories import make_plan, make_record


@pytest.fixture
def broker(redis_url):
    """A broker that answers, in the place of the one that does not."""
    redis.Redis.from_url(redis_url).flushdb()
    Celery("test", broker=redis_url, set_as_current=True)
    yield redis.Redis.from_url(redis_url)
    server_app.set_current()


@pytest.fixture
def record(db, tmp_path: Path) -> BackupRecord:
    return run_plan(make_plan(tmp_path))


def messages(broker, record) -> list[list]:
    bodies = [json.loads(raw)["body"] for raw in broker.lrange(record.client.queue, 0, -1)]
    return [json.loads(base64.b64decode(body))[0] for body in bodies]


def test_the_message_names_job_and_attempt_and_nothing_else(record, broker) -> None:
    assert publish([record]) == 1
    assert messages(broker, record) == [[{"job": record.job, "attempt": 1}]]
    record.refresh_from_db()
    assert record.published_at is not None


def test_a_broker_that_is_away_costs_nothing_but_time(record) -> None:
    assert publish([record]) == 0
    record.refresh_from_db()
    assert record.published_at is None
    assert record.state == 1


def test_what_waits_is_published_by_the_watchdog(record, broker) -> None:
    later = timezone.now() + timedelta(seconds=2)
    assert publish_waiting(later) == 1
    assert publish_waiting(later) == 0
    assert len(messages(broker, record)) == 1


def test_what_nobody_claims_is_published_again_once_its_client_is_there(record, broker, settings) -> None:
    publish([record])
    much_later = timezone.now() + timedelta(seconds=settings.JOB_REPUBLISH_S + 1)
    assert publish_waiting(much_later) == 0
    record.client.last_seen = much_later
    record.client.save()
    assert publish_waiting(much_later) == 1


def test_a_run_waits_for_the_run_of_its_plan_before_it_and_is_published_when_that_ends(record, broker) -> None:
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {record.client.issue_token()}")

    def say(run: BackupRecord, step: str, **more) -> int:
        return agent.post(f"/api/agent/job/{run.job}/{step}", {"attempt": 1, **more}, format="json").status_code

    assert say(record, "claim") == 200
    second = run_plan(BackupPlan.objects.get())
    assert say(second, "claim") == 409
    second.refresh_from_db()
    assert second.state == State.QUEUED
    other = run_plan(make_plan(Path(record.repository.tenant.endpoint.address), client=record.client))
    assert say(other, "claim") == 200
    assert say(record, "finish", outcome="failed", error="no space") == 200
    assert [{"job": second.job, "attempt": 1}] in messages(broker, record)
    assert say(second, "claim") == 200


def test_what_waits_for_a_client_at_work_is_published_again_seldom(record, broker, settings) -> None:
    publish([record])
    working = make_record(BackupPlan.objects.get(), state=State.RUNNING)

    def after(seconds: float) -> int:
        moment = timezone.now() + timedelta(seconds=seconds)
        Client.objects.update(last_seen=moment)
        return publish_waiting(moment)

    assert after(settings.JOB_REPUBLISH_S + 1) == 0
    assert after(settings.JOB_REPUBLISH_S * BUSY_FACTOR + 1) == 1
    working.delete()
    assert after(settings.JOB_REPUBLISH_S + 1) == 1
