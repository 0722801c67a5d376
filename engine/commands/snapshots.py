"""List the snapshots of a repository."""

from engine.repository import Repository
from engine.snapshot import EVERY_SNAPSHOT, OnDamaged, Snapshot, SnapshotFilter, iter_snapshots


def list_snapshots(
    repository: Repository, only: SnapshotFilter = EVERY_SNAPSHOT, on_damaged: OnDamaged | None = None
) -> list[Snapshot]:
    """Return all snapshots, or those that `only` means, the oldest first.

    Raises StoreError, and DataDamaged unless `on_damaged` is told instead.
    """
    return sorted(filter(only.matches, iter_snapshots(repository, on_damaged)), key=lambda snapshot: snapshot.time)
