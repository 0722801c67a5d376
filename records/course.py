"""The course of a run: what its agent has told of phases, curve and log (`agent.course`), and how a page shows it.

What an agent tells is kept only as far as it is what it should be, within bounds: it comes several times a minute from every job
that runs, so it is looked through by hand and not field by field.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backupcenter.api.fields import MAX_INT64
from backupcenter.api.text import storable
from engine.locks import WAITING
from records.models import BackupRecord, JobRecord

# A little more than what an agent tells (`agent.course`).
SAMPLES_KEPT = 200
LINES_KEPT = 200
PHASES_KEPT = 100
TEXT_LENGTH = 500
LEVELS = ("info", "warning", "error")
LONGEST_S = 10 * 366 * 86400

PHASES = {
    "commands before": gettext_lazy("commands before"),
    "opening the repository": gettext_lazy("opening the repository"),
    WAITING: gettext_lazy("waiting for the repository"),
    "backup": gettext_lazy("reading and storing"),
    "saving the snapshot": gettext_lazy("saving the snapshot"),
    "restoring": gettext_lazy("restoring"),
    "verifying": gettext_lazy("reading back and comparing"),
    "looking what would change": gettext_lazy("looking what would change"),
    "commands after": gettext_lazy("commands after"),
}


def kept_course(told: Any) -> dict[str, Any]:
    """Return what is kept of a course that was told: {} if it is none."""
    if not isinstance(told, dict):
        return {}
    kept: dict[str, Any] = {
        "elapsed_s": _seconds(told.get("elapsed_s")) or 0.0,
        "phases": [
            [storable(name)[:TEXT_LENGTH], at]
            for name, since in _rows(told.get("phases"), 2, PHASES_KEPT)
            if isinstance(name, str) and (at := _seconds(since)) is not None
        ],
        "samples": [
            [at, *counts]
            for since, *counts in _rows(told.get("samples"), 4, SAMPLES_KEPT)
            if (at := _seconds(since)) is not None and all(map(_is_count, counts))
        ],
        "log": [
            [at, level, storable(text)[:TEXT_LENGTH]]
            for since, level, text in _rows(told.get("log"), 3, LINES_KEPT)
            if (at := _seconds(since)) is not None and level in LEVELS and isinstance(text, str)
        ],
    }
    if _is_count(left_out := told.get("log_left_out")):
        kept["log_left_out"] = left_out
    if isinstance(kind := told.get("error_kind"), str):
        kept["error_kind"] = storable(kind)[:64]
    return kept


def _rows(told: Any, length: int, most: int) -> Iterator[list[Any]]:
    return (row for row in (told if isinstance(told, list) else [])[:most] if isinstance(row, list) and len(row) == length)


def _seconds(told: Any) -> float | None:
    is_number = isinstance(told, int | float) and math.isfinite(told) and 0 <= told <= LONGEST_S
    return round(float(told), 1) if is_number else None


def _is_count(told: Any) -> bool:
    return type(told) is int and 0 <= told <= MAX_INT64


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run; `percent` of all of them together."""

    name: str
    begin: datetime
    duration_s: float
    percent: float


@dataclass(frozen=True, slots=True)
class Point:
    """The curve's at a moment: `read` and `stored` bytes so far (of a restore: written), and of them each second since before."""

    since_s: float
    files: int
    read: int
    stored: int
    read_rate: float
    stored_rate: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log."""

    time: datetime
    level: str
    text: str


def phases_of(record: JobRecord, now: datetime) -> list[Phase]:
    """Return the parts of the run, from being queued on; the one that goes on lasts until `now`."""
    begins: list[tuple[str, datetime]] = [(_("waiting for its turn"), record.queued_at)]
    end = record.end_time or now
    if record.start_time is not None:
        # Of an earlier attempt, if it was taken back or tried again.
        if record.offered_at is not None and record.queued_at <= record.offered_at <= record.start_time:
            begins.append((_("waiting for its agent"), record.offered_at))
        begins.append((_("starting"), record.start_time))
        for name, since in record.course.get("phases", []):
            begins.append((str(PHASES.get(name, name)), record.start_time + timedelta(seconds=since)))
    ends = [*(begin for _name, begin in begins[1:]), end]
    spans = [(name, begin, max(0.0, (until - begin).total_seconds())) for (name, begin), until in zip(begins, ends, strict=True)]
    whole = sum(span for _name, _begin, span in spans) or 1.0
    return [Phase(name, begin, span, round(100 * span / whole, 1)) for name, begin, span in spans]


def curve_of(record: JobRecord) -> list[Point]:
    """Return the points of the curve; none if there are less than two."""
    samples = record.course.get("samples", [])
    return [_point(before, sample) for before, sample in pairwise([[0.0, 0, 0, 0], *samples])] if len(samples) > 1 else []


def _point(before: list[Any], sample: list[Any]) -> Point:
    since_s, read, stored, files = sample
    span = max(since_s - before[0], 0.1)
    # A count begins anew with a phase that has its own.
    rates = (max(0, now - then) / span for now, then in zip((read, stored), before[1:3], strict=True))
    return Point(since_s, files, read, stored, *rates)


def log_of(record: JobRecord, told: Iterable[Line]) -> list[Line]:
    """Return the lines of what was told of the run (`told`), its phases and what its agent has said, the oldest first."""
    lines = list(told)
    begun = record.start_time
    if begun is not None:
        for name, since in record.course.get("phases", []):
            lines.append(Line(begun + timedelta(seconds=since), "info", str(PHASES.get(name, name))))
        for since, level, text in record.course.get("log", []):
            lines.append(Line(begun + timedelta(seconds=since), level, text))
    return sorted(lines, key=lambda line: line.time)


def ratio_to(record: BackupRecord, before: BackupRecord | None) -> list[tuple[str, Any, Any, str]]:
    """Return the figures of a run beside those of the one before: label, both values, and of which unit (count, size, duration)."""
    rows = [
        (_("files"), "files_total", "count"),
        (_("new files"), "files_new", "count"),
        (_("changed files"), "files_changed", "count"),
        (_("read"), "bytes_read", "size"),
        (_("added"), "bytes_added", "size"),
        (_("stored"), "bytes_stored", "size"),
        (_("duration"), "duration_s", "duration"),
    ]
    return [(label, getattr(record, name), getattr(before, name, None), unit) for label, name, unit in rows]
