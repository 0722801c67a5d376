"""List the snapshots of a repository."""

from engine.repository import Repository
from engine.snapshot import Snapshot, iter_snapshots


def list_snapshots(repository: Repository) -> list[Snapshot]:
    """Return all snapshots, the oldest first. Raises DataDamaged, StoreError."""
    return sorted(iter_snapshots(repository), key=lambda snapshot: snapshot.time)
