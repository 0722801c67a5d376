"""Quartz expressions: parsing them, and finding the times at which they fire.

Six or seven fields: seconds, minutes, hours, day of month, month, day of week, year. Weekdays count from 1 = Sunday, and one
of the two day fields must be `?`. The syntax follows the documentation of Quartz' `CronExpression`. Of Django
only the translations are in here.

Daylight saving: an expression that fires in every hour goes on evenly through both changes. Any other fires once for each
local time it names: one that the change in spring leaves out fires as much later as the clock was put forward, one that
comes twice in autumn fires the first time.
"""

import calendar
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

FIRST_YEAR, LAST_YEAR = 1970, 2199
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SECOND = timedelta(seconds=1)
# No zone has put its clock forward by more than this at once, but for changes of the date line.
_LARGEST_GAP = timedelta(hours=3)


class InvalidExpression(ValueError):
    """The text is no Quartz expression. `field`: the one that is wrong, None if it is all of it; `reason`: a sentence."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(f"{_(field)}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field may hold. `step_limit`: the largest increment."""

    name: str
    low: int
    high: int
    step_limit: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        if not text.isascii() or not text.isdigit() or len(text) > 4:
            raise InvalidExpression(self.name, _("“%(text)s” is not a value of this field") % {"text": text})
        value = int(text)
        if not self.low <= value <= self.high:
            bounds = {"value": value, "low": self.low, "high": self.high}
            raise InvalidExpression(self.name, _("%(value)d is not between %(low)d and %(high)d") % bounds)
        return value


_SECONDS = _Field(gettext_noop("seconds"), 0, 59, 59)
_MINUTES = _Field(gettext_noop("minutes"), 0, 59, 59)
_HOURS = _Field(gettext_noop("hours"), 0, 23, 23)
_DAYS = _Field(gettext_noop("day of month"), 1, 31, 31)
_MONTHS = _Field(gettext_noop("month"), 1, 12, 12, MONTHS)
_WEEKDAYS = _Field(gettext_noop("day of week"), 1, 7, 7, WEEKDAYS)
_YEARS = _Field(gettext_noop("year"), FIRST_YEAR, LAST_YEAR, LAST_YEAR - FIRST_YEAR)
_FIELDS = (_SECONDS, _MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS, _YEARS)

_RANGE = re.compile(r"(?P<begin>\*|[A-Z0-9]*)(?:-(?P<end>[A-Z0-9]+))?(?:(?P<slash>/)(?P<step>.*))?")
_LAST_DAY = re.compile(r"L(?:-(?P<before>\d{1,2}))?(?P<weekday>W)?")
_NEAREST_WEEKDAY = re.compile(r"(?P<day>\d+)W")
_LAST_WEEKDAY = re.compile(r"(?P<day>[A-Z]{3}|\d+)L")
_NTH_WEEKDAY = re.compile(r"(?P<day>[A-Z]{3}|\d+)#(?P<nth>.*)")


@dataclass(frozen=True, slots=True)
class _MonthDays:
    """Days of a month that are no plain numbers.

    `last`: (days before the last one, whether moved to the nearest weekday); `nearest`: days moved to the nearest weekday;
    `last_weekdays` and `nth_weekdays`: weekdays (0 = Sunday), the latter with their number in the month.
    """

    last: frozenset[tuple[int, bool]] = frozenset()
    nearest: frozenset[int] = frozenset()
    last_weekdays: frozenset[int] = frozenset()
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class QuartzExpression:
    """A parsed expression; `parse` makes one."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    years: frozenset[int]
    special: _MonthDays

    @classmethod
    def parse(cls, text: str) -> "QuartzExpression":
        """Return the expression. Raises InvalidExpression, which says which field is wrong and why."""
        parts = text.upper().split()
        if not 6 <= len(parts) <= 7:
            raise InvalidExpression(None, _("six or seven fields are needed, not %(count)d") % {"count": len(parts)})
        seconds, minutes, hours, day, month, weekday = parts[:6]
        if (day == "?") == (weekday == "?"):
            field = None if day == "?" else _WEEKDAYS.name
            raise InvalidExpression(field, _("exactly one of day of month and day of week must be “?”"))
        days, nearest, last = _parse_days(day)
        weekdays, last_weekdays, nth_weekdays = _parse_weekdays(weekday)
        return cls(
            " ".join(parts),
            tuple(sorted(_parse_list(_SECONDS, seconds))),
            tuple(sorted(_parse_list(_MINUTES, minutes))),
            tuple(sorted(_parse_list(_HOURS, hours))),
            days,
            _parse_list(_MONTHS, month),
            weekdays,
            _parse_list(_YEARS, parts[6] if len(parts) == 7 else "*"),
            _MonthDays(last, nearest, last_weekdays, nth_weekdays),
        )

    def next_after(self, after: datetime, tz: tzinfo) -> datetime | None:
        """Return the first fire after `after` (aware), as a time in UTC; None if there is none. `tz`: the plan's time zone."""
        # Fires are at whole seconds, and so is the search for where an offset changes.
        instant = after.astimezone(UTC).replace(microsecond=0)
        return self._next_evenly(instant, tz) if len(self.hours) == 24 else self._next_by_clock(instant, tz)

    def fires(self, after: datetime, tz: tzinfo, count: int) -> Iterator[datetime]:
        """Yield the first `count` fires after `after`, fewer if the expression ends."""
        for _number in range(count):
            fire = self.next_after(after, tz)
            if fire is None:
                return
            yield fire
            after = fire

    def _next_evenly(self, after: datetime, tz: tzinfo) -> datetime | None:
        """For expressions that fire in every hour: the clock is followed at one offset until that changes."""
        while True:
            offset = _offset(after, tz)
            local = self._next_local((after + offset).replace(tzinfo=None))
            fire = None if local is None else (local - offset).replace(tzinfo=UTC)
            changed = _first_change(after, fire, offset, tz)
            if changed is None:
                return fire
            after = changed - _SECOND
            offset = _offset(changed, tz)
            local = self._next_local((after + offset).replace(tzinfo=None))
            fire = None if local is None else (local - offset).replace(tzinfo=UTC)
            if fire is None or _offset(fire, tz) == offset:
                return fire
            after = changed

    def _next_by_clock(self, after: datetime, tz: tzinfo) -> datetime | None:
        local = after.astimezone(tz).replace(tzinfo=None)
        # After a change, a local time that lies behind may still stand for an instant that is to come.
        if _offset(after - _LARGEST_GAP, tz) != _offset(after, tz):
            local -= _LARGEST_GAP
        found: datetime | None = None
        limit = datetime.max
        # A time that is left out fires later than some that follow it: the first of them all is wanted.
        while (candidate := self._next_local(local)) is not None and candidate < limit:
            # fold=0: the first of two equal local times; one left out comes out as much later as the gap is long.
            fire = candidate.replace(tzinfo=tz, fold=0).astimezone(UTC)
            if fire > after and (found is None or fire < found):
                found = fire
                limit = fire.astimezone(tz).replace(tzinfo=None)
            local = candidate
        return found

    def _next_local(self, after: datetime) -> datetime | None:
        """Return the first matching local time after `after`, both naive."""
        start = after.replace(microsecond=0) + _SECOND
        day = start.date()
        found = self._next_day(day)
        if found is None:
            return None
        if found == day:
            time = self._next_time(start.hour, start.minute, start.second)
            if time is not None:
                return datetime(day.year, day.month, day.day, *time)
            found = self._next_day(day + timedelta(days=1))
            if found is None:
                return None
        return datetime(found.year, found.month, found.day, self.hours[0], self.minutes[0], self.seconds[0])

    def _next_time(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        for h in self.hours:
            if h < hour:
                continue
            for m in self.minutes if h > hour else (m for m in self.minutes if m >= minute):
                for s in self.seconds if (h, m) > (hour, minute) else (s for s in self.seconds if s >= second):
                    return h, m, s
        return None

    def _next_day(self, first: date) -> date | None:
        year, month, day = first.year, first.month, first.day
        while year <= LAST_YEAR:
            if year in self.years:
                while month <= 12:
                    if month in self.months:
                        for candidate in self._days_of(year, month):
                            if candidate >= day:
                                return date(year, month, candidate)
                    month, day = month + 1, 1
            year, month, day = year + 1, 1, 1
        return None

    @functools.lru_cache(maxsize=1024)  # noqa: B019 -- bounded, and expressions are few
    def _days_of(self, year: int, month: int) -> tuple[int, ...]:
        """Return the days of a month on which the expression fires."""
        length = calendar.monthrange(year, month)[1]
        first_weekday = (date(year, month, 1).weekday() + 1) % 7

        def weekday(day: int) -> int:
            return (first_weekday + day - 1) % 7

        days = {day for day in self.days if day <= length}
        days |= {day for day in range(1, length + 1) if weekday(day) in self.weekdays}
        for before, is_moved in self.special.last:
            if length - before >= 1:
                days.add(_nearest_weekday(length - before, length, weekday) if is_moved else length - before)
        days |= {_nearest_weekday(day, length, weekday) for day in self.special.nearest if day <= length}
        days |= {day for day in range(length - 6, length + 1) if weekday(day) in self.special.last_weekdays}
        for wanted, nth in self.special.nth_weekdays:
            day = 1 + (wanted - first_weekday) % 7 + 7 * (nth - 1)
            if day <= length:
                days.add(day)
        return tuple(sorted(days))


def _parse_list(field: _Field, text: str) -> frozenset[int]:
    return frozenset().union(*(_parse_range(field, item) for item in text.split(",")))


def _parse_range(field: _Field, text: str) -> frozenset[int]:
    """Return the values of `*`, `5`, `1-5`, `1/5`, `*/5`, `/5` or `1-30/5`; a range may wrap around, but for years."""
    match = _RANGE.fullmatch(text)
    if match is None or (not match["begin"] and not match["slash"]) or (match["begin"] == "*" and match["end"]):
        raise InvalidExpression(field.name, _("“%(text)s” is not a value of this field") % {"text": text})
    step = 1
    if match["slash"]:
        if not match["step"].isascii() or not match["step"].isdigit() or int(match["step"]) < 1:
            raise InvalidExpression(field.name, _("“/” must be followed by a whole number above 0"))
        step = int(match["step"])
        if step > field.step_limit:
            raise InvalidExpression(field.name, _("the increment %(step)d is too large") % {"step": step})
    begin = field.low
    if match["begin"] not in ("", "*"):
        # Quartz lets a step begin at 0 in fields that begin at 1.
        is_zero = match["slash"] and match["begin"] == "0"
        begin = 0 if is_zero else field.number(match["begin"])
    is_open = match["slash"] or match["begin"] == "*"
    end = field.number(match["end"]) if match["end"] else field.high if is_open else begin
    if end >= begin:
        return frozenset(value for value in range(begin, end + 1, step) if value >= field.low)
    if field is _YEARS:
        raise InvalidExpression(field.name, _("a range of years cannot end before it begins"))
    span = field.high - field.low + 1
    return frozenset((value - field.low) % span + field.low for value in range(begin, end + span + 1, step))


def _parse_days(text: str) -> tuple[frozenset[int], frozenset[int], frozenset[tuple[int, bool]]]:
    """Return the plain days, those moved to the nearest weekday, and those counted from the month's end."""
    days: set[int] = set()
    nearest: set[int] = set()
    last: set[tuple[int, bool]] = set()
    for item in [] if text == "?" else text.split(","):
        if match := _LAST_DAY.fullmatch(item):
            before = int(match["before"] or 0)
            if before > 30:
                raise InvalidExpression(_DAYS.name, _("the offset from the last day must be at most 30"))
            last.add((before, match["weekday"] is not None))
        elif match := _NEAREST_WEEKDAY.fullmatch(item):
            nearest.add(_DAYS.number(match["day"]))
        else:
            days |= _parse_range(_DAYS, item)
    return frozenset(days), frozenset(nearest), frozenset(last)


def _parse_weekdays(text: str) -> tuple[frozenset[int], frozenset[int], frozenset[tuple[int, int]]]:
    """Return plain weekdays, those that are the last of a month, and those with a number in it; 0 = Sunday."""
    weekdays: set[int] = set()
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    items = [] if text == "?" else text.split(",")
    for item in items:
        if item == "L":
            if len(items) > 1:
                raise InvalidExpression(_WEEKDAYS.name, _("“L” cannot stand with other days of the week"))
            weekdays.add(6)
        elif match := _LAST_WEEKDAY.fullmatch(item):
            last.add(_WEEKDAYS.number(match["day"]) - 1)
        elif match := _NTH_WEEKDAY.fullmatch(item):
            if match["nth"] not in tuple("12345"):
                raise InvalidExpression(_WEEKDAYS.name, _("“#” must be followed by a number from 1 to 5"))
            nth.add((_WEEKDAYS.number(match["day"]) - 1, int(match["nth"])))
        else:
            weekdays |= {value - 1 for value in _parse_range(_WEEKDAYS, item)}
    return frozenset(weekdays), frozenset(last), frozenset(nth)


def _nearest_weekday(day: int, length: int, weekday: Callable[[int], int]) -> int:
    """Return the weekday (Monday to Friday) nearest to a day, in the same month."""
    of_week = weekday(day)
    if of_week == 6:
        return day - 1 if day > 1 else day + 2
    if of_week == 0:
        return day + 1 if day < length else day - 2
    return day


def _offset(moment: datetime, tz: tzinfo) -> timedelta:
    return moment.astimezone(tz).utcoffset() or timedelta()


def _first_change(after: datetime, until: datetime | None, offset: timedelta, tz: tzinfo) -> datetime | None:
    """Return the first second after `after` at which `tz` has another offset than `offset`, if that is not after `until`."""
    if until is None or _offset(until, tz) == offset:
        return None
    low, high = 0, int((until - after) / _SECOND)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(after + middle * _SECOND, tz) == offset:
            low = middle
        else:
            high = middle
    return after + high * _SECOND
