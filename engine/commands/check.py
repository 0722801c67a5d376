"""Check a repository: that everything the snapshots name is there, and with `read_data` that every byte is what it was.

Structure: every key file is what it was, every index file can be read, every pack it names exists and is as large as its blobs
need, every tree and every blob that a snapshot leads to is in the index. Data: every pack has the hash that is its name, a header
that agrees with the index, and blobs that are what their ids say.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.blob import BlobType, PackedBlob
from engine.errors import Cancelled, DataDamaged, EngineError, StoreError
from engine.index import decode_index
from engine.keys import KeyFile
from engine.pack import LENGTH_SIZE, decode_header, header_size, sealed_header_length
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.snapshot import load_snapshot
from engine.store import FileKind
from engine.subset import Subset
from engine.tree import iter_nodes

READERS = 4


@dataclass(slots=True)
class CheckReport:
    """What a check found. `problems`: sentences, none if the repository is sound; `notes`: what is odd but harmless."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packs: int = 0
    blobs: int = 0
    snapshots: int = 0
    packs_read: int = 0
    bytes_read: int = 0


def check(
    repository: Repository,
    *,
    read_data: bool = False,
    subset: Subset | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> CheckReport:
    """Check the repository under a shared lock, so that nothing is deleted meanwhile.

    `read_data`: read all packs; `subset` chooses those to read instead. Raises RepositoryLocked, Cancelled.
    """
    choose = subset or (list if read_data else None)
    with repository.lock():
        return _Check(repository, on_progress, cancel or threading.Event()).run(choose)


class _Check:
    def __init__(self, repository: Repository, on_progress: Callable[[Progress], None] | None, cancel: threading.Event) -> None:
        self.repository, self.cancel = repository, cancel
        self.meter = ProgressMeter("reading the index", on_progress)
        self.report = CheckReport()
        self.indexed: dict[bytes, set[PackedBlob]] = {}

    def run(self, choose: Subset | None) -> CheckReport:
        # First, since the index that is read afterwards has all that these need; of a backup that ends now it has less.
        names = [name for name, _ in self.repository.store.list(FileKind.SNAPSHOTS)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="check") as readers:
            self.check_keys()
            self.read_index()
            sizes = self.check_packs()
            self.check_snapshots(readers, names)
            if choose is not None:
                present = {pack_id: sizes[pack_id] for pack_id in self.indexed if pack_id in sizes}
                self.check_data(readers, {pack_id: sizes[pack_id] for pack_id in choose(present)})
        self.report.packs, self.report.blobs = len(self.indexed), len(self.repository.index)
        return self.report

    def check_keys(self) -> None:
        """Look at all keys, since those of other passwords are missed only when they are needed."""
        for name, _ in self.repository.store.list(FileKind.KEYS):
            try:
                content = self.repository.store.get(FileKind.KEYS, name)
                if hashlib.sha256(content).hexdigest() != name:
                    raise DataDamaged("its content is not what its name says")
                KeyFile.parse(content)
            except EngineError as error:
                self.problem(f"key {name}: {error}")

    def read_index(self) -> None:
        for name, _ in self.repository.store.list(FileKind.INDEX):
            self.check_cancelled()
            try:
                for pack in decode_index(self.repository.load_file(FileKind.INDEX, name)):
                    self.repository.index.add_pack(pack)
                    self.indexed.setdefault(pack.id, set()).update(pack.blobs)
            except EngineError as error:
                self.problem(f"index file {name}: {error}")

    def check_packs(self) -> dict[bytes, int]:
        """Compare the packs that the index names with those that are there; return the sizes of these."""
        self.meter.phase = "listing packs"
        stored = self.repository.stored_packs(lambda name: self.report.notes.append(f"{name} among the packs is no pack"))
        for pack_id, blobs in self.indexed.items():
            if pack_id not in stored:
                self.problem(f"pack {pack_id.hex()} is missing")
                continue
            compressed = sum(blob.uncompressed_length > 0 for blob in blobs)
            needed = sum(blob.length for blob in blobs) + header_size(len(blobs) - compressed, compressed)
            if stored[pack_id] != needed:
                self.problem(f"pack {pack_id.hex()} has {stored[pack_id]} bytes where the index needs {needed}")
        unknown = len(stored.keys() - self.indexed.keys())
        if unknown:
            self.report.notes.append(
                f"{unknown} packs are in no index: left by a run that was cut off"
            )
        return stored

    def check_snapshots(self, readers: ThreadPoolExecutor, names: Iterable[str]) -> None:
        self.meter.phase = "walking snapshots"
        level: set[bytes] = set()
        for name in names:
            self.report.snapshots += 1
            try:
                level.add(load_snapshot(self.repository, name).tree)
            except EngineError as error:
                self.problem(f"snapshot {name}: {error}")
        seen: set[bytes] = set()
        while level:
            self.check_cancelled()
            seen |= level
            below: set[bytes] = set()
            for tree_id, found in zip(level, readers.map(self.check_tree, level), strict=True):
                if isinstance(found, str):
                    self.problem(f"tree {tree_id.hex()}: {found}")
                else:
                    below |= found
                self.meter.files_done += 1
                self.meter.tick()
            level = below - seen

    def check_tree(self, tree_id: bytes) -> set[bytes] | str:
        """Return the trees below a tree, or what is wrong with it."""
        self.check_cancelled()
        below: set[bytes] = set()
        missing = 0
        try:
            for node in iter_nodes(self.repository.load_blob(BlobType.TREE, tree_id)):
                if node.type == "file":
                    missing += sum(not self.repository.index.has(BlobType.DATA, blob) for blob in node.content or ())
                elif node.is_dir:
                    if node.subtree is None:
                        return f"its directory {node.name.decode(errors='replace')} has no content"
                    below.add(node.subtree)
        except EngineError as error:
            return str(error)
        if missing:
            return f"{missing} blobs of its files are not in the index"
        return below

    def check_data(self, readers: ThreadPoolExecutor, sizes: dict[bytes, int]) -> None:
        """Read the packs of these ids and sizes."""
        self.meter.phase = "reading packs"
        self.meter.files_done, self.meter.files_total = 0, len(sizes)
        self.meter.bytes_done, self.meter.bytes_total = 0, sum(sizes.values())
        packs = list(sizes)
        for at in range(0, len(packs), READERS):
            self.check_cancelled()
            some = packs[at : at + READERS]
            for pack_id, problems in zip(some, readers.map(self.check_pack, some), strict=True):
                for problem in problems:
                    self.problem(f"pack {pack_id.hex()}: {problem}")
                self.meter.files_done += 1
                self.meter.bytes_done += sizes[pack_id]
                self.meter.tick()
        self.report.packs_read, self.report.bytes_read = self.meter.files_done, self.meter.bytes_done

    def check_pack(self, pack_id: bytes) -> list[str]:
        """Return what is wrong with a pack; a pack is in memory as a whole."""
        try:
            content = self.repository.store.get(FileKind.DATA, pack_id.hex())
            if hashlib.sha256(content).digest() != pack_id:
                return ["its content is not what its name says"]
            length = sealed_header_length(content[-LENGTH_SIZE:], len(content))
            header = decode_header(content[-LENGTH_SIZE - length : -LENGTH_SIZE], self.repository.key, len(content))
        except (DataDamaged, StoreError) as error:
            return [str(error)]
        problems = []
        if not self.indexed[pack_id] <= set(header):
            problems.append("its header disagrees with the index")
        view = memoryview(content)
        for blob in header:
            try:
                self.repository.open_blob(blob.id, view[blob.offset : blob.offset + blob.length], blob.uncompressed_length)
            except DataDamaged as error:
                problems.append(str(error))
        return problems

    def problem(self, sentence: str) -> None:
        self.report.problems.append(sentence)
        self.meter.errors += 1

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled
