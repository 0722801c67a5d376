"""What the history adds up to: how each day ended, what was read of the hosts and what of it was new."""

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.core.cache import cache
from django.db.models import Count, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone
from redis import RedisError

from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, State

# A month of a large fleet is read in some tenths of a second, which the front page does not take each time.
KEPT_S = 60


@dataclass(frozen=True, slots=True)
class Day:
    """The runs that were queued on a day, by how they ended.

    In bytes, of those that can be restored: `read` of the hosts, `added` since no backup had it yet, `stored` once compressed.
    """

    date: date
    success: int = 0
    warnings: int = 0
    failed: int = 0
    read: int = 0
    added: int = 0
    stored: int = 0

    @property
    def begin(self) -> datetime:
        return _midnight(self.date)

    @property
    def end(self) -> datetime:
        """When the next day begins."""
        return _midnight(self.date + timedelta(days=1))

    @property
    def runs(self) -> int:
        return self.success + self.warnings + self.failed

    @property
    def worst(self) -> str:
        """`failed`, `warnings`, `success`, or `none` if nothing ran."""
        return next((name for name in ("failed", "warnings", "success") if getattr(self, name)), "none")


_GROUPS = {State.SUCCESS: "success", State.WARNINGS: "warnings", State.FAILED: "failed", State.LOST: "failed"}


def recent_days(count: int, now: datetime | None = None) -> list[Day]:
    """Return the last days, today as the last, in the current time zone. At most a minute old."""
    today = timezone.localdate(now)
    key = f"days:{timezone.get_current_timezone_name()}:{today}:{count}"
    # Without the cache the page takes longer; it is wanted most when something is away.
    figures = None
    with suppress(RedisError):
        figures = cache.get(key)
    if figures is None:
        figures = _count_days(today - timedelta(days=count - 1))
        with suppress(RedisError):
            cache.set(key, figures, KEPT_S)
    days = (today - timedelta(days=back) for back in reversed(range(count)))
    return [Day(day, **figures.get(day.isoformat(), {})) for day in days]


def _count_days(first: date) -> dict[str, dict[str, int]]:
    rows = (
        BackupRecord.objects.filter(queued_at__gte=_midnight(first))
        .exclude(state__in=[*ACTIVE_STATES, State.CANCELLED])
        .annotate(day=TruncDate("queued_at"))
        .order_by()
        .values_list("day", "state")
        .annotate(Count("pk"), Sum("bytes_read"), Sum("bytes_added"), Sum("bytes_stored"))
    )
    days: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for day, state, count, read, added, stored in rows:
        figures = days[day.isoformat()]
        figures[_GROUPS[state]] += count
        if state in RESTORABLE_STATES:
            figures["read"] += read or 0
            figures["added"] += added or 0
            figures["stored"] += stored or 0
    return {day: dict(figures) for day, figures in days.items()}


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day))
