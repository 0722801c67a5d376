"""When plans fire: the tick that starts what is due, and the next time of each plan.

A plan carries its next fire in an indexed column. The tick claims due plans row by row, so that any number of schedulers may
tick at once; a unique (plan, scheduled time) is the last word. Fires that were missed by more than a moment run once, late, or
not at all: the plan says which, and an event says so.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.dispatch import Launch, launch_backups
from jobs.models import BackupPlan, Rounds
from jobs.offering import offer_jobs
from jobs.quartz import QuartzExpression
from jobs.showing import show_next_fires
from records.events import emit
from records.models import Event

log = logging.getLogger(__name__)

# A tick may come late by so much without a fire counting as missed.
GRACE = timedelta(seconds=15)
# A plan that fails over its fire is looked at again after so long.
PUT_OFF = timedelta(minutes=10)
PLANS_AT_ONCE = 100
COUNTED_MISSES = 1000


def next_fire(plan: BackupPlan, after: datetime) -> datetime | None:
    """Return the plan's first fire after `after` that its start and end allow, None if there is none."""
    if plan.cron_expression is None:
        return None if plan.fired_at == plan.start_time else plan.start_time
    earliest = max(after, plan.start_time - timedelta(seconds=1))
    fire = QuartzExpression.parse(plan.cron_expression).next_after(earliest, ZoneInfo(plan.timezone))
    if fire is None or (plan.end_time is not None and fire > plan.end_time):
        return None
    return fire


def next_fires(plan: BackupPlan, count: int) -> list[datetime]:
    """Return the plan's next fires, at most `count`; none while it is paused."""
    fires: list[datetime] = []
    fire = plan.next_fire_at
    while fire is not None and len(fires) < count:
        fires.append(fire)
        fire = None if plan.cron_expression is None else next_fire(plan, fire)
    return fires


def jitter(plan: BackupPlan, fire: datetime) -> timedelta:
    """Return how long after its fire a run is to begin: spread over the plan's window, and always the same for plan and fire."""
    drawn = hashlib.sha256(f"{plan.uuid} {int(fire.timestamp())}".encode()).digest()
    return timedelta(seconds=int.from_bytes(drawn[:8]) % (plan.jitter_s + 1))


def set_next_fire(plan: BackupPlan, now: datetime | None = None) -> None:
    """Work out the next fire anew, after the plan was changed; a paused plan has none."""
    plan.next_fire_at = None if plan.paused else next_fire(plan, now or timezone.now())


def fire_due_plans(now: datetime | None = None) -> int:
    """Start the runs of all plans that are due; return how many runs."""
    moment = now or timezone.now()
    started = 0
    while True:
        with transaction.atomic():
            due = list(
                BackupPlan.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("client", "tenant__endpoint", "repository__tenant__endpoint")
                .filter(paused=False, next_fire_at__lte=moment)
                .order_by("next_fire_at")[:PLANS_AT_ONCE]
            )
            started += _fire_together(due, moment)
        if due:
            offer_jobs()
        if len(due) < PLANS_AT_ONCE:
            return started


def notice_clock_put_back(now: datetime | None = None) -> bool:
    """Work out all next fires anew if the clock was put back: they were found by a time that had not come. Return whether it was.

    What has run before it was put back does not run again: a plan and a time make one record.
    """
    moment = now or timezone.now()
    if Rounds.objects.filter(pk=1, clock_at__lte=moment).update(clock_at=moment):
        return False
    with transaction.atomic():
        rounds = Rounds.lock()
        latest = rounds.clock_at
        if latest is not None and moment <= latest <= moment + GRACE:
            return False
        rounds.clock_at = moment
        rounds.save(update_fields=["clock_at"])
        if latest is None or latest < moment:
            return False
        log.warning("clock put back from %s to %s", latest.isoformat(), moment.isoformat())
        title = _("The server's clock was put back by %(time)s") % {
            "time": timedelta(seconds=round((latest - moment).total_seconds()))
        }
        emit(Event.Level.WARNING, Event.Topic.GENERAL, title, _("Schedules go on from the new time; nothing runs twice."))
        recurring = BackupPlan.objects.select_for_update().filter(paused=False, cron_expression__isnull=False)
        for plan in recurring.exclude(next_fire_at__lte=moment):
            # A fire of this very moment is still to come.
            set_next_fire(plan, moment - timedelta(microseconds=1))
            plan.save(update_fields=["next_fire_at"])
            show_next_fires([plan])
    return True


def _fire_together(plans: Sequence[BackupPlan], now: datetime) -> int:
    """Do as `fire_plans`; if it fails, each plan fires by itself, so that one keeps no other from firing."""
    if not plans:
        return 0
    try:
        with transaction.atomic():
            return fire_plans(plans, now)
    except Exception:
        log.exception("%d plans cannot fire together", len(plans))
        for plan in plans:
            plan.refresh_from_db(fields=["next_fire_at", "fired_at"])
        return sum(fire_or_report(plan, now) for plan in plans)


def fire_or_report(plan: BackupPlan, now: datetime) -> int:
    """Do as `fire_plans` for one; if it fails it is told and put off."""
    try:
        with transaction.atomic():
            return fire_plans([plan], now)
    except Exception as error:
        log.exception("plan=%s cannot fire", plan.uuid)
        plan.next_fire_at = now + PUT_OFF
        plan.save(update_fields=["next_fire_at"])
        title = _("Backup plan %(plan)s could not start its run") % {"plan": plan.backup_name}
        # Not the error's own text: it is meant for the log, and may hold anything.
        reason = _("%(error)s; the control worker's log says more.") % {"error": type(error).__name__}
        emit(Event.Level.ERROR, Event.Topic.BACKUP, title, reason, **_about(plan))
        return 0


def fire_plans(plans: Sequence[BackupPlan], now: datetime) -> int:
    """Start the plans' runs up to `now` and set their next fires; return how many. The caller has locked the plans' rows."""
    started = launch_backups([launch for plan in plans for launch in _fire(plan, now)])
    BackupPlan.objects.bulk_update(plans, ["next_fire_at", "fired_at"])
    show_next_fires(plans)
    return len(started)


def _fire(plan: BackupPlan, now: datetime) -> Iterator[Launch]:
    """Yield the runs of a plan up to `now`, and move its fires on; nothing is saved."""
    fire = plan.next_fire_at
    if fire is not None and fire < now - GRACE:
        yield from _make_up(plan, fire, now)
        plan.fired_at = fire
        fire = None if plan.cron_expression is None else next_fire(plan, now - GRACE)
    while fire is not None and fire <= now:
        yield Launch(plan, scheduled_at=fire, not_before=_not_before(plan, fire, fire))
        plan.fired_at = fire
        fire = None if plan.cron_expression is None else next_fire(plan, fire)
    plan.next_fire_at = fire


def _about(plan: BackupPlan) -> dict[str, Any]:
    return {"plan_uuid": plan.uuid, "client": plan.client, "occasion": Event.Occasion.MISSED}


def _not_before(plan: BackupPlan, fire: datetime, begin: datetime) -> datetime | None:
    return begin + jitter(plan, fire) if plan.jitter_s else None


def _make_up(plan: BackupPlan, first: datetime, now: datetime) -> Iterator[Launch]:
    """Tell of the fires from `first` on that were missed by now; yield the run that makes up for them, if any is to."""
    missed = _count_fires(plan, first, now - GRACE)
    text = ngettext(
        "Backup plan %(plan)s missed %(count)d run",
        "Backup plan %(plan)s missed %(count)d runs",
        missed,
    )  # fmt: skip
    title = text % {"plan": plan.backup_name, "count": missed}
    log.warning("plan=%s missed=%d first=%s misfire=%s", plan.uuid, missed, first.isoformat(), plan.misfire)
    emit(Event.Level.WARNING, Event.Topic.BACKUP, title, plan.get_misfire_display(), **_about(plan))
    if plan.misfire == BackupPlan.Misfire.RUN_ONCE:
        # What a whole fleet has missed begins as spread as it would have.
        yield Launch(plan, scheduled_at=first, is_late=True, not_before=_not_before(plan, first, now))


def _count_fires(plan: BackupPlan, first: datetime, until: datetime) -> int:
    """Count the fires from `first` to `until`, up to COUNTED_MISSES."""
    count = 0
    fire: datetime | None = first
    while fire is not None and fire <= until and count < COUNTED_MISSES:
        count += 1
        fire = None if plan.cron_expression is None else next_fire(plan, fire)
    return count
