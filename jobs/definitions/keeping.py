"""When a repository's plans are written into it: once they are others than what was written last, and no more often than looked.

It is a run of maintenance, leased and tried again as all are. Of what was written the newest few stay.
"""

import logging
import socket
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from jobs.definitions.describing import PATH, SIGNATURE_PATH, TAG, Definitions, describe_plans, sign
from jobs.models import KeptPlans
from jobs.signing import public_key
from records.adopting import OWN_SNAPSHOTS
from records.enginechild import run_child
from records.maintenance import WORK, finish_here, is_wanted, request_maintenance
from records.models import ACTIVE_STATES, MaintenanceRun, State
from storage.models import Repository
from storage.repositories import repository_access

log = logging.getLogger(__name__)

KEPT = 3
# What failed is tried again after so long.
TRY_AGAIN_AFTER = timedelta(hours=1)
# Maintenance workers have other things to do besides.
QUEUED_AT_ONCE = 50
# So much earlier than they are the snapshots are dated: `restic restore latest` is to find a backup.
DATED_BACK = timedelta(days=36_525)


def request_changed_plans(now: datetime | None = None) -> int:
    """Queue the writing of the plans of each repository whose plans have changed, some at a time; return of how many."""
    moment = now or timezone.now()
    runs = MaintenanceRun.objects.filter(kind=MaintenanceRun.Kind.PLANS)
    active = set(runs.filter(state__in=ACTIVE_STATES).values_list("repository_id", flat=True))
    rests = Q(end_time__gt=moment - TRY_AGAIN_AFTER) & ~Q(state=State.SUCCESS)
    resting = active | set(runs.filter(rests).values_list("repository_id", flat=True))
    room = max(0, QUEUED_AT_ONCE - len(active))
    changed = [number for number in changed_repositories() if number not in resting][:room]
    for repository in Repository.objects.filter(pk__in=changed):
        request_writing(repository)
    return len(changed)


def request_writing(repository: Repository) -> MaintenanceRun:
    """Queue the writing of a repository's plans, which changes nothing if it has them as they are."""
    # That it went well is no news.
    return request_maintenance(repository, MaintenanceRun.Kind.PLANS, {"in_turn": True})


def write_here(repository: Repository) -> MaintenanceRun:
    """Write a repository's plans in this process, or wait for whoever does; return the run: over, or queued if it has to wait."""
    runs = MaintenanceRun.objects.filter(kind=MaintenanceRun.Kind.PLANS, repository=repository, state__in=ACTIVE_STATES)
    return finish_here(runs.first() or request_writing(repository))


def changed_repositories() -> list[int]:
    """Return the numbers of the repositories whose plans are others than what was written last, in a fixed number of queries."""
    key = public_key()
    written = dict(KeptPlans.objects.values_list("repository_id", "fingerprint"))
    none = Definitions([], []).fingerprint(key)
    wanted = dict.fromkeys(written, none) | {number: plans.fingerprint(key) for number, plans in describe_plans()}
    return [number for number, fingerprint in wanted.items() if fingerprint != written.get(number)]


def write_plans(run: MaintenanceRun) -> dict[str, Any]:
    """Take a snapshot of the plans' definitions, and have those forgotten that are too old. Raises EngineError."""
    row = run.repository
    kept = KeptPlans.objects.get_or_create(repository=row)[0]
    plans = next((found for _number, found in describe_plans(row)), Definitions([], []))
    fingerprint = plans.fingerprint(public_key())
    if fingerprint == kept.fingerprint:
        return {"plans": len(plans.plans), "is_unchanged": True}
    moment = timezone.now()
    if kept.written_at is not None:
        # Also after the clock was put back the newest is the newest.
        moment = max(moment, kept.written_at + timedelta(seconds=1))
    text = plans.encode(row.repository_id, moment)
    wanted = {
        "include": [],
        "exclude": [],
        "host": socket.gethostname(),
        "tags": [TAG],
        "time": int((moment - DATED_BACK).timestamp()),
        "parent": None,
        "lock_wait_s": 0,
    }
    sources = [{"path": PATH, "content": text}, {"path": SIGNATURE_PATH, "content": sign(text)}]
    access = repository_access(row, row.tenant.credentials)
    done = run_child({"kind": "backup", "repository": access, "backup": wanted, "sources": sources}, lambda: is_wanted(run))
    _note(kept, fingerprint, moment, done.result["snapshot_id"])
    log.info("repository=%d plans=%d snapshot=%s written", row.pk, len(plans.plans), done.result["snapshot_id"])
    told = {"snapshot": "snapshot_id", "bytes": "bytes_total", "bytes_stored": "bytes_stored", "duration_s": "duration_s"}
    return {"plans": len(plans.plans), **{name: done.result[said] for name, said in told.items()}}


def _note(kept: KeptPlans, fingerprint: str, written_at: datetime, snapshot: str) -> None:
    snapshots = [*kept.snapshots, snapshot]
    kept.fingerprint, kept.written_at, kept.snapshots = fingerprint, written_at, snapshots[-KEPT:]
    with transaction.atomic():
        kept.save()
        if old := snapshots[:-KEPT]:
            request_maintenance(kept.repository, MaintenanceRun.Kind.FORGET, {"snapshots": old, "in_turn": True})


def kept_snapshots(repository: Repository) -> set[str]:
    """Return the ids of the snapshots of plans' definitions that are kept in a repository."""
    kept = KeptPlans.objects.filter(repository=repository).first()
    return set(kept.snapshots) if kept else set()


WORK[MaintenanceRun.Kind.PLANS] = write_plans
OWN_SNAPSHOTS.append(kept_snapshots)
