"""Offering jobs to their clients: a queued job waits in the database until its client, repository and endpoint have a slot for it.

Only then does its number go to the client's queue, so that the broker carries little and the order is decided at the last moment.
A round looks at all that waits and offers what has slots, fairly (`jobs.fairness`). Rounds come one after the other, whoever
starts them: each tick, and whatever ends a job. An offer that is not taken ends too, and does not hold its slots for ever.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import Coalesce, RowNumber
from django.utils import timezone

from backupcenter.api.exceptions import Conflict
from backupcenter.background import Background
from clients.models import Client
from jobs.dispatch import publish
from jobs.fairness import Waiting, choose
from jobs.models import Rounds
from records.lifecycle import KINDS
from records.models import BackupRecord, JobRecord, RecoveryRecord, State
from records.publishing import BUSY_FACTOR
from records.slots import REPOSITORY_OF, Held, held_slots, is_there, limits, obstacle, run_goes_on
from storage.models import Tenant

log = logging.getLogger(__name__)

# More than any round offers.
TURNS_IN_A_ROUND = 1 << 20
# Jobs that end within this time have one round offer what follows them.
ROUNDS_EVERY_S = 0.1


def offer_after_commit() -> None:
    """Offer what has slots once the transaction is committed."""
    transaction.on_commit(offer_jobs, robust=True)


def offer_jobs(now: datetime | None = None) -> int:
    """Offer all queued jobs that have slots to their clients; return how many."""
    if not any(rows.exists() for rows in map(_queued, KINDS.values())):
        return 0
    begun = Rounds.number_now()
    with transaction.atomic():
        rounds = Rounds.lock()
        if rounds.number >= begun + 2:
            # While this one waited for its turn another round has begun, and seen all that this one would see.
            return 0
        rounds.number += 1
        rounds.save(update_fields=["number"])
        held = held_slots()
        # Now, and not before: a job whose slot is seen to be free has ended before this.
        moment = now or timezone.now()
        chosen = choose(list(_waiting(moment, held)), held)
        offered = _mark_offered(chosen, moment, rounds.number)
        transaction.on_commit(lambda: publish(offered), robust=True)
    return len(offered)


def offer_now(record: JobRecord) -> None:
    """Offer a queued job to its client, which asks for it already. Raises Conflict, saying why, if there is no slot for it."""
    with transaction.atomic():
        Rounds.lock()
        rows = type(record)._default_manager.filter(pk=record.pk, state=State.QUEUED, offered_at=None)
        if rows.exists():
            if (reason := obstacle(record)) is not None:
                raise Conflict(reason)
            now = timezone.now()
            rows.update(offered_at=now, published_at=now)


def withdraw_offers(now: datetime | None = None) -> int:
    """End the offers to clients that have fallen silent, and those that nobody took for too long; return how many.

    A client that is silent keeps its place in the order; one that is there and does not come when it is called goes to the end.
    """
    moment = now or timezone.now()
    overdue, long_overdue = (moment - timedelta(seconds=settings.JOB_REPUBLISH_S * factor) for factor in (1, BUSY_FACTOR))
    at_work = [
        model._default_manager.filter(state=State.RUNNING, client__isnull=False).values("client") for model in KINDS.values()
    ]
    is_busy = Q(client__in=at_work[0]) | Q(client__in=at_work[1])
    # What was published in the future was so before the clock was put back.
    is_overdue = Q(published_at__lt=long_overdue) | Q(~is_busy, published_at__lt=overdue) | Q(published_at__gt=moment)
    withdrawn = 0
    for model in KINDS.values():
        offered = model._default_manager.filter(state=State.QUEUED, offered_at__isnull=False)
        withdrawn += offered.exclude(is_there(moment)).update(offered_at=None, published_at=None)
        withdrawn += offered.filter(is_overdue).update(offered_at=None, published_at=None, not_before=moment)
    return withdrawn


def publish_offered(now: datetime | None = None) -> int:
    """Publish the offers that never reached their queues, since the broker was away or the one who made them died."""
    moment = now or timezone.now()
    # Whoever has just made one is about to publish it. What was offered in the future was so before the clock was put back.
    is_left = Q(offered_at__lt=moment - timedelta(seconds=1)) | Q(offered_at__gt=moment)
    unpublished = Q(is_left, state=State.QUEUED, published_at=None)
    return publish(chain.from_iterable(_with_clients(model).filter(unpublished).order_by("pk") for model in KINDS.values()))


def _queued(model: type[JobRecord]) -> QuerySet[JobRecord]:
    return model._default_manager.filter(state=State.QUEUED, offered_at=None).order_by()


def _waiting(now: datetime, held: Held) -> Iterator[Waiting]:
    """Yield what may be offered: of what competes for the same slots only as much as there can be slots."""
    for model, repository in REPOSITORY_OF.items():
        may_begin = Q(not_before__isnull=True) | Q(not_before__lte=now)
        since = Coalesce("not_before", "queued_at")
        rows = _queued(model).filter(may_begin, is_there(now)).annotate(**limits(repository), since=since)
        if model is BackupRecord:
            rows = rows.exclude(run_goes_on())
        place = Window(RowNumber(), partition_by=[F("client"), F(repository)], order_by=["since", "pk"])
        heads = rows.annotate(place=place).filter(place__lte=F("client_limit"))
        fields = ["pk", "since", "client", f"{repository}__tenant", repository, f"{repository}__tenant__endpoint"]
        served = ["client__served_in", f"{repository}__tenant__served_in"]
        for pk, *values in heads.values_list(*fields, *limits(repository), *served):
            yield Waiting(pk, model is RecoveryRecord, *values)


def _mark_offered(chosen: list[Waiting], now: datetime, number: int) -> list[JobRecord]:
    """Note what is offered, and whose turn it was; return the records in their order."""
    order = {(job.is_recovery, job.pk): place for place, job in enumerate(chosen)}
    offered: list[JobRecord] = []
    for model in KINDS.values():
        keys = [job.pk for job in chosen if job.is_recovery == (model is RecoveryRecord)]
        if keys:
            _queued(model).filter(pk__in=keys).update(offered_at=now, published_at=None)
            offered += _with_clients(model).filter(pk__in=keys, state=State.QUEUED, offered_at=now)
    # Of one round too it is known who came last: else ties would be decided alike each time, for the same ones.
    turns = list(enumerate(chosen, number * TURNS_IN_A_ROUND))
    clients, tenants = ({getattr(job, name): turn for turn, job in turns} for name in ("client", "tenant"))
    Client.objects.bulk_update([Client(pk=key, served_in=turn) for key, turn in clients.items()], ["served_in"], 500)
    Tenant.objects.bulk_update([Tenant(pk=key, served_in=turn) for key, turn in tenants.items()], ["served_in"], 500)
    for record in offered:
        log.info("job=%s client=%s attempt=%d offered", record.job, record.client_id, record.attempt)
    return sorted(offered, key=lambda record: order[isinstance(record, RecoveryRecord), record.pk])


def _with_clients(model: type[JobRecord]) -> QuerySet[JobRecord]:
    """Read records as they are published: with their clients, without their long texts."""
    long = "backup_detail" if model is BackupRecord else "backup_record_detail"
    return model._default_manager.filter(client__isnull=False).select_related("client").defer(long)


freed_slots = Background("offering jobs", offer_jobs, ROUNDS_EVERY_S)
