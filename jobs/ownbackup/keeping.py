"""Where the server's own database is backed up to, when, and for how long: a snapshot a day in a repository of its own.

It is an ordinary run of maintenance on an ordinary repository, so that it is leased, tried again, checked and pruned as all are.
Its snapshots carry a tag of the server's, so that none becomes the record of a client.
"""

import contextlib
import logging
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from engine.backends.patience import Patience
from engine.errors import SnapshotNotFound
from engine.repository import Repository as EngineRepository
from engine.retention import GroupBy, KeepPolicy, judge_groups
from engine.snapshot import Snapshot, SnapshotFilter, iter_snapshots
from jobs.models import OwnBackup
from jobs.ownbackup.dumping import dump_source
from records.adopting import SERVER_TAG
from records.enginechild import run_child
from records.maintenance import WORK, finish_here, request_maintenance
from records.models import ACTIVE_STATES, MaintenanceRun, State
from storage.models import Tenant
from storage.repositories import ensure_repository, open_with, repository_access, repository_store

log = logging.getLogger(__name__)

PREFIX = "backupcenter-server"
TAG = f"{SERVER_TAG}server"
PATH = "/backupcenter/database.dump"
EVERY = timedelta(days=1)
# One that failed is tried again after so long.
TRY_AGAIN_AFTER = timedelta(hours=1)
# Without one for so long somebody is to look.
OVERDUE = timedelta(hours=36)
KEPT = KeepPolicy(daily=7, weekly=4, monthly=12)
OURS = SnapshotFilter(tags=((TAG,),))


def choose_place(tenant: Tenant, bucket: str) -> OwnBackup:
    """Have the database backed up to this bucket from now on. Raises EngineError if the store refuses."""
    repository = ensure_repository(tenant, bucket, PREFIX)
    with transaction.atomic():
        OwnBackup.objects.all().delete()
        place = OwnBackup.objects.create(repository=repository)
    log.info("the server's database is backed up to repository=%d", repository.pk)
    return place


def back_up_now() -> MaintenanceRun:
    """Queue a backup of the database. Raises Conflict if no place is chosen for it, or one is under way."""
    place = OwnBackup.objects.select_related("repository").first()
    if place is None:
        raise Conflict(_("No place is chosen yet to back the server's database up to."))
    if _runs().filter(state__in=ACTIVE_STATES).exists():
        raise Conflict(_("A backup of the server's database is queued or runs already."))
    return request_maintenance(place.repository, MaintenanceRun.Kind.OWN_BACKUP)


def back_up_here() -> MaintenanceRun:
    """Back the database up in this process, and return the run once it is over, well or not. Raises Conflict as `back_up_now`.

    A run that is queued already is done here, one that is under way is waited for. If whoever has it died, its lease runs out
    within two minutes, and the next attempt is made here.
    """
    begun = _runs().filter(state__in=ACTIVE_STATES).first()
    if begun and begun.state == State.RUNNING:
        log.info("maintenance=%d is under way already, and is waited for", begun.pk)
    run = finish_here(begun) if begun else None
    return run if run and run.state != State.LOST else finish_here(back_up_now())


def request_due_backup(now: datetime | None = None) -> bool:
    """Queue the backup of the day, unless it was made or no place is chosen; return whether one was queued."""
    moment = now or timezone.now()
    if not OwnBackup.objects.exists():
        return False
    newest = newest_backup()
    if newest is not None and newest.start_time is not None and newest.start_time > moment - EVERY:
        return False
    if _runs().filter(end_time__gt=moment - TRY_AGAIN_AFTER).exclude(state=State.SUCCESS).exists():
        return False
    with contextlib.suppress(Conflict):
        back_up_now()
        return True
    return False


def newest_backup() -> MaintenanceRun | None:
    """Return the newest run that backed the database up to where it is kept now."""
    return _runs().filter(state=State.SUCCESS, repository__own_backup__isnull=False).order_by("-pk").first()


def newest_run() -> MaintenanceRun | None:
    """Return the newest run that has ended, well or not."""
    return _runs().filter(end_time__isnull=False).order_by("-pk").first()


def perform_backup(run: MaintenanceRun) -> dict[str, Any]:
    """Take a snapshot of the database, and have those forgotten that nobody needs any more. Raises EngineError."""
    row = run.repository
    wanted = {"include": [], "exclude": [], "host": socket.gethostname(), "tags": [TAG], "time": int(timezone.now().timestamp())}
    access = repository_access(row, row.tenant.credentials)
    done = run_child({"kind": "backup", "repository": access, "backup": wanted, "sources": [dump_source(PATH)]})
    with contextlib.closing(open_with(repository_store(row, Patience()), row)) as repository:
        old = outlived(repository)
    if old:
        request_maintenance(row, MaintenanceRun.Kind.FORGET, {"snapshots": old})
    told = {"snapshot": "snapshot_id", "bytes": "bytes_total", "bytes_stored": "bytes_stored", "seconds": "duration_s"}
    return {name: done.result[said] for name, said in told.items()}


def outlived(repository: EngineRepository, now: datetime | None = None) -> list[str]:
    """Return the ids of the server's own snapshots that need not be kept any longer."""
    snapshots = sorted(filter(OURS.matches, iter_snapshots(repository)), key=lambda snapshot: snapshot.id)
    # One group: the server may have had another name.
    verdicts = judge_groups(snapshots, KEPT, GroupBy(), now=now or datetime.now(UTC)).values()
    return [snapshot.id for verdict in verdicts for snapshot in verdict.remove]


def newest_snapshot(repository: EngineRepository) -> Snapshot:
    """Return the newest snapshot of a server's database. Raises SnapshotNotFound."""
    found = max(filter(OURS.matches, iter_snapshots(repository)), key=lambda snapshot: snapshot.time, default=None)
    if found is None:
        raise SnapshotNotFound(_("There is no backup of a server's database in this repository."))
    return found


def _runs() -> QuerySet[MaintenanceRun]:
    return MaintenanceRun.objects.filter(kind=MaintenanceRun.Kind.OWN_BACKUP)


WORK[MaintenanceRun.Kind.OWN_BACKUP] = perform_backup
