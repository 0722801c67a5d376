"""When repositories are checked: each once a day, of one store one after the other, from the first backup on."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from records.maintenance import request_maintenance
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, MaintenanceRun, State
from records.verification import CHECKS
from storage.models import Endpoint, Repository, Verification

log = logging.getLogger(__name__)

# A check that could not be made is tried again after so long.
TRY_AGAIN_AFTER = timedelta(hours=6)
CHECKS_KEPT = timedelta(days=400)
# What a check that is asked for reads besides the structure.
READS = ("structure", "turn", "all")


def request_due_checks(now: datetime | None = None) -> int:
    """Queue the check that is due longest at each store where none is under way; return how many."""
    moment = now or timezone.now()
    _begin(moment)
    under_way = MaintenanceRun.objects.filter(
        repository__tenant__endpoint=OuterRef("pk"), kind__in=CHECKS, state__in=ACTIVE_STATES
    )
    requested = 0
    for endpoint in Endpoint.objects.exclude(Exists(under_way)):
        due = Verification.objects.filter(repository__tenant__endpoint=endpoint, due_at__lte=moment)
        first = due.select_related("repository").order_by("due_at", "pk").first()
        if first is None:
            continue
        with transaction.atomic():
            # Only one of several schedulers changes the row.
            rows = Verification.objects.filter(pk=first.pk, due_at=first.due_at)
            if rows.update(due_at=moment + TRY_AGAIN_AFTER):
                run = request_check(first.repository, "turn")
                log.info("maintenance=%d kind=%s repository=%d requested", run.pk, run.kind, first.repository_id)
                requested += 1
    return requested


def request_check(repository: Repository, reads: str = "turn") -> MaintenanceRun:
    """Queue a check. `reads`: `structure` alone, the data whose `turn` it is besides, or `all`.

    Raises Conflict if one is queued or runs.
    """
    if MaintenanceRun.objects.filter(repository=repository, kind__in=CHECKS, state__in=ACTIVE_STATES).exists():
        raise Conflict(_("A check of this repository is queued or runs already."))
    if reads == "structure":
        return request_maintenance(repository, MaintenanceRun.Kind.CHECK)
    return request_maintenance(repository, MaintenanceRun.Kind.CHECK_DATA, {"in_turn": True} if reads == "turn" else {})


def delete_old_checks(now: datetime | None = None) -> int:
    """Delete the checks that ended more than 400 days ago; return how many."""
    old = MaintenanceRun.objects.filter(kind__in=CHECKS, end_time__lt=(now or timezone.now()) - CHECKS_KEPT)
    return old.delete()[0]


def _begin(moment: datetime) -> None:
    """Have the repositories checked to which a first backup was made."""
    backups = BackupRecord.objects.filter(repository=OuterRef("pk"), state__in=RESTORABLE_STATES).exclude(snapshot="")
    own = MaintenanceRun.objects.filter(repository=OuterRef("pk"), kind=MaintenanceRun.Kind.OWN_BACKUP, state=State.SUCCESS)
    new = Repository.objects.filter(Exists(backups) | Exists(own), verification=None).order_by("pk")
    rows = [Verification(repository=repository, begun_at=moment, due_at=moment) for repository in new]
    Verification.objects.bulk_create(rows, ignore_conflicts=True)
