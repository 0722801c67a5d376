"""Copy snapshots with all they hold from one repository to another: another key, perhaps another version, the same blobs.

    trees, not seen yet ── blobs that the target lacks ── ranges, in pack order ── open ── check the hash ── compress ── seal

Only the blobs of a batch are remembered and only a range a thread is in memory, however large the snapshots are. Blobs keep
their ids, so that what the target has is not copied again. The copy has another id, and in `original` that of the
first of its line, by which a later run knows it.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from engine.blob import BlobType
from engine.errors import BlobMissing, Cancelled, DataDamaged, FileMissing
from engine.locks import Lock
from engine.progress import Progress, ProgressMeter
from engine.ranges import PackRange, pack_ranges
from engine.readahead import map_ahead
from engine.repository import Repository
from engine.snapshot import EVERY_SNAPSHOT, Snapshot, SnapshotFilter, change_snapshot, find_snapshots, iter_snapshots
from engine.store import FileKind
from engine.tree import RawNode, iter_raw_nodes, named_id
from engine.treereader import is_large, read_raw_nodes
from engine.writer import RepositoryWriter

THREADS = 4
TREES_AT_ONCE = 16
BLOBS_AT_ONCE = 50_000
# Small snapshots share packs; a run that is killed copies the snapshots of this time again, though not their blobs.
SAVE_EVERY_S = 60.0

# What is wrong with the source concerns the snapshots that need it, and not those that do not.
_Unreadable = (BlobMissing, DataDamaged, FileMissing)


@dataclass(frozen=True, slots=True)
class Copied:
    """A snapshot of the source, and the id of its copy in the target."""

    snapshot: Snapshot
    copy_id: str


@dataclass(slots=True)
class CopySummary:
    """What became of the snapshots. `failed`: id in the source and the reason.

    `bytes_copied` of content, `bytes_stored` of the packs that hold it.
    """

    copied: list[Copied] = field(default_factory=list)
    skipped: list[Copied] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    blobs_copied: int = 0
    bytes_copied: int = 0
    bytes_stored: int = 0


def copy(
    source: Repository,
    target: Repository,
    names: Sequence[str] = (),
    *,
    only: SnapshotFilter = EVERY_SNAPSHOT,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> CopySummary:
    """Copy the snapshots that are named, or all that `only` means, unless the target has them already.

    A snapshot of which something is missing or damaged is not copied, and told as failed; the others are. Raises
    SnapshotNotFound, RepositoryLocked, LockLost, Cancelled, DataDamaged (an index or snapshot file) and StoreError's family.
    """
    with source.lock() as source_lock, target.lock() as target_lock:
        summary = CopySummary()
        wanted: list[Snapshot] = []
        copies = _copies_by_original(iter_snapshots(target))
        for snapshot in find_snapshots(source, names, only):
            candidates = copies.get(snapshot.original or snapshot.id, ())
            found = next((candidate for candidate in candidates if is_copy(candidate, snapshot)), None)
            if found is None:
                wanted.append(snapshot)
            else:
                summary.skipped.append(Copied(snapshot, found.id))
        if wanted:
            source.load_index()
            target.unload_index()
            target.load_index()
            meter = ProgressMeter("copy", on_progress)
            _Copy(source, target, (source_lock, target_lock), summary, meter, cancel or threading.Event()).run(wanted)
        return summary


def is_copy(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots of the same origin say the same, as restic's `copy` decides: all but parent and program count."""
    return (
        (one.time, one.tree, one.hostname, one.username, one.uid, one.gid, one.excludes)
        == (other.time, other.tree, other.hostname, other.username, other.uid, other.gid, other.excludes)
        and sorted(one.paths) == sorted(other.paths)
        and sorted(one.tags) == sorted(other.tags)
    )


def _copies_by_original(snapshots: Iterable[Snapshot]) -> dict[str, list[Snapshot]]:
    found: dict[str, list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        # A snapshot that was copied with its file, byte for byte, has its id.
        for origin in {snapshot.id, snapshot.original or snapshot.id}:
            found[origin].append(snapshot)
    return found


@dataclass(slots=True)
class _RangeCopied:
    blobs: list[bytes] = field(default_factory=list)
    size: int = 0
    failures: dict[bytes, str] = field(default_factory=dict)


class _Copy:
    def __init__(
        self,
        source: Repository,
        target: Repository,
        locks: tuple[Lock, ...],
        summary: CopySummary,
        meter: ProgressMeter,
        cancel: threading.Event,
    ) -> None:
        self.source, self.target, self.locks = source, target, locks
        self.summary, self.meter, self.cancel = summary, meter, cancel
        self.writer: RepositoryWriter = target.writer()
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="copy")
        # Trees whose blobs, and all that they lead to, were given to the writer.
        self.complete: set[bytes] = set()
        self.given: dict[BlobType, set[bytes]] = {blob_type: set() for blob_type in BlobType}

    def run(self, snapshots: Sequence[Snapshot]) -> None:
        waiting: list[Snapshot] = []
        begun = time.monotonic()
        with self.writer, self.threads:
            for number, snapshot in enumerate(snapshots, 1):
                self.meter.current = f"snapshot {number} of {len(snapshots)}"
                try:
                    self.copy_content(snapshot)
                except _Unreadable as error:
                    self.summary.failed.append((snapshot.id, str(error)))
                    self.meter.errors += 1
                    continue
                waiting.append(snapshot)
                if time.monotonic() - begun >= SAVE_EVERY_S:
                    self.save(waiting)
                    waiting, begun = [], time.monotonic()
            self.save(waiting)
            self.summary.bytes_stored = self.writer.bytes_stored

    def save(self, snapshots: Iterable[Snapshot]) -> None:
        """Write the snapshots, once all their content is stored and indexed."""
        self.writer.flush()
        for snapshot in snapshots:
            self.check_cancelled()
            for lock in self.locks:
                lock.require_held()
            content = self.source.load_file(FileKind.SNAPSHOTS, snapshot.id)
            # Its parent would be one of another repository.
            try:
                copied = change_snapshot(content, original=snapshot.original or snapshot.id, has_parent=False)
            except DataDamaged as error:
                self.summary.failed.append((snapshot.id, str(error)))
                self.meter.errors += 1
                continue
            self.summary.copied.append(Copied(snapshot, self.target.save_file(FileKind.SNAPSHOTS, copied)))

    def copy_content(self, snapshot: Snapshot) -> None:
        """Give the writer what the target lacks of a snapshot. Raises one of `_Unreadable` if some of it cannot be had."""
        seen = {snapshot.tree} - self.complete
        pending = list(seen)
        wanted: set[bytes] = set()
        while pending:
            some = [pending.pop() for _ in range(min(len(pending), TREES_AT_ONCE))]
            small = [tree_id for tree_id in some if not is_large(self.source, tree_id)]
            for tree_id, tree in zip(small, map_ahead(self.threads, self.load_tree, small, TREES_AT_ONCE), strict=True):
                pending += self.take(iter_raw_nodes(tree), seen, wanted)
                if self.is_lacking(BlobType.TREE, tree_id):
                    self.writer.add_claimed(BlobType.TREE, tree_id, tree)
                    self.count(BlobType.TREE, [tree_id], len(tree))
            for tree_id in set(some).difference(small):
                pending += self.take(read_raw_nodes(self.source, tree_id), seen, wanted)
                if self.is_lacking(BlobType.TREE, tree_id):
                    size = self.source.index.plain_length(BlobType.TREE, tree_id) or 0
                    read = partial(self.source.stream_blob, BlobType.TREE, tree_id)
                    self.writer.add_pieces(BlobType.TREE, tree_id, read, size)
                    self.count(BlobType.TREE, [tree_id], size)
        self.copy_blobs(wanted)
        self.complete |= seen

    def take(self, entries: Iterable[RawNode], seen: set[bytes], wanted: set[bytes]) -> list[bytes]:
        """Note what the target lacks of the data that a tree names, and copy it if it has become much.

        Returns the trees that it names and that were not seen before. Raises BlobMissing, DataDamaged.
        """
        below: list[bytes] = []
        for node in entries:
            self.check_cancelled()
            for blob_id in map(named_id, node.content or ()):
                if self.is_wanted(blob_id):
                    wanted.add(blob_id)
                    if len(wanted) >= BLOBS_AT_ONCE:
                        self.copy_blobs(wanted)
                        wanted.clear()
            if node.subtree is None:
                self.meter.files_done += 1
                continue
            tree_id = named_id(node.subtree)
            if tree_id not in seen and tree_id not in self.complete:
                self.source.locate(BlobType.TREE, tree_id)
                seen.add(tree_id)
                below.append(tree_id)
        return below

    def is_wanted(self, blob_id: bytes) -> bool:
        if not self.is_lacking(BlobType.DATA, blob_id):
            return False
        self.source.locate(BlobType.DATA, blob_id)
        return True

    def is_lacking(self, blob_type: BlobType, blob_id: bytes) -> bool:
        return blob_id not in self.given[blob_type] and not self.target.index.has(blob_type, blob_id)

    def load_tree(self, tree_id: bytes) -> bytes:
        self.check_cancelled()
        return self.source.load_blob(BlobType.TREE, tree_id)

    def copy_blobs(self, blob_ids: Iterable[bytes]) -> None:
        failures: dict[bytes, str] = {}
        for done in self.threads.map(self.copy_range, pack_ranges(self.source.index, BlobType.DATA, blob_ids)):
            self.check_cancelled()
            self.count(BlobType.DATA, done.blobs, done.size)
            failures |= done.failures
        if failures:
            raise DataDamaged(next(iter(failures.values())))

    def copy_range(self, found: PackRange) -> _RangeCopied:
        """Copy the blobs of a range; what cannot be read is told, what cannot be written ends the run."""
        self.check_cancelled()
        done = _RangeCopied()
        try:
            sealed = self.source.store.get_range(FileKind.DATA, found.pack_id.hex(), found.offset, found.length)
        except FileMissing as error:
            return _RangeCopied(failures={blob_id: str(error) for blob_id, _ in found.blobs})
        view = memoryview(sealed)
        for blob_id, location in found.blobs:
            at = location.offset - found.offset
            try:
                content = self.source.open_blob(blob_id, view[at : at + location.length], location.uncompressed_length)
            except DataDamaged as error:
                done.failures[blob_id] = f"data blob {blob_id.hex()} in pack {found.pack_id.hex()}: {error}"
                continue
            self.writer.add_claimed(BlobType.DATA, blob_id, content)
            done.blobs.append(blob_id)
            done.size += len(content)
        return done

    def count(self, blob_type: BlobType, blob_ids: Sequence[bytes], size: int) -> None:
        self.given[blob_type].update(blob_ids)
        self.summary.blobs_copied += len(blob_ids)
        self.summary.bytes_copied += size
        self.meter.bytes_done += size
        self.meter.bytes_added = self.writer.bytes_stored
        self.meter.tick()

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled

