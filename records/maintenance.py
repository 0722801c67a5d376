"""Work of the server on repositories, on control workers: checking them, forgetting snapshots, giving their space back.

A run is claimed and leased like an agent's job (`records.lifecycle`), so that a worker that dies is noticed and the run is done
by another.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, connection, transaction
from django.dispatch import Signal
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from backupcenter.api.exceptions import Conflict
from backupcenter.tracing import note
from engine.backends.patience import Patience
from engine.commands.check import check
from engine.commands.forget import forget
from engine.commands.prune import PruneOptions, prune
from engine.errors import BucketMissing, EngineError, LockLost, RepositoryLocked, StoreError
from engine.pruning import ByteCounts
from engine.repository import Repository as EngineRepository
from records.events import emit
from records.models import ACTIVE_STATES, Event, MaintenanceRun, State
from records.pruning import pays
from records.publishing import publish_after_commit
from records.verification import CHECKS, note_check, turn_of
from storage.models import Repository
from storage.repositories import open_with, repository_store

log = logging.getLogger(__name__)

# Work may be silent for as long as one slow request to the store takes.
LEASE = timedelta(seconds=120)
RENEW_EVERY_S = 15.0
PERSIST_EVERY_S = 1.0
LOOK_EVERY_S = 1.0
# A repository that is in use is looked at again after so long.
LOCKED_PAUSE = timedelta(seconds=60)
STORE_PAUSE = timedelta(minutes=15)
# What they are to forget stands nowhere else.
FORGETTING = (MaintenanceRun.Kind.FORGET, MaintenanceRun.Kind.MAINTENANCE)
# What a prune has planned is worth waiting for the backups that are under way.
LOCK_WAIT_S = 600

# Sent, with the `run`, in the transaction in which a run ends for good.
run_ended = Signal()
# What does the runs of a kind that has a file of its own. It returns the result, `problems` in it if it failed; raises EngineError.
WORK: dict[str, Callable[[MaintenanceRun], dict[str, Any]]] = {}


def request_maintenance(
    repository: Repository, kind: MaintenanceRun.Kind, arguments: dict[str, Any] | None = None
) -> MaintenanceRun:
    """Queue a run for a control worker."""
    run = MaintenanceRun.objects.create(repository=repository, kind=kind, arguments=arguments or {})
    publish_after_commit(run)
    return run


def run_maintenance(number: int, attempt: int) -> None:
    """Do the queued run of this primary key, unless it has been done, or begun by another worker."""
    if not _begin(number, attempt):
        return
    note("backup.maintenance_id", number)
    run = MaintenanceRun.objects.select_related("repository__tenant__endpoint").get(pk=number)
    log.info("maintenance=%d kind=%s repository=%d attempt=%d started", number, run.kind, run.repository_id, attempt)
    with _Lease(number, attempt):
        try:
            state, result, error = State.SUCCESS, _work(run), ""
        except EngineError as failure:
            if (pause := _pause(run, failure)) is not None:
                _put_off(run, str(failure), pause)
                return
            state, result, error = State.FAILED, {}, str(failure)
        except (OperationalError, InterfaceError) as fault:
            log.warning("maintenance=%d put off: %s", number, fault)
            _put_off(run, _failure(fault), LOCKED_PAUSE)
            return
        except Exception as fault:
            log.exception("maintenance=%d failed", number)
            state, result, error = State.FAILED, {}, _failure(fault)
        if result.get("problems"):
            state, error = State.FAILED, str(result["problems"][0])
        _persist(lambda: _finish(run, state, result, error))


def finish_here(run: MaintenanceRun) -> MaintenanceRun:
    """Do a queued run in this process, or wait for whoever does it, and return it: over, or queued if it has to wait."""
    while True:
        # Nobody else might: the server need not run.
        lose_expired_runs()
        run.refresh_from_db()
        run_maintenance(run.pk, run.attempt)
        run.refresh_from_db()
        if run.state != State.RUNNING:
            return run
        time.sleep(LOOK_EVERY_S)


def cancel_run(run: MaintenanceRun) -> None:
    """End a run that is queued, or runs: whoever works on it is to ask `is_wanted`. Raises Conflict if it has ended."""
    with transaction.atomic():
        rows = MaintenanceRun.objects.filter(pk=run.pk, state__in=ACTIVE_STATES)
        if not rows.update(state=State.CANCELLED, end_time=timezone.now(), lease_until=None, error=""):
            raise Conflict(_("It has ended already."))
        run.refresh_from_db()
        run_ended.send(MaintenanceRun, run=run)
        with override(settings.LANGUAGE_CODE):
            _tell(run, Event.Level.WARNING, State.CANCELLED.label)


def is_wanted(run: MaintenanceRun) -> bool:
    """Whether the attempt at a run is still the one that counts; as long as the database is away it is taken to be."""
    try:
        return MaintenanceRun.objects.filter(pk=run.pk, attempt=run.attempt, state=State.RUNNING).exists()
    except (OperationalError, InterfaceError) as error:
        log.warning("maintenance=%d may go on: %s", run.pk, error)
        connection.close()
        return True


def _finish(run: MaintenanceRun, state: State, result: dict[str, Any], error: str) -> None:
    rows = MaintenanceRun.objects.filter(pk=run.pk, attempt=run.attempt, state=State.RUNNING)
    if rows.update(state=state, result=result, error=error, end_time=timezone.now(), lease_until=None):
        run.refresh_from_db()
        run_ended.send(MaintenanceRun, run=run)
        if state == State.SUCCESS and run.arguments.get("in_turn"):
            # Every day of every repository: the repository itself shows it.
            return
        level = Event.Level.SUCCESS if state == State.SUCCESS else Event.Level.ERROR
        _tell(run, level, State(state).label, run.error or told(result))


def told(result: dict[str, Any]) -> str:
    """Return in sentences what a run did with a repository's space; "" if it was about something else."""
    if "is_pruned" not in result:
        return ""
    if not result["is_pruned"]:
        return _("%(unused)s of %(stored)s are unused, too little to prune.") % {
            "unused": filesizeformat(result["bytes_unused"]),
            "stored": filesizeformat(result["bytes_stored"]),
        }
    return _("%(freed)s of %(stored)s were freed; %(added)s were written again for it.") % {
        "freed": filesizeformat(result["bytes_deleted"] - result["bytes_added"]),
        "stored": filesizeformat(result["bytes_stored"]),
        "added": filesizeformat(result["bytes_added"]),
    }


def lose_expired_runs(now: datetime | None = None) -> int:
    """Queue the runs whose worker died for another attempt; return how many. After the last attempt they stay lost."""
    moment = now or timezone.now()
    running = MaintenanceRun.objects.filter(state=State.RUNNING)
    # Such a lease was given before the clock was put back.
    running.filter(lease_until__gt=moment + LEASE).update(lease_until=moment + LEASE)
    expired = running.filter(lease_until__lt=moment)
    lost = 0
    for run in expired:
        rows = expired.filter(pk=run.pk, attempt=run.attempt)
        reason = _("its control worker stopped answering")
        if run.attempt < settings.JOB_ATTEMPTS:
            lost += rows.update(state=State.QUEUED, attempt=run.attempt + 1, published_at=None, lease_until=None, error=reason)
        elif rows.update(state=State.LOST, end_time=moment, lease_until=None, error=reason):
            lost += 1
            run.refresh_from_db()
            run_ended.send(MaintenanceRun, run=run)
            _tell(run, Event.Level.ERROR, State.LOST.label)
    return lost


def _begin(number: int, attempt: int) -> bool:
    """Claim a queued run, unless another one of its repository goes on: then it waits. Return whether it was claimed."""
    rows = MaintenanceRun.objects.filter(pk=number, attempt=attempt, state=State.QUEUED)
    now = timezone.now()
    with transaction.atomic():
        # Its lock, so that of two that begin at once one sees the other.
        repository = Repository.objects.select_for_update().filter(maintenance__in=rows).first()
        if repository is None:
            return False
        if MaintenanceRun.objects.filter(repository=repository, state=State.RUNNING).exists():
            rows.update(not_before=now + LOCKED_PAUSE, published_at=None)
            return False
        return bool(rows.update(state=State.RUNNING, start_time=now, lease_until=now + LEASE))


def _pause(run: MaintenanceRun, failure: EngineError) -> timedelta | None:
    """Return after what time the run is worth another try; None: it has failed."""
    if isinstance(failure, RepositoryLocked | LockLost):
        return LOCKED_PAUSE
    # What is to be forgotten waits for its store, as long as that may come back.
    may_come_back = isinstance(failure, StoreError) and not isinstance(failure, BucketMissing)
    return STORE_PAUSE if run.kind in FORGETTING and may_come_back else None


def _put_off(run: MaintenanceRun, reason: str, pause: timedelta) -> None:
    """Queue the run again for a while later: that is no attempt that failed."""
    is_news = not run.error

    def queue_again() -> None:
        if MaintenanceRun.objects.filter(pk=run.pk, attempt=run.attempt, state=State.RUNNING).update(
            state=State.QUEUED, error=reason, not_before=timezone.now() + pause, published_at=None, lease_until=None
        ):
            run.refresh_from_db()
            if is_news:
                _tell(run, Event.Level.WARNING, _("waits for the repository"))

    _persist(queue_again)


def _persist(change: Callable[[], None]) -> None:
    """Make a change in a transaction, again and again while the database is away: what was done is not to be done twice."""
    while True:
        try:
            with transaction.atomic():
                return change()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block:
                raise
            log.warning("the outcome of a maintenance run waits for the database: %s", error)
            connection.close()
        time.sleep(PERSIST_EVERY_S)


def _failure(fault: Exception) -> str:
    # Not the fault's own text: it is meant for the log, and may hold anything.
    return _("%(error)s; the control worker's log says more.") % {"error": type(fault).__name__}


def _tell(run: MaintenanceRun, level: int, what: object, message: str | None = None) -> None:
    log.info("maintenance=%d state=%s %s", run.pk, State(run.state).name, run.error)
    plan = run.arguments.get("plan")
    text = _("%(kind)s of plan %(plan)s: %(state)s") if plan else _("%(kind)s of repository %(repository)s: %(state)s")
    names = {"kind": run.get_kind_display(), "repository": run.repository, "plan": run.arguments.get("plan_name"), "state": what}
    said = run.error if message is None else message
    occasion = _occasion(run) if level == Event.Level.ERROR else ""
    emit(level, Event.Topic.MAINTENANCE, text % names, said, plan_uuid=UUID(plan) if plan else None, occasion=occasion)


def _occasion(run: MaintenanceRun) -> str:
    if run.kind == MaintenanceRun.Kind.DRILL:
        return Event.Occasion.DRILL_FAILED
    return Event.Occasion.CHECK_FAILED if run.kind in CHECKS else Event.Occasion.UPKEEP_FAILED


def _work(run: MaintenanceRun) -> dict[str, Any]:
    if run.kind in WORK:
        return WORK[run.kind](run)
    row = run.repository
    repository = open_with(repository_store(row, Patience()), row)
    try:
        snapshots = [str(snapshot) for snapshot in run.arguments.get("snapshots", [])]
        if run.kind == MaintenanceRun.Kind.FORGET:
            forget(repository, snapshots)
            return {"forgotten": snapshots}
        if run.kind == MaintenanceRun.Kind.PRUNE:
            return _prune(repository, lambda sizes: True)
        if run.kind == MaintenanceRun.Kind.MAINTENANCE:
            if snapshots:
                forget(repository, snapshots)
            return {"snapshots_forgotten": len(snapshots), **_prune(repository, pays)}
        turn = turn_of(run)
        found = check(repository, subset=turn if turn.parts else None)
        note_check(run, found, turn.taken)
        return {
            "problems": found.problems,
            "notes": found.notes,
            "packs": found.packs,
            "blobs": found.blobs,
            "snapshots": found.snapshots,
            "packs_read": found.packs_read,
            "bytes_read": found.bytes_read,
            "parts_read": len(turn.taken),
        }
    finally:
        repository.close()


def _prune(repository: EngineRepository, if_it: Callable[[ByteCounts], bool]) -> dict[str, Any]:
    """Prune if that pays; return what it found (bytes of blobs as stored) and what it did (bytes of whole packs)."""
    is_pruned = False

    def ask(sizes: ByteCounts) -> bool:
        nonlocal is_pruned
        is_pruned = if_it(sizes)
        return is_pruned

    report = prune(repository, PruneOptions(retry_lock_s=LOCK_WAIT_S, pays=ask))
    return {
        "is_pruned": is_pruned,
        "bytes_stored": report.bytes.total,
        "bytes_unused": report.bytes.total - report.bytes.used,
        "packs_deleted": report.packs_deleted,
        "bytes_deleted": report.bytes_deleted,
        "bytes_added": report.bytes_added,
        "duration_s": round(report.duration_s, 3),
    }


class _Lease:
    """Renews a run's lease from a thread for the length of a block."""

    def __init__(self, number: int, attempt: int) -> None:
        self._number, self._attempt = number, attempt
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="maintenance lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        begun = time.monotonic()
        try:
            while not self._ended.wait(RENEW_EVERY_S):
                rows = MaintenanceRun.objects.filter(pk=self._number, attempt=self._attempt, state=State.RUNNING)
                try:
                    is_renewed = rows.update(lease_until=timezone.now() + LEASE)
                except DatabaseFailure as error:
                    # The lease outlives seven missed rounds.
                    log.warning("maintenance=%d lease not renewed: %s", self._number, error)
                    connection.close()
                    continue
                if not is_renewed:
                    log.warning("maintenance=%d lost its lease after %.0f s", self._number, time.monotonic() - begun)
                    return
        finally:
            connection.close()
