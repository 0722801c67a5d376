"""Retention: which snapshots a policy keeps, and why. Decisions only: nothing here reads a repository or changes one.

The rules are those of restic's ``forget`` since 0.16 (its documentation, "Removing snapshots according to a policy"): newest
first, each rule keeps the newest snapshot of as many of its periods as it counts, on the clock of the place where a snapshot
was taken. A rule that is not exhausted at the oldest snapshot keeps that one too, so that the history does not shrink.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from engine.errors import InvalidPolicy
from engine.snapshot import Snapshot

UNLIMITED = -1

_UNITS = {"y": "years", "m": "months", "d": "days", "h": "hours"}
_PART = re.compile(r"([0-9]{1,9})([ymdh])")


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of the calendar, such as `1y5m7d2h`. An empty one is no span: the rule that has it is not set."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Return the duration of numbers with the units y, m (months), d and h, each once. Raises InvalidPolicy."""
        rest, found = text.strip(), dict[str, int]()
        if not rest:
            raise InvalidPolicy("a duration is empty: it must be numbers with units, such as 1y5m7d2h")
        while rest:
            part = _PART.match(rest)
            if part is None:
                raise InvalidPolicy(
                    f"{text!r} is no duration: where {rest!r} stands must be a number (of nine digits at most) "
                    "and y, m (months), d or h, as in 1y5m7d2h"
                )
            name = _UNITS[part[2]]
            if name in found:
                raise InvalidPolicy(f"the duration {text!r} gives {name} twice")
            found[name], rest = int(part[1]), rest[part.end() :]
        return cls(**found)

    def __post_init__(self) -> None:
        if min(self.years, self.months, self.days, self.hours) < 0:
            raise InvalidPolicy(f"the duration {self} is negative")

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def __str__(self) -> str:
        parts = (f"{getattr(self, name)}{unit}" for unit, name in _UNITS.items() if getattr(self, name))
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """What to keep of a group of snapshots; a snapshot stays if one rule keeps it.

    `last` to `yearly` count snapshots, UNLIMITED is all; the `within` ones reach back from the newest snapshot; `tags` are lists
    of tags of which a snapshot must have all. Raises InvalidPolicy for a count below -1.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Duration = Duration()
    within_hourly: Duration = Duration()
    within_daily: Duration = Duration()
    within_weekly: Duration = Duration()
    within_monthly: Duration = Duration()
    within_yearly: Duration = Duration()
    tags: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for period in ("last", *_BUCKETS):
            if getattr(self, period) < UNLIMITED:
                raise InvalidPolicy(f"{getattr(self, period)} {period} snapshots cannot be kept: give a count, or unlimited")

    @property
    def is_empty(self) -> bool:
        """Whether it has no rule, and so would keep nothing."""
        return not any(getattr(self, rule.name) for rule in fields(self))


class Dated(Protocol):
    """What a policy can judge: a snapshot, or what stands for one elsewhere."""

    @property
    def time(self) -> datetime:
        """The moment (aware) on the clock of the place where it was taken."""

    def has_tags(self, tags: Iterable[str]) -> bool:
        """Whether it has all of these tags."""


Taken = TypeVar("Taken", bound=Dated)


@dataclass(frozen=True, slots=True)
class Kept(Generic[Taken]):
    """A snapshot that stays, and the rules that keep it, in restic's words (`daily snapshot`, `within 7d`)."""

    snapshot: Taken
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Taken]):
    """What a policy makes of a group of snapshots, newest first."""

    keep: tuple[Kept[Taken], ...]
    remove: tuple[Taken, ...]


def apply_policy(snapshots: Iterable[Taken], policy: KeepPolicy, *, now: datetime) -> Verdict[Taken]:
    """Return which of the snapshots the policy keeps and which not.

    `now` (aware): snapshots after it are judged, but no duration starts from them. Snapshots of the same moment keep their order.
    """
    newest_first = sorted(snapshots, key=lambda snapshot: snapshot.time, reverse=True)
    latest = next((snapshot.time for snapshot in newest_first if snapshot.time < now), None)
    rules = _rules(policy, latest)
    keep, remove = list[Kept[Taken]](), list[Taken]()
    for number, snapshot in enumerate(newest_first):
        is_oldest = number == len(newest_first) - 1
        reasons = [f"has tags [{', '.join(tags)}]" for tags in policy.tags if snapshot.has_tags(tags)]
        reasons += [reason for rule in rules if (reason := rule.take(snapshot.time, number, is_oldest=is_oldest))]
        if reasons:
            keep.append(Kept(snapshot, tuple(reasons)))
        else:
            remove.append(snapshot)
    return Verdict(tuple(keep), tuple(remove))


def _each(time: datetime, number: int) -> Hashable:
    return number


_BUCKETS: dict[str, Callable[[datetime, int], Hashable]] = {
    "hourly": lambda time, number: (time.year, time.month, time.day, time.hour),
    "daily": lambda time, number: (time.year, time.month, time.day),
    "weekly": lambda time, number: time.isocalendar()[:2],
    "monthly": lambda time, number: (time.year, time.month),
    "yearly": lambda time, number: time.year,
}


@dataclass(slots=True)
class _Rule:
    """A rule while snapshots pass it, newest first. `left`: how many it may still keep; `after`: it keeps later ones only."""

    reason: str
    bucket_of: Callable[[datetime, int], Hashable]
    left: int
    after: datetime | None = None
    bucket: Hashable = None

    def take(self, time: datetime, number: int, *, is_oldest: bool) -> str | None:
        """Return why the rule keeps the snapshot of this time and number, or None if it does not."""
        if self.left == 0 or (self.after is not None and time <= self.after):
            return None
        bucket, reason = self.bucket_of(time, number), self.reason
        if bucket == self.bucket:
            if not is_oldest:
                return None
            reason = f"oldest {reason}"
        self.bucket = bucket
        if self.left != UNLIMITED:
            self.left -= 1
        return reason


def _rules(policy: KeepPolicy, latest: datetime | None) -> list[_Rule]:
    """Return the policy's rules in restic's order, which is that of a snapshot's reasons."""
    rules = list[_Rule]()
    if policy.within:
        rules.append(_Rule(f"within {policy.within}", _each, UNLIMITED, _before(latest, policy.within)))
    rules.append(_Rule("last snapshot", _each, policy.last))
    rules += [_Rule(f"{period} snapshot", bucket_of, getattr(policy, period)) for period, bucket_of in _BUCKETS.items()]
    for period, bucket_of in _BUCKETS.items():
        span: Duration = getattr(policy, f"within_{period}")
        if span:
            rules.append(_Rule(f"{period} within {span}", bucket_of, UNLIMITED, _before(latest, span)))
    return rules


def _before(moment: datetime | None, span: Duration) -> datetime | None:
    """Return the moment that lies a span before, or None if that is before all moments.

    Years, months and days are taken from the calendar, where the 31st of a shorter month is a day of the next one; hours from
    the clock.
    """
    if moment is None:
        return None
    year, month = divmod(moment.year * 12 + moment.month - 1 - span.years * 12 - span.months, 12)
    try:
        month_begin = moment.replace(year=year, month=month + 1, day=1, tzinfo=UTC)
        wall = month_begin + timedelta(days=moment.day - 1 - span.days)
        return wall - _offset(wall, moment) - timedelta(hours=span.hours)
    except (OverflowError, ValueError):
        return None


def _offset(wall: datetime, moment: datetime) -> timedelta:
    """Return how far ahead of UTC the clock was that showed `wall` (marked as UTC) where `moment` was taken.

    A moment with the offset that this machine has at the time is taken for one of its time zone, which may have changed to
    summer time in between; any other place is known by its offset alone. In an hour that a change repeats or skips, the choice
    is that of Go's ``time.Date``, since restic makes it.
    """
    offset = moment.utcoffset() or timedelta()
    if not offset or offset != moment.astimezone().utcoffset():
        return offset
    guess = wall.astimezone().utcoffset() or timedelta()
    return (wall - guess).astimezone().utcoffset() or timedelta()


@dataclass(frozen=True, slots=True)
class GroupBy:
    """What snapshots of one group have in common; a policy is applied to each group by itself."""

    host: bool = False
    paths: bool = False
    tags: bool = False

    @classmethod
    def parse(cls, text: str) -> "GroupBy":
        """Return the grouping of names with commas between, such as `host,paths`; "" is one group. Raises InvalidPolicy."""
        names = {name for name in text.split(",") if name}
        unknown = names - {"host", "hosts", "path", "paths", "tag", "tags"}
        if unknown:
            raise InvalidPolicy(f"snapshots cannot be grouped by {min(unknown)!r}: it must be host, paths or tags")
        return cls(*(bool(names & {name, f"{name}s"}) for name in ("host", "path", "tag")))


BY_HOST_AND_PATHS = GroupBy(host=True, paths=True)


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What the snapshots of a group share, sorted; empty where they are not grouped by it."""

    host: str = ""
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"host {self.host}"] if self.host else []
        parts += [f"paths {', '.join(self.paths)}"] if self.paths else []
        parts += [f"tags {', '.join(self.tags)}"] if self.tags else []
        return "; ".join(parts)


def group_snapshots(snapshots: Iterable[Snapshot], by: GroupBy) -> dict[Group, list[Snapshot]]:
    """Return the groups of snapshots, sorted by what their snapshots share."""
    groups = dict[Group, list[Snapshot]]()
    for snapshot in snapshots:
        group = Group(
            snapshot.hostname if by.host else "",
            tuple(sorted(snapshot.paths)) if by.paths else (),
            tuple(sorted(snapshot.tags)) if by.tags else (),
        )
        groups.setdefault(group, []).append(snapshot)
    return dict(sorted(groups.items()))


def judge_groups(
    snapshots: Sequence[Snapshot], policy: KeepPolicy, by: GroupBy, *, now: datetime
) -> dict[Group, Verdict[Snapshot]]:
    """Return what the policy makes of each group. Raises InvalidPolicy if it is empty, or would leave nothing of a group."""
    if policy.is_empty:
        raise InvalidPolicy("no rule says what to keep, so nothing is forgotten")
    verdicts = {group: apply_policy(members, policy, now=now) for group, members in group_snapshots(snapshots, by).items()}
    for group, verdict in verdicts.items():
        if not verdict.keep:
            named = f" of {group}" if str(group) else ""
            raise InvalidPolicy(f"the policy would forget every snapshot{named}, so nothing is forgotten")
    return verdicts
