"""Count what a repository holds, and what its snapshots would restore to."""

from dataclasses import dataclass

from engine.blob import BlobType
from engine.commands.ls import walk
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from engine.snapshot import Snapshot, find_snapshot
from engine.store import FileKind


@dataclass(frozen=True, slots=True)
class Stats:
    """`restore_size` and `files`: of the snapshots counted, each file of each. The rest is of the whole repository, in bytes."""

    snapshots: int
    files: int
    restore_size: int
    blobs: int
    packs: int
    stored_size: int
    uncompressed_size: int


def stats(repository: Repository, snapshot: Snapshot | str | None = None) -> Stats:
    """Count one snapshot, or all. Raises SnapshotNotFound, DataDamaged, StoreError."""
    if not len(repository.index):
        repository.load_index()
    if snapshot is None:
        counted = list_snapshots(repository)
    else:
        counted = [find_snapshot(repository, snapshot) if isinstance(snapshot, str) else snapshot]
    files = restore_size = 0
    for one in counted:
        for _, node in walk(repository, one):
            if not node.is_dir:
                files += 1
                restore_size += node.size
    uncompressed = sum(
        location.uncompressed_length or location.length
        for blob_type in BlobType
        for _, location in repository.index.blobs(blob_type)
    )
    sizes = [size for _, size in repository.store.list(FileKind.DATA)]
    return Stats(len(counted), files, restore_size, len(repository.index), len(sizes), sum(sizes), uncompressed)
