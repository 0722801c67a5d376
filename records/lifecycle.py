"""A job's way through its states: claimed by one agent, leased while it runs, finished once.

    QUEUED ── claim ── RUNNING ── finish ── SUCCESS | WARNINGS | FAILED | CANCELLED
       ▲                  │
       ├── next attempt ──┼── lease ran out, engine died ── LOST (after the last attempt)
       └── next attempt ──┴── agent was stopped, and handed it back

Every step is one conditional UPDATE that names state and attempt, and the number of rows it changed is the answer: no lock is
held and no step can happen twice. What a late agent says about an attempt that is not its own any more is refused.

An agent that could not be heard for longer than its lease may still be at work. As long as nobody has claimed the next attempt, its
report takes its own attempt back, so that an outage of the server costs no work. `lease_until` of a job that does not run is the
lease that ran out: whoever held it may come back.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from dateutil.relativedelta import relativedelta
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override

from backupcenter.api.exceptions import Conflict
from records.events import emit, emit_progress
from records.following import tell_followers
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, Event, JobRecord, RecoveryRecord, State
from records.pacing import lease_end

log = logging.getLogger(__name__)

KINDS: dict[str, type[BackupRecord] | type[RecoveryRecord]] = {
    BackupRecord.KIND: BackupRecord,
    RecoveryRecord.KIND: RecoveryRecord,
}
OUTCOMES = {
    "success": State.SUCCESS,
    "warnings": State.WARNINGS,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}
# By hold type; the others hold for ever, or by number.
HOLD_UNITS = {1: relativedelta(days=1), 2: relativedelta(weeks=1), 3: relativedelta(months=1), 4: relativedelta(years=1)}
CRASHED = "crashed"
HANDED_BACK = "handed_back"
UNREADABLE_KEPT = 1000
COMMANDS_KEPT = 200
_BACKUP_COUNTS = {
    "files_total": "files_total",
    "files_new": "files_new",
    "files_changed": "files_changed",
    "files_unmodified": "files_unmodified",
    "bytes_total": "bytes_read",
    "bytes_added": "bytes_added",
    "bytes_stored": "bytes_stored",
}
_RECOVERY_COUNTS = {name: name for name in ("files_restored", "files_skipped", "files_verified", "bytes_restored")}


class StaleAttempt(Conflict):
    """The attempt is not, or not any more, the one that counts."""

    default_detail = gettext_lazy("This attempt at the job does not count any more.")


def find_job(client_id: int, job: str) -> JobRecord | None:
    """Return the record of a job of the client's, None if there is no such job (or it is another's)."""
    named = job_named(job)
    if named is None:
        return None
    model, pk = named
    return next(iter(model.objects.filter(pk=pk, client=client_id).order_by()), None)


def job_named(job: str) -> tuple[type[BackupRecord] | type[RecoveryRecord], int] | None:
    """Return the kind and number of a job's name, such as backup-12; None if it is no such name."""
    kind, _dash, number = job.partition("-")
    model = KINDS.get(kind)
    if model is None or not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    return model, int(number)


def claim_job(record: JobRecord, attempt: int, nonce: str = "") -> None:
    """Make a queued job the caller's own.

    `nonce`: chosen at random by the caller, who may repeat the claim with it if the answer was lost. Raises StaleAttempt if the
    job is not queued as that attempt, or not offered, Conflict as long as another run of the same plan goes on.
    """
    now = timezone.now()
    said = {"state": State.RUNNING, "start_time": now, "lease_until": lease_end(now), "progress": None, "error": "",
            "claim_nonce": nonce, "course": {}}  # fmt: skip
    # Whoever fails here fails as a whole, so that a savepoint would be for nothing.
    with transaction.atomic(savepoint=False):
        if isinstance(record, BackupRecord) and _runs_already(record):
            raise Conflict(_("Another run of this backup plan has not ended yet."))
        if not _rows(record, State.QUEUED, attempt).filter(offered_at__isnull=False).update(**said):
            if nonce and _rows(record, State.RUNNING, attempt).filter(claim_nonce=nonce).update(lease_until=lease_end(now)):
                record.refresh_from_db()
                return
            raise StaleAttempt
        _note(record, said)
        _tell(record, Event.Level.INFO, _("started"))


def finish_job(
    record: JobRecord,
    attempt: int,
    outcome: str,
    *,
    error: str = "",
    result: dict[str, Any] | None = None,
    unreadable: list[dict[str, str]] | None = None,
    commands: list[dict[str, Any]] | None = None,
    course: dict[str, Any] | None = None,
) -> None:
    """End a running job with an outcome, or have it tried again if its engine crashed or its agent was stopped.

    Saying the same twice is no error: the answer to the first time may have been lost. Raises StaleAttempt.
    """
    if outcome == CRASHED:
        if not lose_job(record, attempt, error):
            raise StaleAttempt
        return
    if outcome == HANDED_BACK:
        hand_back_job(record, attempt, error)
        return
    state = OUTCOMES[outcome]
    now = timezone.now()
    counts = _BACKUP_COUNTS if isinstance(record, BackupRecord) else _RECOVERY_COUNTS
    given = result or {}
    fields: dict[str, Any] = {field: given[name] for name, field in counts.items() if given.get(name) is not None}
    if isinstance(record, BackupRecord):
        fields["snapshot"] = given.get("snapshot_id") or ""
        fields["hold_until"] = hold_until(record.backup_detail, now) if state in (State.SUCCESS, State.WARNINGS) else None
    if isinstance(record, RecoveryRecord) and record.is_drill:
        fields["drilled"] = given.get("drill")
    if isinstance(record, RecoveryRecord) and record.is_dry_run:
        fields["preview"] = given.get("preview")
    fields |= {
        "state": state,
        "attempt": attempt,
        "end_time": now,
        "lease_until": None,
        "progress": None,
        "error": error,
        "duration_s": given.get("duration_s"),
        "unreadable": (unreadable or [])[:UNREADABLE_KEPT],
        "commands": (commands or [])[:COMMANDS_KEPT],
    }
    if course is not None:
        fields["course"] = course
    with transaction.atomic():
        rows = _all_rows(record).filter(Q(state=State.RUNNING, attempt=attempt) | _lost_to_time(attempt))
        if not rows.update(**fields):
            record.refresh_from_db()
            if record.attempt == attempt and record.state == state:
                return
            raise StaleAttempt
        _note(record, fields)
        level = {
            State.SUCCESS: Event.Level.SUCCESS,
            State.WARNINGS: Event.Level.WARNING,
            State.FAILED: Event.Level.ERROR,
            State.CANCELLED: Event.Level.WARNING,
        }[state]
        _tell(record, level, state.label, error)
    emit_progress(record)


def fail_queued(record: JobRecord, attempt: int, reason: str) -> None:
    """End a queued job that cannot be run. Nothing happens if it is not queued as that attempt any more."""
    with transaction.atomic():
        if _rows(record, State.QUEUED, attempt).update(state=State.FAILED, end_time=timezone.now(), error=reason):
            record.refresh_from_db()
            _tell(record, Event.Level.ERROR, State.FAILED.label, reason)


def lose_job(record: JobRecord, attempt: int, reason: str, *, expired_at: datetime | None = None) -> bool:
    """Note that a running attempt was lost, and queue the next one unless it was the last or nobody wants it any more.

    `expired_at`: only if its lease ended before this time. Returns whether the attempt was still running. The next one is
    offered by `jobs.offering`.
    """
    with transaction.atomic():
        rows = _rows(record, State.RUNNING, attempt)
        if expired_at is not None:
            # The agent may have renewed the lease since the record was read.
            rows = rows.filter(lease_until__lt=expired_at)
        common: dict[str, Any] = {"progress": None, "error": reason}
        if expired_at is None:
            common["lease_until"] = None
        if _cancel_requested(record, rows, common):
            return True
        if attempt - record.handed_back < settings.JOB_ATTEMPTS:
            lost = rows.update(state=State.QUEUED, attempt=attempt + 1, offered_at=None, published_at=None, **common)
        else:
            lost = rows.update(state=State.LOST, end_time=timezone.now(), **common)
        if not lost:
            return False
        record.refresh_from_db()
        _tell(record, Event.Level.ERROR, State.LOST.label, reason)
        if record.state == State.QUEUED:
            _tell(record, Event.Level.INFO, _("is tried again (attempt %(attempt)d)") % {"attempt": record.attempt})
    return True


def take_back(record: JobRecord, attempt: int, said: dict[str, Any]) -> None:
    """Let a lost attempt go on whose agent is heard again, and note what it said. Raises StaleAttempt if the next one has begun."""
    with transaction.atomic():
        rows = _all_rows(record).filter(_lost_to_time(attempt))
        if not rows.update(state=State.RUNNING, attempt=attempt, end_time=None, error="", **said):
            # Another report, that was as long on its way, may have done so just now.
            if not _rows(record, State.RUNNING, attempt).update(**said):
                raise StaleAttempt
            return
        record.refresh_from_db()
        _tell(record, Event.Level.INFO, _("goes on, its client is heard again"))


def hand_back_job(record: JobRecord, attempt: int, reason: str) -> None:
    """Queue a running job again whose agent was told to stop; nothing was lost, so that it may happen any number of times.

    Raises StaleAttempt if the attempt is not running.
    """
    with transaction.atomic():
        rows = _rows(record, State.RUNNING, attempt)
        common: dict[str, Any] = {"progress": None, "error": reason, "lease_until": None}
        if _cancel_requested(record, rows, common):
            return
        again = {"attempt": attempt + 1, "handed_back": F("handed_back") + 1, "offered_at": None, "published_at": None}
        if not rows.update(state=State.QUEUED, **again, **common):
            raise StaleAttempt
        record.refresh_from_db()
        _tell(record, Event.Level.INFO, _("was handed back and waits for its agent to be started again"), reason)


def lose_expired(now: datetime | None = None) -> int:
    """Lose every running job whose lease ran out; return how many."""
    moment = now or timezone.now()
    reason = _("its client stopped answering")
    return sum(lose_job(record, record.attempt, reason, expired_at=moment) for record in _expired(moment))


def shorten_leases(now: datetime | None = None) -> int:
    """Let no lease end later than one that is given now, as those do that were given before the clock was put back."""
    longest = lease_end(now or timezone.now())
    running = (model._default_manager.filter(state=State.RUNNING, lease_until__gt=longest) for model in KINDS.values())
    return sum(rows.update(lease_until=longest) for rows in running)


def cancel_job(record: JobRecord, reason: str = "") -> None:
    """Cancel a job: at once if it is queued, with its agent's next report if it runs. Raises Conflict if it has ended."""
    with transaction.atomic():
        # It may be claimed, or lost and queued again, between one look and the next.
        while _all_rows(record).filter(state__in=ACTIVE_STATES).exists():
            ended = {"state": State.CANCELLED, "end_time": timezone.now(), "error": reason}
            if _all_rows(record).filter(state=State.QUEUED).update(cancel_requested=True, **ended):
                record.refresh_from_db()
                _tell(record, Event.Level.WARNING, State.CANCELLED.label, reason)
                return
            if _all_rows(record).filter(state=State.RUNNING).update(cancel_requested=True):
                record.refresh_from_db()
                return
    raise Conflict(_("The job has ended already."))


def end_job(record: JobRecord, reason: str) -> None:
    """Cancel a job at once, also one that runs: of one whose agent is not heard any more. Raises Conflict if it has ended."""
    with transaction.atomic():
        ended = {"state": State.CANCELLED, "end_time": timezone.now(), "error": reason, "lease_until": None, "progress": None}
        if not _all_rows(record).filter(state__in=ACTIVE_STATES).update(cancel_requested=True, **ended):
            raise Conflict(_("The job has ended already."))
        record.refresh_from_db()
        _tell(record, Event.Level.WARNING, State.CANCELLED.label, reason)


def hold_until(backup_detail: dict[str, Any], end: datetime) -> datetime | None:
    """Return until when a backup that ended at `end` is held; None: for ever, or by number."""
    length = HOLD_UNITS.get(backup_detail.get("hold_type", 0))
    if length is None:
        return None
    try:
        held: datetime = end + length * int(backup_detail["hold_time"])
        return held
    except (OverflowError, ValueError):
        return None


def _expired(now: datetime) -> Iterator[JobRecord]:
    for model in KINDS.values():
        yield from model.objects.filter(state=State.RUNNING, lease_until__lt=now)


def _runs_already(record: BackupRecord) -> bool:
    """Return whether a run of the record's plan goes on. Its runs stay locked until the transaction ends."""
    runs = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, state__in=ACTIVE_STATES)
    found = runs.select_for_update().order_by("pk").values_list("pk", "state")
    return any(state == State.RUNNING and pk != record.pk for pk, state in found)


def _cancel_requested(record: JobRecord, rows: Any, fields: dict[str, Any]) -> bool:
    """Whether the running job in `rows` was to be cancelled; then it is, with these fields."""
    if not rows.filter(cancel_requested=True).update(state=State.CANCELLED, end_time=timezone.now(), **fields):
        return False
    record.refresh_from_db()
    _tell(record, Event.Level.WARNING, State.CANCELLED.label, fields["error"])
    return True


def _lost_to_time(attempt: int) -> Q:
    """Match a job whose attempt was lost since its lease ran out, and whose next attempt nobody has claimed."""
    waiting = Q(state=State.QUEUED, attempt=attempt + 1) | Q(state=State.LOST, attempt=attempt)
    return waiting & Q(lease_until__isnull=False)


def _note(record: JobRecord, said: Mapping[str, Any]) -> None:
    """Have the record say what its row was just given; to read it again would cost as much as all the rest."""
    for name, value in said.items():
        setattr(record, name, value)


def _all_rows(record: JobRecord) -> Any:
    return type(record)._default_manager.filter(pk=record.pk)


def _rows(record: JobRecord, state: State, attempt: int) -> Any:
    return _all_rows(record).filter(state=state, attempt=attempt)


def _tell(record: JobRecord, level: int, what: object, reason: str = "") -> None:
    topic = Event.Topic.BACKUP if isinstance(record, BackupRecord) else Event.Topic.RECOVERY
    # One language for all who listen, whichever the one who cancels a job prefers.
    with override(settings.LANGUAGE_CODE):
        name = _("Backup %(name)s") if isinstance(record, BackupRecord) else _("Recovery %(name)s")
        if isinstance(record, RecoveryRecord) and record.is_dry_run:
            name = _("Dry run of recovery %(name)s")
        if isinstance(record, RecoveryRecord) and record.is_drill:
            name = _("Restore drill as recovery %(name)s")
        title = f"{name % {'name': record}}: {what}"
    log.info(
        "job=%s client=%s attempt=%d state=%s %s", record.job, record.client_id, record.attempt, State(record.state).name, reason
    )
    emit(level, topic, title, reason, record=record, occasion=_occasion(record))
    tell_followers(record)


def _occasion(record: JobRecord) -> str:
    """Return what a job's present state is for rules of notifying, "" if it is nothing to them."""
    if isinstance(record, RecoveryRecord) and record.is_drill:
        # The drill itself is told of.
        return ""
    if record.state in (State.FAILED, State.LOST):
        return Event.Occasion.FAILED
    if record.state not in RESTORABLE_STATES or not isinstance(record, BackupRecord):
        return ""
    ended = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, pk__lt=record.pk, end_time__isnull=False)
    judged = ended.filter(state__in=(*RESTORABLE_STATES, State.FAILED, State.LOST))
    last = judged.order_by("-pk").values_list("state", flat=True).first()
    return Event.Occasion.RECOVERED if last in (State.FAILED, State.LOST) else ""
