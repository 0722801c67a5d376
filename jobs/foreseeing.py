"""What would come of a plan that is not there yet: its next fires, what would stay of its backups, and how much that would be."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from statistics import median
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _

from jobs.fitting import left_of_quota
from jobs.models import BackupPlan
from jobs.quartz import QuartzExpression
from jobs.retention import keep_rules
from jobs.scheduling import next_fires, set_next_fire
from records.lifecycle import hold_until
from records.models import RESTORABLE_STATES, BackupRecord
from records.retention import kept_by_rules

FIRES_SHOWN = 10
# How far back one looks, and how many runs: enough for yearly rules of a nightly plan.
LONGEST = timedelta(days=3 * 366)
MOST_RUNS = 2000
# The newest runs of the tenant by which the sizes of new ones are judged.
JUDGED_BY = 500


@dataclass(frozen=True, slots=True)
class Staying:
    """What would be there now, had the plan run since `since`. `kept`: times, newest first, and why each stays."""

    since: datetime
    runs: int
    kept: Sequence[tuple[datetime, Sequence[str]]]
    # Without an end: nothing goes.
    is_growing: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes that a plan would store: its first run, each later one, and all that stay. None: not known."""

    first: int
    later: int | None
    together: int | None
    left: int | None

    @property
    def fits(self) -> bool:
        """Whether it fits into the quota, as far as that is known."""
        return self.left is None or max(self.first, self.together or 0) <= self.left


def coming_fires(plan: BackupPlan, now: datetime, count: int = FIRES_SHOWN) -> list[datetime]:
    """Return the next fires of a plan that may not be stored, in its own zone."""
    set_next_fire(plan, now)
    return [fire.astimezone(ZoneInfo(plan.timezone)) for fire in next_fires(plan, count)]


def staying_backups(plan: BackupPlan, now: datetime) -> Staying:
    """Return which backups of a plan would be there now, had it run by its schedule until now."""
    runs = _past_fires(plan, now)
    since = runs[-1] if runs else now
    if plan.keep:
        kept = kept_by_rules(runs, keep_rules(plan, plan.keep), now)
        return Staying(since, len(runs), kept, is_growing=False)
    if plan.hold_type == BackupPlan.HoldType.COUNT:
        newest = [(run, [_("it is among the newest %(count)d") % {"count": plan.hold_time}]) for run in runs[: plan.hold_time]]
        return Staying(since, len(runs), newest, is_growing=False)
    if plan.hold_type == BackupPlan.HoldType.FOREVER:
        return Staying(since, len(runs), [(run, [_("it is held for ever")]) for run in runs], is_growing=True)
    detail = {"hold_type": plan.hold_type, "hold_time": plan.hold_time}
    held = takewhile(lambda run: (until := hold_until(detail, run)) is not None and until > now, runs)
    return Staying(since, len(runs), [(run, [_("its hold has not ended")]) for run in held], is_growing=False)


def foreseen_cost(plan: BackupPlan, size: int, backups: int) -> Cost:
    """Return what a plan would store that reads `size` bytes and of which so many backups stay; two queries.

    Judged by what the runs of its tenant have stored of what they read: first ones and later ones apart.
    """
    earlier = BackupRecord._base_manager.filter(plan_uuid=OuterRef("plan_uuid"), pk__lt=OuterRef("pk"), state__in=RESTORABLE_STATES)
    runs = BackupRecord._base_manager.filter(
        repository__tenant=plan.tenant, state__in=RESTORABLE_STATES, bytes_read__gt=0, bytes_stored__isnull=False
    ).annotate(is_later=Exists(earlier))
    shares: dict[bool, list[float]] = {False: [], True: []}
    for is_later, read, stored in runs.order_by("-pk").values_list("is_later", "bytes_read", "bytes_stored")[:JUDGED_BY]:
        shares[is_later].append(min(1.0, (stored or 0) / (read or 1)))
    first = round(size * (median(shares[False]) if shares[False] else 1))
    later = round(size * median(shares[True])) if shares[True] else None
    together = first + later * max(0, backups - 1) if later is not None else None
    return Cost(first, later, together, left_of_quota(plan))


def _past_fires(plan: BackupPlan, now: datetime) -> list[datetime]:
    """Return the fires that the plan would have had, newest first."""
    if plan.cron_expression is None:
        return [now]
    expression, zone = QuartzExpression.parse(plan.cron_expression), ZoneInfo(plan.timezone)
    some = list(expression.fires(now - LONGEST, zone, MOST_RUNS + 1))
    if len(some) > MOST_RUNS and some[-1] < now:
        # Too many: as far back as so many take, twice, since they may come in bunches.
        reach = some[-1] - some[0]
        some = list(expression.fires(now - 2 * reach, zone, 4 * MOST_RUNS))
    past = [fire.astimezone(UTC) for fire in some if fire <= now]
    return past[::-1][:MOST_RUNS]
