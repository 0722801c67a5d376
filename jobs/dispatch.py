"""Starting jobs: a record in the database, then its number on the client's queue.

The message carries no secret and decides nothing: the agent has to claim the job. So a message that is lost is sent again,
one that comes twice does no harm, and while Redis is away records wait for the watchdog.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.models import BackupPlan
from jobs.serializers import plan_detail
from records.events import emit
from records.lifecycle import KINDS
from records.models import BackupRecord, Event, JobRecord, RecoveryRecord, State
from records.publishing import BUSY_FACTOR, send

log = logging.getLogger(__name__)

RUN_JOB = "agent.run_job"
PUBLISHED_AT_ONCE = 500


def launch_backup(plan: BackupPlan, *, scheduled_at: datetime | None = None, is_late: bool = False) -> BackupRecord | None:
    """Start a run of the plan and return its record; None if another scheduler has started this very run.

    A scheduled run is cancelled on the spot, and says so, while an earlier one still waits for its client.
    """
    record = BackupRecord(
        client=plan.client,
        plan_uuid=plan.uuid,
        plan_name=plan.backup_name,
        backup_detail=plan_detail(plan),
        repository=plan.repository,
        scheduled_at=scheduled_at,
        is_late=is_late,
    )
    if scheduled_at is not None and BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.QUEUED).exists():
        record.state = State.CANCELLED
        record.end_time = timezone.now()
        record.error = _("It was left out, since the run before it still waits for its client.")
    try:
        with transaction.atomic():
            record.save()
    except IntegrityError:
        return None
    log.info("job=%s plan=%s client=%s state=%s", record.job, plan.uuid, plan.client_id, State(record.state).name)
    if record.state == State.CANCELLED:
        emit(Event.Level.WARNING, Event.Topic.BACKUP, _("Backup %(name)s was left out") % {"name": record}, record.error,
             record=record)  # fmt: skip
    else:
        publish_after_commit(record)
    return record


def publish_after_commit(record: BackupRecord | RecoveryRecord) -> None:
    """Put the job on its client's queue once the transaction is committed."""
    transaction.on_commit(lambda: publish([record]), robust=True)


def publish(records: Iterable[JobRecord]) -> int:
    """Put queued jobs on their clients' queues; return how many. Stops at the first failure, without raising."""
    published = 0
    for record in records:
        if record.client is None:
            continue
        message = {"job": record.job, "attempt": record.attempt}
        if not send(RUN_JOB, [message], record.client.queue):
            break
        rows = type(record)._default_manager.filter(pk=record.pk, attempt=record.attempt, state=State.QUEUED)
        rows.update(published_at=timezone.now())
        published += 1
    return published


def publish_next_run(record: JobRecord) -> int:
    """Publish the runs that waited for this run of their plan to end; return how many."""
    if not isinstance(record, BackupRecord):
        return 0
    waiting = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, state=State.QUEUED)
    return publish(waiting.select_related("client").order_by("pk"))


def publish_waiting(now: datetime | None = None) -> int:
    """Publish every queued job that never reached its queue, or that nobody took from it for too long.

    A client that is at work takes its time, so that what waits for it is sent again much more seldom.
    """
    moment = now or timezone.now()
    seen = moment - timedelta(seconds=settings.CLIENT_OFFLINE_S)
    busy = [model._default_manager.filter(state=State.RUNNING, client__isnull=False).values("client") for model in KINDS.values()]
    overdue, long_overdue = (moment - timedelta(seconds=settings.JOB_REPUBLISH_S * factor) for factor in (1, BUSY_FACTOR))
    is_busy = Q(client__in=busy[0]) | Q(client__in=busy[1])
    is_overdue = Q(published_at__lt=long_overdue) | Q(~is_busy, published_at__lt=overdue)
    waits = Q(published_at__isnull=True) | Q(is_overdue, client__last_seen__gte=seen)
    waiting = (
        model._default_manager.filter(waits, state=State.QUEUED, queued_at__lt=moment - timedelta(seconds=1))
        .select_related("client")
        .order_by("pk")[:PUBLISHED_AT_ONCE]
        for model in KINDS.values()
    )
    return publish(chain.from_iterable(waiting))
