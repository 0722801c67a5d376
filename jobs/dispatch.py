"""Starting jobs: a record in the database and, once it is offered (`jobs.offering`), its number on the client's queue.

The message carries no secret and decides nothing: the agent has to claim the job. So a message that is lost is sent again,
one that comes twice does no harm, and while Redis is away offers wait for the watchdog.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.commands import needed_protocol
from jobs.fitting import quota_problem
from jobs.models import BackupPlan
from jobs.serializers import plan_detail
from records.events import emit
from records.following import tell_followers
from records.models import BackupRecord, Event, JobRecord, State
from records.publishing import Message, send_together

log = logging.getLogger(__name__)

RUN_JOB = "agent.run_job"
# The broker is asked once for so many, as the wait for each of its answers would add up.
SENT_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Launch:
    """A run that is to start. `scheduled_at`: the fire that asks for it, None if a person does."""

    plan: BackupPlan
    scheduled_at: datetime | None = None
    is_late: bool = False
    not_before: datetime | None = None


def launch_backups(launches: Sequence[Launch]) -> list[BackupRecord]:
    """Start runs and return their records, without those that another scheduler has started already.

    A scheduled run is cancelled on the spot, and says so, while an earlier one still waits for its client; a run that does
    not fit into its tenant's quota has failed before it starts. The caller has the others offered. Few queries for many runs.
    """
    uuids = {launch.plan.uuid for launch in launches}
    waiting = set(BackupRecord.objects.filter(plan_uuid__in=uuids, state=State.QUEUED).values_list("plan_uuid", flat=True))
    records = []
    for launch in launches:
        record = _new_record(launch, is_left_out=launch.scheduled_at is not None and launch.plan.uuid in waiting)
        if record.state == State.QUEUED:
            waiting.add(record.plan_uuid)
        records.append(record)
    try:
        with transaction.atomic():
            BackupRecord.objects.bulk_create(records)
    except IntegrityError:
        # Another scheduler has started one of them: which, each by itself tells.
        return [] if len(launches) == 1 else [record for launch in launches for record in launch_backups([launch])]
    for record in records:
        log.info("job=%s plan=%s client=%s state=%s", record.job, record.plan_uuid, record.client_id, State(record.state).name)
        if record.state == State.CANCELLED:
            emit(Event.Level.WARNING, Event.Topic.BACKUP, _("Backup %(name)s was left out") % {"name": record}, record.error,
                 record=record, occasion=Event.Occasion.MISSED)  # fmt: skip
        if record.state == State.FAILED:
            emit(Event.Level.ERROR, Event.Topic.BACKUP, _("Backup %(name)s was not started") % {"name": record}, record.error,
                 record=record, occasion=Event.Occasion.FAILED)  # fmt: skip
            tell_followers(record)
    return records


def _new_record(launch: Launch, *, is_left_out: bool) -> BackupRecord:
    plan = launch.plan
    record = BackupRecord(
        client=plan.client,
        plan_uuid=plan.uuid,
        plan_name=plan.backup_name,
        backup_detail=plan_detail(plan),
        repository=plan.repository,
        needs_protocol=needed_protocol(plan.data),
        scheduled_at=launch.scheduled_at,
        is_late=launch.is_late,
        not_before=launch.not_before,
    )
    if is_left_out:
        record.state = State.CANCELLED
        record.end_time = timezone.now()
        record.error = _("It was left out, since the run before it still waits for its client.")
    elif (problem := quota_problem(plan)) is not None:
        record.state = State.FAILED
        record.end_time = timezone.now()
        record.error = problem
    return record


def publish(records: Iterable[JobRecord]) -> int:
    """Put offered jobs on their clients' queues; return how many. Stops at the first failure, without raising."""
    published, waiting = 0, iter([record for record in records if record.client is not None])
    while together := list(islice(waiting, SENT_TOGETHER)):
        if not send_together(RUN_JOB, [_message(record) for record in together]):
            break
        for model in {type(record) for record in together}:
            keys = [record.pk for record in together if type(record) is model]
            rows = model._default_manager.filter(pk__in=keys, state=State.QUEUED, offered_at__isnull=False)
            rows.update(published_at=timezone.now())
        published += len(together)
    return published


def _message(record: JobRecord) -> Message:
    assert record.client is not None
    return Message([{"job": record.job, "attempt": record.attempt}], record.client.queue, record.job)
