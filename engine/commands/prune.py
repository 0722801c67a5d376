"""prune: give back the space of what no snapshot needs.

    look ── mark what is used ── decide ── rewrite packs ║ look again ── write index files ── delete index files ── delete packs
    ─────────── a shared lock: backups go on ────────────║──────────────── the exclusive lock: nobody else ─────────────────────

Why backups may go on while it plans: under the shared lock it only adds, packs first and then the index files that name them.
It deletes under the exclusive lock alone, beside which no backup runs, restic's neither: whoever was at work has written its
snapshot or will write none, and who comes later reads the index as it is left. So all that can be needed is known by then:
index files and snapshots that came since are read, new snapshots walked, and a pack that they need after all stays. The
plan itself holds while each index file that it was made from is there, since who deletes a pack deletes first the index files
that name it; if one is gone, nothing is deleted. Before anything is, each needed blob must be found in a pack that stays, by
what the index files in the store say.

Why it may be cut off at any instant: a pack is stored before an index file names it, the new index files are there before
the old ones go, and a pack goes when no index file names it any more. What is left over in between (packs in no index, blobs
and packs that are listed twice) harms nobody, and the next prune clears it away. Only the last of the new index files says which
ones they all supersede: who heeds that, as restic does not, must not meet it before the others are there.
"""

import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from engine.blob import BlobType
from engine.errors import BlobMissing, Cancelled, DataDamaged
from engine.index import BLOBS_PER_FILE, Index, IndexedPack, encode_index
from engine.inventory import NOT_NEEDED, Inventory
from engine.locks import Lock, wait_for_lock
from engine.progress import Progress, ProgressMeter
from engine.pruning import (
    USUAL_LIMIT,
    BlobCounts,
    ByteCounts,
    Fate,
    PackCounts,
    PackUse,
    UnusedLimit,
    choose_copies,
    count_outcome,
    count_use,
    decide,
    spare,
    unkept,
)
from engine.repacking import move_blobs
from engine.repository import Repository
from engine.store import FileKind
from engine.writer import RepositoryWriter

WORKERS = 4
DELETED_AT_ONCE = 64

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """`max_repack_size`: bytes of packs to rewrite at most, None for any; `retry_lock_s`: how long to wait for running backups.

    `forgotten`: full ids of snapshots that a dry run takes for gone already. `pays`: asked about what was planned before anything
    is done; if it says no, nothing is.
    """

    max_unused: UnusedLimit = USUAL_LIMIT
    max_repack_size: int | None = None
    dry_run: bool = False
    retry_lock_s: float = 0
    forgotten: frozenset[str] = frozenset()
    pays: Callable[[ByteCounts], bool] = lambda sizes: True


@dataclass(frozen=True, slots=True)
class PruneReport:
    """`blobs`, `bytes` and `packfiles`: what was planned. The rest is what was done: nothing by a dry run, or if it did not pay.

    `packs_deleted`, `bytes_deleted`: of whole packs, those that were rewritten and those in no index with them;
    `bytes_added`: by rewriting; `packs_spared`: those that a backup came to need meanwhile; `packs_missing`: those that the
    index named, the store did not have and nobody needs, so that the index forgets them.
    """

    blobs: BlobCounts
    bytes: ByteCounts
    packfiles: PackCounts
    packs_deleted: int = 0
    bytes_deleted: int = 0
    bytes_added: int = 0
    packs_spared: int = 0
    packs_missing: int = 0
    duration_s: float = 0.0


def prune(
    repository: Repository,
    options: PruneOptions = PruneOptions(),
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> PruneReport:
    """Delete what no snapshot needs; backups to the repository may go on until the deleting begins.

    Nothing is deleted if anything that a snapshot needs is missing or damaged, as far as it is read. Raises RepositoryLocked,
    RepositoryChanged, BlobMissing, DataDamaged, LockLost, Cancelled and StoreError's family; the next prune takes it from there.
    """
    # What was read earlier may name packs that are gone, and so does what is read here once this is done.
    repository.unload_index()
    try:
        return _Prune(repository, options, ProgressMeter("prune", on_progress), cancel or threading.Event()).run()
    finally:
        repository.unload_index()


@dataclass(frozen=True, slots=True)
class _Plan:
    """`chosen`: the pack whose copy of a blob stays, by the blob's number; `fates`: by the pack's; `to_rewrite`: of these packs."""

    chosen: "array[int]"
    fates: list[Fate]
    to_rewrite: dict[int, PackUse]
    outcome: tuple[BlobCounts, ByteCounts, PackCounts]


class _Prune:
    def __init__(self, repository: Repository, options: PruneOptions, meter: ProgressMeter, cancel: threading.Event) -> None:
        self.repository, self.options, self.meter, self.cancel = repository, options, meter, cancel
        self.workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="prune")
        forgotten = options.forgotten if options.dry_run else frozenset()
        self.inventory = Inventory(repository, self.workers, meter, cancel, forgotten)
        self.packs_deleted = self.bytes_deleted = self.bytes_added = self.packs_spared = 0

    def run(self) -> PruneReport:
        started = time.monotonic()
        with self.workers:
            with self.repository.lock():
                self.inventory.look()
                plan = self.plan()
                is_wanted = not self.options.dry_run and self.options.pays(plan.outcome[1])
                if is_wanted:
                    self.repack(plan)
            if is_wanted:
                with ExitStack() as stack:
                    self.delete(plan, self.lock_alone(stack))
        return PruneReport(
            *plan.outcome,
            packs_deleted=self.packs_deleted,
            bytes_deleted=self.bytes_deleted,
            bytes_added=self.bytes_added,
            packs_spared=self.packs_spared,
            packs_missing=len(self.inventory.missing),
            duration_s=time.monotonic() - started,
        )

    def plan(self) -> _Plan:
        inventory, options = self.inventory, self.options
        usable = inventory.usable()
        self.refuse_loss(usable, bytes(len(usable)))
        chosen = choose_copies(inventory.copies, inventory.used, usable)
        uses = count_use(inventory.copies, inventory.used, chosen)
        fates = decide(uses, options.max_unused, options.max_repack_size)
        unreferenced = [inventory.stored[pack] for pack in inventory.unreferenced()]
        to_rewrite = {number: uses[number] for number, fate in enumerate(fates) if fate is Fate.REPACK}
        return _Plan(chosen, fates, to_rewrite, count_outcome(uses, fates, unreferenced))

    def repack(self, plan: _Plan) -> None:
        """Store what is needed of the packs to rewrite in new packs, and name these in index files."""
        self.meter.phase = "rewriting packs"
        self.meter.files_done, self.meter.files_total = 0, len(plan.to_rewrite)
        self.meter.bytes_done, self.meter.bytes_total = 0, plan.outcome[1].repack
        repository = self.repository
        # With an index of its own: the repository's would note for each blob that it lies elsewhere too.
        with RepositoryWriter(repository.store, repository.key, repository.config.version, Index(), repository.save_file) as writer:
            try:
                for some in _batches(list(plan.to_rewrite), WORKERS):
                    self.inventory.check_cancelled()
                    for number in self.workers.map(partial(self.move, plan, writer), some):
                        self.meter.files_done += 1
                        self.meter.bytes_done += plan.to_rewrite[number].size
                        self.meter.tick()
            except (Cancelled, DataDamaged):
                writer.indexing.flush()  # what is stored by now need not be rewritten again
                raise
        self.bytes_added = writer.bytes_stored

    def move(self, plan: _Plan, writer: RepositoryWriter, number: int) -> int:
        """Move what is needed of a pack; return its number."""
        index, used, copies = self.repository.index, self.inventory.used, self.inventory.copies

        def is_wanted(blob_type: BlobType, blob_id: bytes) -> bool:
            blob = index.number(blob_type, blob_id)
            return blob is not None and bool(used[blob]) and plan.chosen[blob] == number

        pack, size = copies.packs[number], copies.sizes[number]
        try:
            if move_blobs(self.repository, writer, pack, size, is_wanted) != plan.to_rewrite[number].used_blobs:
                raise DataDamaged("its header disagrees with the index")
        except DataDamaged as error:
            raise DataDamaged(f"pack {pack.hex()} is damaged: {error}; nothing was deleted") from error
        return number

    def lock_alone(self, stack: ExitStack) -> Lock:
        """Take the exclusive lock, once the backups that are running have ended if the options say to wait for that."""
        alone = partial(self.repository.lock, exclusive=True)
        return stack.enter_context(wait_for_lock(alone, self.options.retry_lock_s, self.meter, self.cancel))

    def delete(self, plan: _Plan, lock: Lock) -> None:
        """Delete what was planned, but for what backups have come to need since."""
        inventory, copies = self.inventory, self.inventory.copies
        inventory.look()
        usable = inventory.usable()
        doomed = bytearray(fate is not Fate.KEEP for fate in plan.fates)
        doomed.extend(bytes(len(copies.packs) - len(doomed)))
        self.packs_spared = len(spare(copies, inventory.used, usable, doomed))
        self.refuse_loss(usable, doomed)
        self.meter.phase = "deleting"
        # First, since a store may have no space left for index files.
        self.delete_packs(inventory.unreferenced(), lock)
        replaced = self.write_index(doomed, lock)
        self.delete_files(FileKind.INDEX, replaced, lock)
        self.delete_packs([pack for number, pack in enumerate(copies.packs) if doomed[number]], lock)
        lock.require_held()
        self.repository.store.delete_remains()

    def refuse_loss(self, usable: bytearray, doomed: bytes | bytearray) -> None:
        """Raise BlobMissing if something that is needed is in no sound pack that stays."""
        inventory, copies = self.inventory, self.inventory.copies
        copy = unkept(copies, inventory.used, usable, doomed)
        if copy is None:
            return
        pack, size = copies.packs[copies.pack[copy]], copies.sizes[copies.pack[copy]]
        stored = inventory.stored.get(pack)
        what = "is missing" if stored is None else f"has {stored} bytes where the index needs {size}"
        raise BlobMissing(f"pack {pack.hex()}, which snapshots need, {what}; nothing was deleted, see repair index")

    def write_index(self, doomed: bytearray, lock: Lock) -> list[str]:
        """Write anew what stays of the index files that name what goes; return the names of these files.

        Small files, which each backup adds, are put together on the way.
        """
        files = self.inventory.index_files
        replaced = {name for name, file in files.items() if any(pack == NOT_NEEDED or doomed[pack] for pack in file.packs)}
        small = {name for name, file in files.items() if file.blobs < BLOBS_PER_FILE // 2} - replaced
        if replaced or len(small) > 1:
            replaced |= small
        pending: list[IndexedPack] = []
        blobs = 0
        for name, listed in self.inventory.read_index(sorted(replaced)):
            for pack, number in zip(listed, files[name].packs, strict=True):
                if number == NOT_NEEDED or doomed[number]:
                    continue
                if blobs >= BLOBS_PER_FILE:
                    self.save_index(pending, lock)
                    pending, blobs = [], 0
                pending.append(pack)
                blobs += len(pack.blobs)
        if pending:
            self.save_index(pending, lock, supersedes=sorted(replaced))
        return sorted(replaced)

    def save_index(self, packs: list[IndexedPack], lock: Lock, supersedes: Sequence[str] = ()) -> None:
        lock.require_held()
        self.repository.save_file(FileKind.INDEX, encode_index(packs, supersedes))

    def delete_packs(self, packs: list[bytes], lock: Lock) -> None:
        self.delete_files(FileKind.DATA, [pack.hex() for pack in packs], lock)
        self.packs_deleted += len(packs)
        self.bytes_deleted += sum(self.inventory.stored.get(pack, 0) for pack in packs)

    def delete_files(self, kind: FileKind, names: list[str], lock: Lock) -> None:
        """Return once all of the files are gone."""

        def delete(name: str) -> None:
            lock.require_held()
            self.repository.store.delete(kind, name)

        self.meter.files_done, self.meter.files_total = 0, len(names)
        for some in _batches(names, DELETED_AT_ONCE):
            self.inventory.check_cancelled()
            for _ in self.workers.map(delete, some):
                self.meter.files_done += 1
                self.meter.tick()


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
