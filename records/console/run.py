"""The page of a run: what happened, told by its states, by the events about it and by its agent."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from records.advice import advice_for
from records.comparing import previous_backup
from records.course import Line, curve_of, log_of, phases_of, ratio_to
from records.models import BackupRecord, Event, JobRecord, RecoveryRecord
from records.preview import preview_tables

EVENTS_SHOWN = 50
LEVELS = {Event.Level.WARNING: "warning", Event.Level.ERROR: "error"}


def run_context(record: JobRecord) -> dict[str, Any]:
    """Return what the page shows beside the record's own fields; three queries."""
    now = timezone.now()
    before = previous_backup(record) if isinstance(record, BackupRecord) else None
    return {
        "advice": advice_for(record),
        "phases": phases_of(record, now),
        "curve": curve_of(record),
        "log": log_of(record, [Line(record.queued_at, "info", _("queued")), *_events(record)]),
        "log_left_out": record.course.get("log_left_out", 0),
        "preview": preview_tables(record) if isinstance(record, RecoveryRecord) else [],
        "before": before,
        "beside": ratio_to(record, before) if isinstance(record, BackupRecord) and record.snapshot and before else [],
    }


def _events(record: JobRecord) -> list[Line]:
    """Return what everybody was told of the run, the latest."""
    events = Event.objects.filter(job=record.job).order_by("-pk")[:EVENTS_SHOWN]
    lines = []
    for event in events:
        # What comes after the run's name, in which there may be a colon too.
        text = event.title.partition(f"#{record.pk}: ")[2] or event.title
        text = f"{text}: {event.message}" if event.message else text
        lines.append(Line(event.time, LEVELS.get(Event.Level(event.level), "info"), text))
    return lines[::-1]
