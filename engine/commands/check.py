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

from engine.blob import BlobType
from engine.copies import Copies
from engine.errors import Cancelled, DataDamaged, EngineError
from engine.index import decode_index
from engine.keys import KeyFile
from engine.packcheck import pack_problems
from engine.progress import Progress, ProgressMeter
from engine.readahead import map_ahead
from engine.repository import Repository
from engine.snapshot import load_snapshot
from engine.store import FileKind
from engine.subset import Subset
from engine.treereader import is_large, read_nodes

READERS = 4
TREES_AHEAD = 64
# Nobody reads more, and they would fill the memory.
PROBLEMS_LIMIT = 10_000


@dataclass(slots=True)
class CheckReport:
    """What a check found. `problems`: sentences, none if the repository is sound; `notes`: what is odd but harmless.

    `damaged_packs`: how many of the problems are those of a pack that was read, by its id.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packs: int = 0
    blobs: int = 0
    snapshots: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    damaged_packs: dict[bytes, int] = field(default_factory=dict)


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
        self.copies = Copies()
        # A byte for each blob: 1 for a tree that was met.
        self.seen = bytearray()
        self.more_problems = 0
        # Beside each other they would take too much memory.
        self.one_large_tree = threading.Lock()

    def run(self, choose: Subset | None) -> CheckReport:
        # First, since the index that is read afterwards has all that these need; of a backup that ends now it has less.
        names = [name for name, _ in self.repository.store.list(FileKind.SNAPSHOTS)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="check") as readers:
            self.check_keys()
            self.read_index()
            sizes = self.check_packs()
            self.check_snapshots(readers, names)
            if choose is not None:
                numbers = {pack_id: number for number, pack_id in enumerate(self.copies.packs) if pack_id in sizes}
                chosen = choose({pack_id: sizes[pack_id] for pack_id in numbers})
                self.check_data(readers, {numbers[pack_id]: sizes[pack_id] for pack_id in chosen})
        self.report.packs, self.report.blobs = len(self.copies.packs), len(self.repository.index)
        if self.more_problems:
            self.report.problems.append(f"and {self.more_problems} more problems")
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
        index = self.repository.index
        for name, _ in self.repository.store.list(FileKind.INDEX):
            self.check_cancelled()
            try:
                for pack in decode_index(self.repository.load_file(FileKind.INDEX, name)):
                    index.add_pack(pack)
                    numbers = (index.number(blob.type, blob.id) for blob in pack.blobs)
                    self.copies.add_pack(pack, [number for number in numbers if number is not None])
            except EngineError as error:
                self.problem(f"index file {name}: {error}")

    def check_packs(self) -> dict[bytes, int]:
        """Compare the packs that the index names with those that are there; return the sizes of these."""
        self.meter.phase = "listing packs"
        stored = self.repository.stored_packs(lambda name: self.report.notes.append(f"{name} among the packs is no pack"))
        for pack_id, needed in zip(self.copies.packs, self.copies.sizes, strict=True):
            if pack_id not in stored:
                self.problem(f"pack {pack_id.hex()} is missing")
            elif stored[pack_id] != needed:
                self.problem(f"pack {pack_id.hex()} has {stored[pack_id]} bytes where the index needs {needed}")
        unknown = sum(pack_id not in self.copies for pack_id in stored)
        if unknown:
            self.report.notes.append(f"{unknown} packs are in no index: left by a run that was cut off")
        return stored

    def check_snapshots(self, readers: ThreadPoolExecutor, names: Iterable[str]) -> None:
        self.meter.phase = "walking snapshots"
        roots: set[bytes] = set()
        for name in names:
            self.report.snapshots += 1
            try:
                roots.add(load_snapshot(self.repository, name).tree)
            except EngineError as error:
                self.problem(f"snapshot {name}: {error}")
        index = self.repository.index
        self.seen = bytearray(len(index))
        level = list(roots)
        while level:
            below: list[bytes] = []
            for tree_id, (subtrees, problem) in zip(level, map_ahead(readers, self.check_tree, level, TREES_AHEAD), strict=True):
                if problem:
                    self.problem(f"tree {tree_id.hex()}: {problem}")
                for subtree in subtrees:
                    number = index.number(BlobType.TREE, subtree)
                    if number is not None and not self.seen[number]:
                        self.seen[number] = 1
                        below.append(subtree)
                self.meter.files_done += 1
                self.meter.tick()
            level = below

    def check_tree(self, tree_id: bytes) -> tuple[list[bytes], str]:
        """Return the trees below a tree that were not seen yet, and what is wrong with it."""
        self.check_cancelled()
        if is_large(self.repository, tree_id):
            with self.one_large_tree:
                return self.check_entries(tree_id)
        return self.check_entries(tree_id)

    def check_entries(self, tree_id: bytes) -> tuple[list[bytes], str]:
        index = self.repository.index
        below: dict[int, bytes] = {}
        blobs = directories = 0
        try:
            for node in read_nodes(self.repository, tree_id):
                if node.type == "file":
                    blobs += sum(not index.has(BlobType.DATA, blob) for blob in node.content or ())
                elif node.is_dir:
                    if node.subtree is None:
                        return [], f"its directory {node.name.decode(errors='replace')} has no content"
                    number = index.number(BlobType.TREE, node.subtree)
                    if number is None:
                        directories += 1
                    elif not self.seen[number]:
                        below[number] = node.subtree
        except EngineError as error:
            return [], str(error)
        counts = {f"{blobs} blobs of its files": blobs, f"the trees of {directories} of its directories": directories}
        missing = " and ".join(what for what, count in counts.items() if count)
        return list(below.values()), f"{missing} are not in the index" if missing else ""

    def check_data(self, readers: ThreadPoolExecutor, chosen: dict[int, int]) -> None:
        """Read the packs of these numbers and sizes."""
        self.meter.phase = "reading packs"
        self.meter.files_done, self.meter.files_total = 0, len(chosen)
        self.meter.bytes_done, self.meter.bytes_total = 0, sum(chosen.values())

        def check(number: int) -> list[str]:
            self.check_cancelled()
            return pack_problems(self.repository, self.copies, number, chosen[number])

        for number, problems in zip(chosen, map_ahead(readers, check, chosen, 2 * READERS), strict=True):
            if problems:
                self.report.damaged_packs[self.copies.packs[number]] = len(problems)
            for problem in problems:
                self.problem(f"pack {self.copies.packs[number].hex()}: {problem}")
            self.meter.files_done += 1
            self.meter.bytes_done += chosen[number]
            self.meter.tick()
        self.report.packs_read, self.report.bytes_read = self.meter.files_done, self.meter.bytes_done

    def problem(self, sentence: str) -> None:
        if len(self.report.problems) < PROBLEMS_LIMIT:
            self.report.problems.append(sentence)
        else:
            self.more_problems += 1
        self.meter.errors += 1

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled
