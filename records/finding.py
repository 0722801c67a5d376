"""Every version of a file: what a name or a pattern matches in the backups of one plan."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine.commands.find import find
from engine.errors import EngineError
from engine.snapshot import Snapshot, load_snapshot
from records.browsing import describe_path
from records.models import RESTORABLE_STATES, BackupRecord
from storage.repositories import open_repository

# A person waits for it.
SECONDS = 20.0
BACKUPS = 100
FILES = 200


@dataclass(frozen=True, slots=True)
class Version:
    """A file as some backups have it. `backups`: those, the newest first; `path`, `path_raw` as in listings."""

    path: str
    path_raw: str
    directory_raw: str
    type: str
    size: int
    mtime: datetime
    backups: list[BackupRecord]


@dataclass(slots=True)
class Findings:
    """Versions, the newest first. `problems`: of what could not be read; `is_whole`: whether all backups were looked through."""

    versions: list[Version] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    looked_through: int = 0
    is_whole: bool = True


def find_versions(record: BackupRecord, pattern: str) -> Findings:
    """Find what matches a name or pattern (as restic's `find`, in any case of letters) in the backups of the record's plan.

    Files that are alike in path, size and time count as one version. Raises EngineError.
    """
    rows = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, repository=record.repository, state__in=RESTORABLE_STATES)
    newest = list(rows.filter(vanished_at=None).exclude(snapshot="").order_by("-pk")[: BACKUPS + 1])
    findings = Findings(is_whole=len(newest) <= BACKUPS)
    repository = open_repository(record.repository)
    repository.load_index()
    record_of: dict[str, BackupRecord] = {}
    snapshots: list[Snapshot] = []
    for row in newest[:BACKUPS]:
        try:
            snapshots.append(load_snapshot(repository, row.snapshot))
            record_of[row.snapshot] = row
        except EngineError as error:
            findings.problems.append(f"{row}: {error}")
    until = time.monotonic() + SECONDS
    versions: dict[tuple[bytes, int, int], Version] = {}

    def in_time() -> Iterator[Snapshot]:
        for snapshot in snapshots:
            if time.monotonic() > until or len(versions) >= FILES:
                findings.is_whole = False
                return
            findings.looked_through += 1
            yield snapshot

    def note(path: bytes, reason: str) -> None:
        findings.problems.append(f"{path.decode(errors='replace')}: {reason}")

    for match in find(repository, in_time(), [pattern], ignore_case=True, on_error=note):
        key = (match.path, match.node.size, match.node.mtime_ns)
        if key not in versions:
            if len(versions) >= FILES:
                findings.is_whole = False
                break
            directory = match.path.rpartition(b"/")[0] or b"/"
            versions[key] = Version(
                **describe_path(match.path),
                directory_raw=describe_path(directory)["path_raw"],
                type=match.node.type,
                size=match.node.size,
                mtime=datetime.fromtimestamp(min(max(match.node.mtime_ns // 10**9, 0), 253402128000), UTC),
                backups=[],
            )
        versions[key].backups.append(record_of[match.snapshot.id])
    findings.versions = sorted(versions.values(), key=lambda version: version.mtime, reverse=True)
    return findings
