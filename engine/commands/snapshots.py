"""List the snapshots of a repository."""

from collections.abc import Sequence

from engine.errors import EngineError, SnapshotNotFound
from engine.repository import Repository
from engine.snapshot import EVERY_SNAPSHOT, OnDamaged, Snapshot, SnapshotFilter, find_snapshot, iter_snapshots


def list_snapshots(
    repository: Repository, only: SnapshotFilter = EVERY_SNAPSHOT, on_damaged: OnDamaged | None = None
) -> list[Snapshot]:
    """Return all snapshots, or those that `only` means, the oldest first.

    Raises StoreError, and DataDamaged unless `on_damaged` is told instead.
    """
    return sorted(filter(only.matches, iter_snapshots(repository, on_damaged)), key=lambda snapshot: snapshot.time)


def choose_snapshots(repository: Repository, names: Sequence[str], only: SnapshotFilter) -> list[Snapshot]:
    """Return the snapshots of these names, or without names all that `only` means, the oldest first.

    `latest` is the newest that `only` means. Raises SnapshotNotFound, EngineError if `only` can mean nothing beside ids.
    """
    if not names:
        return list_snapshots(repository, only)
    chosen = {found.id: found for found in (find_snapshot(repository, name) for name in names if name != "latest")}
    if "latest" in names:
        fitting = list_snapshots(repository, only)
        if not fitting:
            raise SnapshotNotFound("there is no snapshot yet that fits")
        chosen[fitting[-1].id] = fitting[-1]
    elif only:
        raise EngineError("snapshots are either named, or chosen by host, tag and path")
    return sorted(chosen.values(), key=lambda snapshot: snapshot.time)
