"""What a drill's record says of what was found, and whether that proves the backup: one judgement, wherever the drill was done."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.text import storable
from records.models import BackupRecord, DrillRecord

PROBLEMS_KEPT = 20
EVIDENCE = [
    "files", "of_files", "compared", "bytes_restored", "mismatches", "problems", "notes", "duration_s", "command_status",
    "command_output",
]  # fmt: skip


def begun_with(backup: BackupRecord) -> dict[str, Any]:
    """Return what a drill that begins now says of the backup that it restores."""
    began = timezone.now()
    age_s = (began - (backup.start_time or backup.queued_at)).total_seconds()
    return {"start_time": began, "backup_record": backup, "snapshot": backup.snapshot, "age_s": age_s}


def note_compared(drill: DrillRecord, compared: int, problems: list[str], failures: int, notes: int) -> list[str]:
    """Note how many of the drill's `files` were compared; return what is wrong with them.

    `problems`: of what was not restored or differs, the first; `failures`: how many there are; `notes`: what is not content.
    """
    files = drill.files or 0
    drill.compared, drill.notes = compared, notes
    # Of very many failures not all are told.
    drill.mismatches = max(failures, files - compared)
    if not problems and compared != files:
        return [_("%(compared)d files were compared where the backup names %(files)d") % {"compared": compared, "files": files}]
    return problems


def note_command(drill: DrillRecord, status: int | None, output: str, limit_s: int) -> list[str]:
    """Note how the command ended (`status` None: it took too long); return what is wrong with that."""
    drill.command_status, drill.command_output = status, storable(output)
    if status == 0:
        return []
    if status is None:
        return [_("the command was ended after %(seconds)d seconds") % {"seconds": limit_s}]
    return [_("the command ended with status %(status)d") % {"status": status}]
