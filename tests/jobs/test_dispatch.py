"""A job's number reaches its client's queue once it is offered, sooner or later; the message carries nothing else."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from celery import Celery
from django.utils import timezone
from kombu.exceptions import BatchPublishError
from kombu.transport.redis import PublishBatch
from rest_framework.test import APIClient

from backupcenter.celery import app as server_app
from clients.models import Client
from jobs.dispatch import publish
from jobs.models import BackupPlan
from jobs.offering import offer_jobs, publish_offered, withdraw_offers
from jobs.planning import run_plan
from records.models import BackupRecord, State
from records.publishing import BUSY_FACTOR
from tests.factories import agent_token, make_client, make_plan, make_record


@pytest.fixture
def broker(redis_url):
    """A broker that answers, in the place of the one that does not."""
    redis.Redis.from_url(redis_url).flushdb()
    Celery("test", broker=redis_url, set_as_current=True)
    yield redis.Redis.from_url(redis_url)
    server_app.set_current()


@pytest.fixture
def record(db, tmp_path: Path) -> BackupRecord:
    """A run that was offered to its client, which is there; nothing published it yet."""
    record = run_plan(make_plan(tmp_path, client=make_client(last_seen=timezone.now())))
    assert offer_jobs() == 1
    return BackupRecord.objects.select_related("client").get(pk=record.pk)


def messages(broker, record) -> list[list]:
    bodies = [json.loads(raw)["body"] for raw in broker.lrange(record.client.queue, 0, -1)]
    return [json.loads(base64.b64decode(body))[0] for body in bodies]


def test_the_message_names_job_and_attempt_and_nothing_else(record, broker) -> None:
    assert publish([record]) == 1
    assert messages(broker, record) == [[{"job": record.job, "attempt": 1}]]
    record.refresh_from_db()
    assert record.published_at is not None


def test_what_a_round_offers_is_one_request_of_the_broker(record, broker, monkeypatch) -> None:
    # The queue is declared with the first message.
    publish([record])
    requests: list[object] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def count(self, command, *arguments, **options):
        requests.append(command)
        return send(self, command, *arguments, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", count)
    assert publish([record] * 50) == 50
    assert 1 <= len(requests) <= 3
    assert len(messages(broker, record)) == 51


def test_offers_go_out_though_the_broker_has_cut_the_connection(record, broker) -> None:
    publish([record])
    broker.client_kill_filter(_type="normal", skipme=True)
    assert publish([record] * 3) == 3
    assert len(messages(broker, record)) >= 4


def test_a_broker_that_goes_away_has_nothing_count_as_published(record, broker, monkeypatch) -> None:
    publish([record])
    BackupRecord.objects.update(published_at=None)

    def refuse(self) -> None:
        raise BatchPublishError

    monkeypatch.setattr(PublishBatch, "flush", refuse)
    assert publish([record] * 3) == 0
    record.refresh_from_db()
    assert record.published_at is None


def test_a_broker_that_is_away_costs_nothing_but_time(record) -> None:
    assert publish([record]) == 0
    record.refresh_from_db()
    assert record.published_at is None
    assert record.state == State.QUEUED


def test_an_offer_that_was_not_published_is_so_by_the_watchdog(record, broker) -> None:
    later = timezone.now() + timedelta(seconds=2)
    assert publish_offered(later) == 1
    assert publish_offered(later) == 0
    assert len(messages(broker, record)) == 1


def test_an_offer_that_nobody_takes_ends_and_is_made_again(record, broker, settings) -> None:
    publish([record])
    later = timezone.now() + timedelta(seconds=settings.JOB_REPUBLISH_S + 1)
    assert withdraw_offers() == 0
    assert withdraw_offers(later) == 1
    assert offer_jobs(later) == 1
    publish_offered(later + timedelta(seconds=2))
    assert len(messages(broker, record)) == 2


def test_an_offer_to_a_client_that_falls_silent_ends_and_is_made_again_when_it_is_back(record, settings) -> None:
    later = timezone.now() + timedelta(seconds=settings.CLIENT_OFFLINE_S + 1)
    assert withdraw_offers(later) == 1
    assert offer_jobs(later) == 0
    Client.objects.update(last_seen=later)
    assert offer_jobs(later) == 1


def test_a_run_waits_for_the_run_of_its_plan_before_it_and_is_offered_when_that_ends(record, broker) -> None:
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(record.client)}")

    def say(run: BackupRecord, step: str, **more) -> int:
        return agent.post(f"/api/agent/job/{run.job}/{step}", {"attempt": 1, **more}, format="json").status_code

    assert say(record, "claim") == 200
    second = run_plan(BackupPlan.objects.get())
    assert offer_jobs() == 0
    assert say(second, "claim") == 409
    second.refresh_from_db()
    assert second.state == State.QUEUED
    other = run_plan(make_plan(Path(record.repository.tenant.endpoint.address), client=record.client))
    assert say(other, "claim") == 200
    assert say(record, "finish", outcome="failed", error="no space") == 200
    second.refresh_from_db()
    assert second.offered_at is not None
    assert say(second, "claim") == 200


def test_an_offer_to_a_client_at_work_ends_later(record, broker, settings) -> None:
    publish([record])
    make_record(BackupPlan.objects.get(), state=State.RUNNING)

    def after(seconds: float) -> int:
        moment = timezone.now() + timedelta(seconds=seconds)
        Client.objects.update(last_seen=moment)
        return withdraw_offers(moment)

    assert after(settings.JOB_REPUBLISH_S + 1) == 0
    assert after(settings.JOB_REPUBLISH_S * BUSY_FACTOR + 1) == 1
