"""Dead-man pings: a service outside hears of each run of a plan, and tells people when it does not.

Such a service (healthchecks.io, or one's own) gives each check an address: it is POSTed to when a run succeeded, with `/start`
behind it when one began, with `/fail` when one failed. So people hear even of what this server cannot tell: that it is gone.

Of each plan the newest signal only is kept: what is older tells nothing any more.
"""

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from jobs.models import BackupPlan, PlanPing
from records.events import emit
from records.following import job_changed
from records.models import BackupRecord, Event, JobRecord, State
from records.notifying.addresses import require_web_address
from records.notifying.sending import pause
from records.notifying.speaking import NotTold, post

log = logging.getLogger(__name__)

SIGNALS = {
    State.RUNNING: PlanPing.Signal.START,
    State.SUCCESS: PlanPing.Signal.SUCCESS,
    State.WARNINGS: PlanPing.Signal.SUCCESS,
    State.FAILED: PlanPing.Signal.FAIL,
    State.LOST: PlanPing.Signal.FAIL,
}
# After half an hour or so the service has told people by itself.
ATTEMPTS = 7
CLAIM = timedelta(minutes=2)
AT_ONCE = 200
PINGS_AT_ONCE = 8
TEXT_LENGTH = 1000
# Every step of every job asks whether its plan has pings.
KNOWN_FOR_S = 5.0

_known: tuple[float, frozenset[UUID]] = (-KNOWN_FOR_S, frozenset())
_sending = threading.Lock()


def set_ping(plan: BackupPlan, address: str) -> PlanPing:
    """Have the runs of the plan told to this address, instead of the one before. Raises ChannelRefused."""
    require_web_address(address)
    given = {"address": address, "signal": "", "text": "", "due_at": None, "attempts": 0, "error": "", "told_at": None}
    ping = PlanPing.objects.update_or_create(plan=plan, defaults=given)[0]
    forget_known()
    log.info("plan=%s is pinged for at %s", plan.uuid, host_of(address))
    return ping


def end_ping(plan: BackupPlan) -> None:
    """Have nobody told any more."""
    PlanPing.objects.filter(plan=plan).delete()
    forget_known()


def host_of(address: str) -> str:
    """Return what of an address may be shown: the path of such an address is its password."""
    return urlsplit(address).hostname or ""


def address_for(address: str, signal: str) -> str:
    """Return where a signal goes: what the service's check has of its own, with the signal behind its path."""
    parts = urlsplit(address)
    path = parts.path.rstrip("/") if signal == PlanPing.Signal.SUCCESS else f"{parts.path.rstrip('/')}/{signal}"
    return urlunsplit(parts._replace(path=path))


@receiver(job_changed)
def note_signal(sender: Any, record: JobRecord, **_extra: Any) -> None:
    """Keep what the record's state is to the service of its plan, until it is sent."""
    signal = SIGNALS.get(State(record.state))
    if not isinstance(record, BackupRecord) or signal is None or record.plan_uuid not in _plans_with_pings():
        return
    told = {"signal": signal, "text": f"{record}\n{record.error}"[:TEXT_LENGTH], "due_at": timezone.now()}
    try:
        with transaction.atomic():
            PlanPing.objects.filter(plan__uuid=record.plan_uuid).update(attempts=0, claimed_until=None, **told)
    except DatabaseError as fault:
        log.exception("job=%s nobody is pinged", record.job)
        with override(settings.LANGUAGE_CODE):
            _tell_not_pinged(record.plan_name, record.plan_uuid, type(fault).__name__)


def send_due_pings(now: datetime | None = None) -> int:
    """Send the signals that are due; return how many were taken. One thread of a process at a time: others have other work."""
    if not _sending.acquire(blocking=False):
        return 0
    try:
        claimed = _claim(now or timezone.now())
        if not claimed:
            return 0
        with ThreadPoolExecutor(PINGS_AT_ONCE, "pinging") as pool:
            outcomes = list(pool.map(_send, claimed))
        return sum(_note(ping, error, now or timezone.now()) for ping, error in zip(claimed, outcomes, strict=True))
    finally:
        _sending.release()


def forget_known() -> None:
    """Ask the database which plans have pings with the next step of a job."""
    global _known
    _known = (-KNOWN_FOR_S, frozenset())


def _plans_with_pings() -> frozenset[UUID]:
    global _known
    now = time.monotonic()
    if now - _known[0] > KNOWN_FOR_S:
        _known = now, frozenset(PlanPing.objects.values_list("plan__uuid", flat=True))
    return _known[1]


def _claim(now: datetime) -> Iterable[PlanPing]:
    with transaction.atomic():
        free = Q(claimed_until=None) | Q(claimed_until__lt=now)
        rows = PlanPing.objects.filter(free, due_at__lte=now).select_for_update(skip_locked=True, of=("self",))
        keys = list(rows.order_by("due_at").values_list("pk", flat=True)[:AT_ONCE])
        PlanPing.objects.filter(pk__in=keys).update(claimed_until=now + CLAIM, attempts=F("attempts") + 1)
        return list(PlanPing.objects.filter(pk__in=keys).select_related("plan"))


def _send(ping: PlanPing) -> str:
    """Return why a signal was not taken, "" if it was. Touches no database, so that it may run in any thread."""
    try:
        require_web_address(ping.address)
        post(address_for(ping.address, ping.signal), ping.text.encode(), {"content-type": "text/plain; charset=utf-8"})
    except NotTold as failure:
        return str(failure)
    except Exception as fault:
        # Not its text, which may hold the address.
        log.warning("plan=%s could not be pinged for: %s", ping.plan.uuid, type(fault).__name__)
        return type(fault).__name__
    return ""


def _note(ping: PlanPing, error: str, now: datetime) -> int:
    # Another signal may have come meanwhile, which is yet to be sent.
    same = PlanPing.objects.filter(pk=ping.pk, due_at=ping.due_at, signal=ping.signal, claimed_until=ping.claimed_until)
    if not error:
        same.update(due_at=None, claimed_until=None)
        PlanPing.objects.filter(pk=ping.pk).update(told_at=now, error="")
        return 1
    log.warning("plan=%s not pinged for: %s", ping.plan.uuid, error)
    is_last = ping.attempts >= ATTEMPTS
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        due_at = None if is_last else now + pause(ping.attempts)
        if same.update(due_at=due_at, claimed_until=None, error=error) and is_last:
            _tell_not_pinged(str(ping.plan), ping.plan.uuid, error)
    return 0


def _tell_not_pinged(plan: str, uuid: UUID, error: str) -> None:
    title = _("Nobody could be pinged for %(plan)s") % {"plan": plan}
    emit(Event.Level.ERROR, Event.Topic.GENERAL, title, error, plan_uuid=uuid)
