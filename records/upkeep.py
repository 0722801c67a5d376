"""The daily maintenance of repositories: what was deleted long enough ago is forgotten, and its space given back if that pays.

A repository has one such run a day at most, and only if there is something to do. The run does both, one after the other, and
may be cut off at any instant: forgetting again what is forgotten is no error, and a prune goes on where it was. What a run that
failed was to forget goes on to the next.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from records.maintenance import request_maintenance
from records.models import ACTIVE_STATES, BackupRecord, MaintenanceRun, State
from storage.models import Repository

log = logging.getLogger(__name__)

EVERY = timedelta(days=1)
FORGOTTEN_AT_ONCE = 5000
# What gives space back.
PRUNING = [MaintenanceRun.Kind.PRUNE, MaintenanceRun.Kind.MAINTENANCE]
_FORGETS = Q(kind__in=[MaintenanceRun.Kind.FORGET, MaintenanceRun.Kind.MAINTENANCE])
_FAILED = Q(state__in=[State.FAILED, State.LOST])


def request_due_maintenance(now: datetime | None = None) -> int:
    """Queue the maintenance of each repository that has something to do, and none within a day; return how many."""
    moment = now or timezone.now()
    return sum(_request(pk, moment) for pk in _due(moment).order_by("pk").values_list("pk", flat=True))


def request_prune(repository: Repository) -> MaintenanceRun:
    """Queue a prune that does not ask whether it pays. Raises Conflict if one is queued or runs."""
    with transaction.atomic():
        # Whoever else asks at this moment waits here, and then finds it queued.
        Repository.objects.select_for_update().get(pk=repository.pk)
        if MaintenanceRun.objects.filter(repository=repository, kind=MaintenanceRun.Kind.PRUNE, state__in=ACTIVE_STATES).exists():
            raise Conflict(_("A prune of this repository is queued or runs already."))
        return request_maintenance(repository, MaintenanceRun.Kind.PRUNE)


def _request(pk: int, now: datetime) -> bool:
    with transaction.atomic():
        # Whoever else asks at this moment waits here, and then finds it done.
        repository = Repository.objects.select_for_update().get(pk=pk)
        if not _due(now).filter(pk=pk).exists():
            return False
        failed = MaintenanceRun.objects.filter(_FORGETS & _FAILED, repository=repository).exclude(arguments={})
        snapshots = [str(name) for run in failed.order_by("pk") for name in run.arguments.get("snapshots", [])]
        failed.update(arguments={})
        gone = list(_past_grace(now).filter(repository=repository).order_by("deleted_at", "pk")[:FORGOTTEN_AT_ONCE])
        unwanted = {record.snapshot for record in gone if record.snapshot}
        for record in gone:
            record.delete()
        # A snapshot that was found in the repository, and then reported after all, had two records.
        others = BackupRecord._base_manager.filter(repository=repository, snapshot__in=unwanted)
        snapshots += sorted(unwanted - set(others.values_list("snapshot", flat=True)))
        run = request_maintenance(repository, MaintenanceRun.Kind.MAINTENANCE, {"snapshots": snapshots})
    log.info("maintenance=%d repository=%d records=%d snapshots=%d requested", run.pk, pk, len(gone), len(snapshots))
    return True


def _due(now: datetime) -> QuerySet[Repository]:
    """Return the repositories in which something is to be forgotten, or was without its space being looked at."""
    of_ours, succeeded = Q(maintenance__kind=MaintenanceRun.Kind.MAINTENANCE), Q(maintenance__state=State.SUCCESS)
    forgets = Q(maintenance__kind=MaintenanceRun.Kind.FORGET)
    failed = Q(maintenance__state__in=[State.FAILED, State.LOST])
    rows = Repository.objects.annotate(
        requested_at=Max("maintenance__queued_at", filter=of_ours),
        done_at=Max("maintenance__end_time", filter=of_ours & succeeded),
        owed_since=Max("maintenance__end_time", filter=(of_ours & failed) | (forgets & (failed | succeeded))),
    )
    is_owed = Q(owed_since__isnull=False) & (Q(done_at=None) | Q(done_at__lt=F("owed_since")))
    may_be_asked = Q(requested_at=None) | Q(requested_at__lte=now - EVERY)
    return rows.filter(may_be_asked, is_owed | Exists(_past_grace(now).filter(repository=OuterRef("pk"))))


def _past_grace(now: datetime) -> QuerySet[BackupRecord]:
    return BackupRecord.trash.filter(deleted_at__lte=now - timedelta(days=settings.TRASH_DAYS), legal_hold_at=None)
