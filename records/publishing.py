"""Putting work on the broker's queues. A message carries numbers only; what they stand for is claimed from the database.

So a message that is lost is sent again, one that comes twice does no harm, and while Redis is away the work waits.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from kombu.exceptions import BatchPublishError, OperationalError

from backupcenter.logs import about_job
from backupcenter.tracing import sending
from records.models import MaintenanceRun, State

log = logging.getLogger(__name__)

RUN_MAINTENANCE = "records.run_maintenance"
# One more try finds a new connection in the place of one that Redis' restart has cut.
RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
# What waits for somebody who is at work is sent again so many times more seldom: it is most likely still in the queue.
BUSY_FACTOR = 20


def send(task: str, arguments: list[object], queue: str) -> bool:
    """Put a task on a queue; False: the broker does not answer."""
    try:
        with sending(task) as headers:
            options = {"queue": queue, "headers": headers, "ignore_result": True}
            current_app.send_task(task, args=arguments, retry=True, retry_policy=RETRY_POLICY, **options)
    except (OperationalError, OSError) as error:
        log.warning("task=%s %s waits: the broker does not answer (%s)", task, arguments, type(error).__name__)
        return False
    return True


@dataclass(frozen=True, slots=True)
class Message:
    """What one message of a task carries, and the job that it is about."""

    arguments: list[object]
    queue: str
    job: str


def send_together(task: str, messages: Sequence[Message]) -> bool:
    """Put messages of a task on their queues, together if the broker can. False: it does not answer, and may have some of them."""
    try:
        with current_app.producer_pool.acquire(block=True) as producer:

            def send_all() -> None:
                with producer.batch():
                    for message in messages:
                        with about_job(message.job), sending(task) as headers:
                            options = {"queue": message.queue, "headers": headers, "ignore_result": True}
                            current_app.send_task(task, args=message.arguments, producer=producer, retry=False, **options)

            producer.connection.ensure(producer, send_all, retry_errors=(BatchPublishError,), **RETRY_POLICY)()
    except (BatchPublishError, OperationalError, OSError) as error:
        log.warning("task=%s %d wait: the broker does not answer (%s)", task, len(messages), type(error).__name__)
        return False
    return True


def publish_after_commit(run: MaintenanceRun) -> None:
    """Give a queued run to a control worker once the transaction is committed."""
    transaction.on_commit(lambda: publish_runs([run]), robust=True)


def publish_waiting_runs(now: datetime | None = None) -> int:
    """Publish every queued run that is to begin and never reached its queue, or that nobody took from it for too long."""
    moment = now or timezone.now()
    is_busy = MaintenanceRun.objects.filter(state=State.RUNNING).exists()
    overdue = moment - timedelta(seconds=settings.JOB_REPUBLISH_S * (BUSY_FACTOR if is_busy else 1))
    waits = Q(published_at__isnull=True) | Q(published_at__lt=overdue)
    may_begin = Q(not_before__isnull=True) | Q(not_before__lte=moment)
    queued = MaintenanceRun.objects.filter(waits, may_begin, state=State.QUEUED, queued_at__lt=moment - timedelta(seconds=1))
    return publish_runs(queued.order_by("pk"))


def publish_runs(runs: Iterable[MaintenanceRun]) -> int:
    """Put queued runs on the queue of control workers; return how many. Stops at the first failure, without raising."""
    published = 0
    for run in runs:
        if not send(RUN_MAINTENANCE, [run.pk, run.attempt], "maintenance"):
            break
        rows = MaintenanceRun.objects.filter(pk=run.pk, attempt=run.attempt, state=State.QUEUED)
        rows.update(published_at=timezone.now())
        published += 1
    return published
