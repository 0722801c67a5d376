"""Forget snapshots: their files go, what only they named stays until the next prune."""

from collections.abc import Sequence

from engine.repository import Repository
from engine.store import FileKind


def forget(repository: Repository, snapshot_ids: Sequence[str]) -> None:
    """Delete the snapshots of these (full) ids; one that is gone already is no error. Raises RepositoryLocked."""
    with repository.lock(exclusive=True):
        for snapshot_id in snapshot_ids:
            repository.store.delete(FileKind.SNAPSHOTS, snapshot_id)
