"""Repair snapshots that name what the repository has no more: take new ones of what is left, and tell what was lost.

As restic's `repair snapshots` decides: a file keeps the pieces that are in the index, and the size of these; a directory that
cannot be read becomes an empty one; an entry of no known type goes; a snapshot without a readable root has nothing left. What is
whole stays byte for byte. Blobs of files are looked up, not read: those of damaged packs are still in the index.

Unlike restic's: a snapshot of which nothing is left stays unless originals are to be forgotten, a repair that was made before
is not made again, and nothing is done if something that seems lost lies in a pack that the index does not name.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from engine.blob import BlobType
from engine.errors import DataDamaged, IndexIncomplete, SnapshotNotFound, TooLarge
from engine.locks import Lock
from engine.pack import iter_header
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.snapshot import EVERY_SNAPSHOT, Snapshot, SnapshotFilter, change_snapshot, load_snapshot, refuse_idle_filter
from engine.store import FileKind
from engine.treerepair import Loss, TreeRepair

TAG = "repaired"


@dataclass(frozen=True, slots=True)
class SnapshotRepair:
    """A snapshot that is not whole. `tree`: what is left of it, None for nothing; `losses`: how many there were.

    `repaired_id`: the snapshot that has what is left, None if there is nothing, or nothing was to be done. `is_forgotten`: it
    was deleted, or would have been.
    """

    snapshot: Snapshot
    tree: bytes | None
    losses: int
    repaired_id: str | None = None
    is_forgotten: bool = False


@dataclass(slots=True)
class SnapshotsRepair:
    """What became of the snapshots. `unreadable`: ids of files that are damaged themselves, with the reason.

    `forgotten`: those of the unreadable that were deleted, or would have been.
    """

    repairs: list[SnapshotRepair] = field(default_factory=list)
    whole: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)


def repair_snapshots(
    repository: Repository,
    names: Sequence[str] = (),
    *,
    only: SnapshotFilter = EVERY_SNAPSHOT,
    dry_run: bool = False,
    forget: bool = False,
    on_loss: Callable[[Snapshot, Loss], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> SnapshotsRepair:
    """Give each of the snapshots (of all that `only` means, if none is named) that is not whole another of what is left.

    The other has its id as `original` and the tag `repaired`; with `forget` it has no tag, and the first is deleted. A damaged
    snapshot file is deleted if it is named, too. `dry_run` only tells, and so takes no lock. `on_loss` is told each thing that
    is lost. Raises IndexIncomplete (what seems lost is not, or nobody can say), SnapshotNotFound, RepositoryLocked, LockLost,
    Cancelled and StoreError's family.
    """
    with contextlib.ExitStack() as held:
        lock = None if dry_run else held.enter_context(repository.lock(exclusive=True))
        unindexed = _load_index(repository)
        there, damaged = _load_snapshots(repository)
        chosen = _chosen(names, only, there, damaged)
        wanted = [snapshot for snapshot in there if snapshot.id in chosen]
        with contextlib.ExitStack() as written:
            # It stores everything at the end of this block, before any snapshot names it.
            writer = None if dry_run else written.enter_context(repository.writer())
            trees = TreeRepair(repository, writer, unindexed, cancel or threading.Event())
            report = _repair_trees(trees, wanted, forget, on_loss, ProgressMeter("walking snapshots", on_progress))
        report.unreadable = [(name, reason) for name, reason in damaged.items() if name in chosen]
        if names and forget:
            report.forgotten = [name for name, _ in report.unreadable]
        if lock is not None:
            report.repairs = _save(repository, lock, report.repairs, there)
            _delete(repository, lock, [repair.snapshot.id for repair in report.repairs if repair.is_forgotten])
            _delete(repository, lock, report.forgotten)
    return report


def _repair_trees(
    trees: TreeRepair,
    snapshots: Iterable[Snapshot],
    forget: bool,
    on_loss: Callable[[Snapshot, Loss], None] | None,
    meter: ProgressMeter,
) -> SnapshotsRepair:
    report = SnapshotsRepair()
    for snapshot in snapshots:
        meter.current = snapshot.short_id
        meter.tick()
        tree = trees.repair(snapshot.tree)
        if tree == snapshot.tree:
            report.whole += 1
            continue
        losses = 0
        for loss in trees.losses(snapshot.tree):
            losses += 1
            if on_loss is not None:
                on_loss(snapshot, loss)
        report.repairs.append(SnapshotRepair(snapshot, tree, losses, is_forgotten=forget))
    return report


def _load_index(repository: Repository) -> set[tuple[BlobType, bytes]]:
    """Read the index; return the blobs of packs that it does not name, which a run that was cut off leaves.

    Raises IndexIncomplete if it cannot be read, or names packs that do not exist.
    """
    repository.unload_index()
    try:
        repository.load_index()
    except DataDamaged as error:
        raise IndexIncomplete(f"{error}; repair the index first") from error
    indexed = set(repository.index.packs())
    stored = repository.stored_packs()
    gone = indexed - stored.keys()
    if gone:
        raise IndexIncomplete(f"{len(gone)} packs that the index names do not exist; repair the index first")
    unindexed: set[tuple[BlobType, bytes]] = set()
    for pack_id in stored.keys() - indexed:
        try:
            header = repository.load_pack_header(pack_id, stored[pack_id])
            unindexed.update((blob.type, blob.id) for blob in iter_header(header, stored[pack_id]))
        except TooLarge:
            raise
        except DataDamaged:
            continue
    return unindexed


def _load_snapshots(repository: Repository) -> tuple[list[Snapshot], dict[str, str]]:
    """Return the snapshots, the oldest first, and of those that cannot be read the reason."""
    found: list[Snapshot] = []
    damaged: dict[str, str] = {}
    for name, _ in list(repository.store.list(FileKind.SNAPSHOTS)):
        try:
            found.append(load_snapshot(repository, name))
        except DataDamaged as error:
            damaged[name] = str(error)
    return sorted(found, key=lambda snapshot: (snapshot.time, snapshot.id)), damaged


def _chosen(names: Sequence[str], only: SnapshotFilter, snapshots: Sequence[Snapshot], damaged: Iterable[str]) -> set[str]:
    """Return the ids that are meant, of readable and damaged files. Raises SnapshotNotFound, EngineError."""
    fitting = [snapshot for snapshot in snapshots if only.matches(snapshot)]
    if not names:
        return {snapshot.id for snapshot in fitting}.union(damaged)
    refuse_idle_filter(names, only)
    chosen: set[str] = set()
    for name in names:
        if name == "latest":
            matching = [snapshot.id for snapshot in fitting[-1:]]
        else:
            matching = [found for found in (*(snapshot.id for snapshot in snapshots), *damaged) if found.startswith(name)]
        if len(matching) != 1 or not name:
            raise SnapshotNotFound(f"{len(matching)} snapshots answer to {name!r}, where one is needed")
        chosen.update(matching)
    return chosen


def _save(repository: Repository, lock: Lock, repairs: Sequence[SnapshotRepair], there: Iterable[Snapshot]) -> list[SnapshotRepair]:
    """Write a snapshot of what is left of each, unless an earlier run did; return the repairs with its id."""
    made = {(snapshot.original, snapshot.tree): snapshot.id for snapshot in there}
    saved = []
    for repair in repairs:
        if repair.tree is not None:
            old = repair.snapshot
            repaired_id = made.get((old.id, repair.tree))
            if repaired_id is None:
                tags = old.tags if repair.is_forgotten or TAG in old.tags else (*old.tags, TAG)
                lock.require_held()
                content = repository.load_file(FileKind.SNAPSHOTS, old.id)
                content = change_snapshot(content, original=old.id, tree=repair.tree, tags=tags or None)
                repaired_id = repository.save_file(FileKind.SNAPSHOTS, content)
            repair = replace(repair, repaired_id=repaired_id)
        saved.append(repair)
    return saved


def _delete(repository: Repository, lock: Lock, snapshot_ids: Iterable[str]) -> None:
    for snapshot_id in snapshot_ids:
        lock.require_held()
        repository.store.delete(FileKind.SNAPSHOTS, snapshot_id)
