"""Drills that a client's agent does: a recovery that restores to a scratch directory there, and is judged by what it told."""

import json
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.dispatch import receiver
from django.utils.translation import gettext as _
from django.utils.translation import override

from clients.compatibility import DRILL_PROTOCOL
from clients.models import Client
from records.drills.evidence import PROBLEMS_KEPT, begun_with, note_command, note_compared
from records.events import emit
from records.following import job_changed
from records.models import ACTIVE_STATES, BackupRecord, DrillRecord, Event, RecoveryRecord, State
from records.serializers import backup_record_detail

# Of a recovery's commands those that looked at what a drill restored.
STAGE = "check"
OUTPUT_KEPT = 4096


def request_recovery_of(drill: DrillRecord, backup: BackupRecord, client: Client) -> None:
    """Queue the recovery by which the client does the drill; whoever asks has it offered."""
    drill.recovery = RecoveryRecord.objects.create(
        client=client,
        backup_record=backup,
        backup_record_detail=backup_record_detail(backup),
        recovery_data=json.dumps({"extent": drill.extent, "command": drill.command}),
        is_drill=True,
        needs_protocol=DRILL_PROTOCOL,
    )
    drill.backup_record, drill.snapshot, drill.place = backup, backup.snapshot, client.hostname[:255]
    drill.save()


@receiver(job_changed, sender=RecoveryRecord)
def follow_recovery(sender: object, record: RecoveryRecord, **_extra: Any) -> None:
    """Have a drill say how far its recovery is; at the end of that, what was proven."""
    drill = DrillRecord.objects.filter(recovery=record.pk).select_related("backup_record").first() if record.is_drill else None
    if drill is None:
        return
    if record.state == State.RUNNING and drill.start_time is None and drill.backup_record is not None:
        for name, value in begun_with(drill.backup_record).items():
            setattr(drill, name, value)
    drill.state, drill.error, drill.end_time = record.state, record.error, record.end_time
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        if record.state in (State.SUCCESS, State.WARNINGS, State.FAILED):
            _judge(drill, record)
        drill.save()
        if drill.end_time is not None:
            _tell(drill)


def catch_up() -> int:
    """Judge the drills whose recovery has ended while they could not follow it; return how many."""
    left = DrillRecord.objects.filter(state__in=ACTIVE_STATES, recovery__end_time__isnull=False).select_related("recovery")
    followed = 0
    for drill in left:
        if drill.recovery is not None:
            follow_recovery(None, drill.recovery)
            followed += 1
    return followed


def _judge(drill: DrillRecord, record: RecoveryRecord) -> None:
    problems = _problems(drill, record)
    if not problems and record.state == State.FAILED:
        problems = [record.error]
    drill.problems = problems[:PROBLEMS_KEPT]
    drill.state, drill.error = (State.FAILED, problems[0]) if problems else (State.SUCCESS, "")


def _problems(drill: DrillRecord, record: RecoveryRecord) -> list[str]:
    told = record.drilled
    if told is None:
        return [] if record.state == State.FAILED else [_("the agent did not say what it has compared")]
    drill.files, drill.of_files = told["files"], told["of_files"]
    drill.bytes_restored, drill.duration_s = record.bytes_restored, record.duration_s
    differing = [f"{each['path']}: {each['reason']}" for each in record.unreadable]
    problems = note_compared(drill, record.files_verified or 0, differing, told["failures"], told["notes"])
    if problems or not drill.command:
        return problems
    checks = [each for each in record.commands if each["stage"] == STAGE]
    if checks:
        return note_command(drill, checks[-1]["status"], checks[-1]["output"][-OUTPUT_KEPT:], settings.DRILL_COMMAND_S)
    return [] if record.state == State.FAILED else [_("the agent did not say how the command ended")]


def _tell(drill: DrillRecord) -> None:
    names = {"kind": _("restore drill"), "plan": drill.plan_name, "state": State(drill.state).label}
    title = _("%(kind)s of plan %(plan)s: %(state)s") % names
    has_failed = drill.state in (State.FAILED, State.LOST)
    level = {State.SUCCESS: Event.Level.SUCCESS, State.CANCELLED: Event.Level.WARNING}.get(State(drill.state), Event.Level.ERROR)
    occasion = Event.Occasion.DRILL_FAILED if has_failed else ""
    emit(level, Event.Topic.MAINTENANCE, title, drill.error, plan_uuid=UUID(str(drill.plan_uuid)), occasion=occasion)
