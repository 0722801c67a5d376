"""What changed from one backup to the next."""

from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from engine.commands.diff import Change, DiffStatistics, diff
from engine.commands.ls import open_snapshot
from records.models import RESTORABLE_STATES, BackupRecord
from storage.repositories import open_repository

# Nobody reads more; all are counted.
CHANGES_SHOWN = 1000


@dataclass(slots=True)
class Comparison:
    """`changes`: the first of them, as (modifier, path) in the letters of restic's `diff`; `statistics` counts all."""

    statistics: DiffStatistics
    changes: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_whole: bool = True


def previous_backup(record: BackupRecord) -> BackupRecord | None:
    """Return the newest backup of the same plan before this one that can be restored."""
    rows = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, pk__lt=record.pk, state__in=RESTORABLE_STATES)
    return rows.filter(vanished_at=None).exclude(snapshot="").select_related("repository__tenant__endpoint").order_by("-pk").first()


def compare(before: BackupRecord, after: BackupRecord) -> Comparison:
    """Compare two backups in one repository. Raises Conflict if they are not, or hold nothing; EngineError."""
    if before.repository_id != after.repository_id or not before.snapshot or not after.snapshot:
        raise Conflict(_("These two backups cannot be compared."))
    repository = open_repository(after.repository)
    repository.load_index()
    found = Comparison(DiffStatistics())

    def note(change: Change) -> None:
        if len(found.changes) < CHANGES_SHOWN:
            found.changes.append((change.modifier, change.path.decode("utf-8", "replace")))
        else:
            found.is_whole = False

    def fail(path: bytes, reason: str) -> None:
        found.problems.append(f"{path.decode('utf-8', 'replace')}: {reason}")

    trees = [open_snapshot(repository, row.snapshot).tree for row in (before, after)]
    found.statistics = diff(repository, *trees, on_change=note, on_error=fail)
    return found
