"""What a repository holds and what of it snapshots need: the ground on which a prune decides.

It can be looked at again: what came since is learnt, and what was relied on must still be there. Nothing here changes the
repository. What grows with the number of blobs stands in flat arrays: 16 bytes a copy (see `copies`) and one byte a blob
beside the index in memory.
"""

import threading
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from engine.blob import BlobType, parse_id
from engine.copies import Copies
from engine.errors import BlobMissing, Cancelled, DataDamaged, RepositoryChanged, SnapshotNotFound
from engine.index import IndexedPack, decode_index
from engine.progress import ProgressMeter
from engine.repository import Repository
from engine.snapshot import load_snapshot
from engine.store import FileKind
from engine.treereader import is_large, read_raw_nodes

TREES_AT_ONCE = 64
LOOKS_EVERY = 4
NOT_NEEDED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class IndexFile:
    """An index file. `packs`: the number of each pack that it lists, in its order, `blobs`: how many it lists.

    NOT_NEEDED stands for a pack that is missing, and for one of which other index files say as much.
    """

    packs: "array[int]"
    blobs: int


class Inventory:
    """`stored`: the size in bytes of each pack in the store; `used`: a byte for each blob, 1 if a snapshot needs it.

    `missing`: the packs that index files name and the store does not have; their blobs count as not there. The `ignored` snapshots
    (full ids) need nothing. Learns into the repository's index, which must be empty at first.
    """

    def __init__(
        self,
        repository: Repository,
        readers: ThreadPoolExecutor,
        meter: ProgressMeter,
        cancel: threading.Event,
        ignored: Collection[str] = (),
    ) -> None:
        self.repository, self.readers, self.meter, self.cancel = repository, readers, meter, cancel
        self.copies = Copies()
        self.index_files: dict[str, IndexFile] = {}
        self.stored: dict[bytes, int] = {}
        self.missing: set[bytes] = set()
        self.used = bytearray()
        self._sizes: dict[str, int] = {}
        # Beside each other they would take too much memory.
        self._one_large_tree = threading.Lock()
        self._walked = set(ignored)

    def look(self) -> None:
        """Learn what the repository holds now. Raises RepositoryChanged, BlobMissing, DataDamaged, Cancelled, StoreError.

        Beside running backups: whatever a snapshot needs is in index files that were there before it, and what these name
        was stored before them. So each is listed before what it relies on.
        """
        snapshots = [name for name, _ in self.repository.store.list(FileKind.SNAPSHOTS)]
        self._sizes = dict(self.repository.store.list(FileKind.INDEX))
        self.stored = self.repository.stored_packs()
        gone = self.index_files.keys() - self._sizes.keys()
        if gone:
            raise RepositoryChanged(
                f"index file {min(gone)} was replaced meanwhile, so that another process has pruned or repaired the repository; "
                "nothing was deleted, and prune can be run again"
            )
        self.meter.phase = "reading the index"
        self.repository.reserve_index(self._sizes)
        for name, packs in self.read_index([name for name in self._sizes if name not in self.index_files]):
            self._learn(name, packs)
        self.used.extend(bytes(len(self.repository.index) - len(self.used)))
        self.meter.phase = "walking snapshots"
        new = [name for name in snapshots if name not in self._walked]
        self.meter.files_done, self.meter.files_total = 0, len(new)
        for name in new:
            self._walk(name)
            self.meter.files_done += 1
            self.meter.tick()

    def usable(self) -> bytearray:
        """Return a byte for each pack: 1 if the store has it in the size that the index says."""
        copies = self.copies
        return bytearray(self.stored.get(pack) == size for pack, size in zip(copies.packs, copies.sizes, strict=True))

    def unreferenced(self) -> list[bytes]:
        """Return the packs in the store that no index file names."""
        return [pack for pack in self.stored if pack not in self.copies and pack not in self.missing]

    def read_index(self, names: Sequence[str]) -> Iterator[tuple[str, Iterator[IndexedPack]]]:
        """Yield each of these index files with what it lists, a few of them in memory at once. Raises DataDamaged."""
        loaded = self.repository.load_files(FileKind.INDEX, {name: self._sizes[name] for name in names})
        for number, (name, content) in enumerate(loaded):
            if number % LOOKS_EVERY == 0:
                self.check_cancelled()
            yield name, decode_index(content, name)
            del content  # while the next is read

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled

    def _learn(self, name: str, listed: Iterable[IndexedPack]) -> None:
        index, copies = self.repository.index, self.copies
        packs = array("I")
        blobs = 0
        for pack in listed:
            blobs += len(pack.blobs)
            if pack.id not in self.stored:
                self.missing.add(pack.id)
                packs.append(NOT_NEEDED)
                continue
            known, is_new = len(copies), pack.id not in copies
            number = copies.add_pack(pack, index.number_pack(pack))
            packs.append(number if is_new or len(copies) > known else NOT_NEEDED)
        self.index_files[name] = IndexFile(packs, blobs)

    def _walk(self, snapshot_id: str) -> None:
        """Mark what a snapshot needs; what is marked already is not read again, since what it leads to is marked as well."""
        try:
            root = load_snapshot(self.repository, snapshot_id).tree
        except SnapshotNotFound:
            return
        pending = [root] if self._mark(BlobType.TREE, root, snapshot_id) else []
        while pending:
            self.check_cancelled()
            some = pending[-TREES_AT_ONCE:]
            del pending[-TREES_AT_ONCE:]
            for subtrees in self.readers.map(partial(self._read_tree, snapshot_id), some):
                pending += [tree for tree in subtrees if self._mark(BlobType.TREE, tree, snapshot_id)]
            self.meter.tick()
        self._walked.add(snapshot_id)

    def _mark(self, blob_type: BlobType, blob_id: bytes, snapshot_id: str) -> bool:
        """Return whether the blob was not marked yet."""
        number = self.repository.index.number(blob_type, blob_id)
        if number is None:
            cause = f"; {len(self.missing)} packs that the index names are missing" if self.missing else ""
            raise BlobMissing(
                f"snapshot {snapshot_id[:8]} needs the {blob_type.label} blob {blob_id.hex()}, "
                f"which is in no index or in a pack that is missing{cause}; nothing was deleted, see repair index"
            )
        is_new = not self.used[number]
        self.used[number] = 1
        return is_new

    def _read_tree(self, snapshot_id: str, tree_id: bytes) -> list[bytes]:
        """Mark the data that a tree names; return the trees that it names, each once, without those that are marked."""
        if is_large(self.repository, tree_id):
            with self._one_large_tree:
                return self._read_entries(snapshot_id, tree_id)
        return self._read_entries(snapshot_id, tree_id)

    def _read_entries(self, snapshot_id: str, tree_id: bytes) -> list[bytes]:
        subtrees: dict[int, bytes] = {}
        index = self.repository.index
        try:
            for node in read_raw_nodes(self.repository, tree_id):
                if node.subtree is not None:
                    tree = parse_id(node.subtree)
                    number = index.number(BlobType.TREE, tree)
                    # One that is missing is told where it is marked.
                    if number is None or not self.used[number]:
                        subtrees[-1 if number is None else number] = tree
                for blob_id in node.content or ():
                    self._mark(BlobType.DATA, parse_id(blob_id), snapshot_id)
        except (DataDamaged, ValueError) as error:
            raise DataDamaged(f"tree {tree_id.hex()} cannot be read, so that nothing was deleted: {error}") from error
        return list(subtrees.values())
