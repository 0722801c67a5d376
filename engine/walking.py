"""What every walk through a snapshot needs: a bound on where it leads and how long it goes on, and on what it remembers.

Trees name trees, so that forty of them, each naming the next one twice, are a snapshot of a billion directories; a chain of them is
a path of any length; and one tree may name a million others. All of that can be written in a few kilobytes.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

from engine.blob import BlobType
from engine.bounds import TREE_BYTES
from engine.errors import DataDamaged, UnsafePath
from engine.index import Index
from engine.repository import Repository
from engine.treereader import read_nodes

# A path that a system takes at once has 4 KiB at most; one of 16 directories a kilobyte is deeper than any that is made in earnest.
DEPTH_LIMIT = 2000
PATH_LIMIT = 32 << 10
# The same directory, with all its metadata, is met often where a file server shows its own snapshots as directories.
VISITS_LIMIT = 10_000
REPEATED_LIMIT = 100_000_000
NESTED_TOO_DEEPLY = "the directories are nested too deeply"
NESTED_TOO_OFTEN = "the same directories are nested in the snapshot over and over again"

# What the directories that are still to be visited may take, and what is open of trees on the way to where a walk is.
NOTED_BYTES = 64 << 20
NOTED_AT_LEAST = 32 << 10
OPEN_BYTES = 128 << 20
NAMES_LIMIT = 100_000
# What an entry takes in memory beside its name, and how many times its size a tree takes that is looked through.
_NOTE_SIZE = 200
_TREE_GROWTH = 8
# What the text of an entry takes at least.
_ENTRY_SIZE = 100

Item = TypeVar("Item")


class WalkGuard:
    """Counts where a walk has been. Both questions raise DataDamaged for what no honest snapshot leads to."""

    def __init__(self, index: Index) -> None:
        self._index = index
        # An array, since millions of directories are honest.
        self._visits = array("H")
        self._repeated = 0

    def require_path(self, depth: int, length: int) -> None:
        """Ask before going into a directory of that depth, with a path of that length in bytes."""
        if depth > DEPTH_LIMIT or length > PATH_LIMIT:
            raise DataDamaged(NESTED_TOO_DEEPLY)

    def read_again(self, tree_id: bytes) -> None:
        """Say that a tree is read again because not all of it could be remembered. Raises DataDamaged."""
        self._repeated += (self._index.plain_length(BlobType.TREE, tree_id) or 0) // _ENTRY_SIZE
        if self._repeated > REPEATED_LIMIT:
            raise DataDamaged(NESTED_TOO_OFTEN)

    def count(self, tree_id: bytes, entries: int, *, leads_on: bool) -> None:
        """Ask when a tree has been looked through, which has so many entries, and `leads_on` to others if it has directories."""
        number = self._index.number(BlobType.TREE, tree_id) or 0
        if number >= len(self._visits):
            self._visits.extend([0] * (len(self._index) - len(self._visits)))
        visits = self._visits[number]
        if visits:
            self._repeated += entries
        if (leads_on and visits >= VISITS_LIMIT) or self._repeated > REPEATED_LIMIT:
            raise DataDamaged(NESTED_TOO_OFTEN)
        # What leads nowhere is bounded by what leads to it.
        self._visits[number] = min(visits + 1, VISITS_LIMIT)


class UniqueNames:
    """Sees to it that no name stands twice in a directory: a link, and then a directory of its name, lead those astray who follow.

    Programs write names in their order. Of names in another one it remembers so many.
    """

    def __init__(self) -> None:
        self._names: set[bytes] = set()
        self._greatest = b""

    def require_new(self, name: bytes) -> None:
        """Raise UnsafePath for a name that was there before, or may have been."""
        if name > self._greatest:
            self._greatest = name
        elif name in self._names or len(self._names) >= NAMES_LIMIT:
            raise UnsafePath("the name stands twice in its directory")
        if len(self._names) < NAMES_LIMIT:
            self._names.add(name)


@dataclass(slots=True)
class _Stop:
    """A directory that was looked through, and what is below it: `noted` is what of this is remembered, in order.

    `seen`: how many directories it has, as far as they were looked at; `cut_at`: the first that is not remembered.
    """

    path: bytes
    tree: bytes
    depth: int
    room: int
    noted: deque[tuple[bytes, bytes]] = field(default_factory=deque)
    seen: int = 0
    cut_at: int | None = None


class Itinerary:
    """Which directory of a walk comes next: the first one below the one that was visited last, if there is one.

    Of a directory with very many below it some are remembered, and its tree is read again for others.
    """

    def __init__(self, repository: Repository, path: bytes, tree: bytes) -> None:
        self._repository = repository
        self._guard = WalkGuard(repository.index)
        self._stops: list[_Stop] = []
        self._first: tuple[bytes, bytes] | None = (path, tree)
        self._size = 0

    def next(self) -> tuple[bytes, bytes] | None:
        """Return path and tree of the directory to visit now, None if there is no other.

        Raises DataDamaged for one that is left out; whoever asks again is told the one after it.
        """
        if self._first is not None:
            path, tree = self._first
            self._first = None
            self._stop_at(path, tree, 0)
            return path, tree
        while self._stops:
            stop = self._stops[-1]
            if not stop.noted and stop.cut_at is not None:
                self._look_again(stop)
            if not stop.noted:
                self._stops.pop()
                continue
            name, tree = stop.noted.popleft()
            self._size -= len(name) + _NOTE_SIZE
            path = stop.path + b"/" + name
            self._guard.require_path(stop.depth + 1, len(path))
            self._stop_at(path, tree, stop.depth + 1)
            return path, tree
        return None

    def note(self, name: bytes, tree: bytes) -> None:
        """Learn of a directory in the one that is visited. Raises DataDamaged for one that is too deep, which is left out."""
        self._note(self._stops[-1], name, tree)

    def visited(self, entries: int) -> None:
        """Say that all of the directory that is visited was looked at: it has so many entries. Raises DataDamaged."""
        stop = self._stops[-1]
        self._guard.count(stop.tree, entries, leads_on=stop.seen > 0)

    def abandon(self) -> None:
        """Leave out what is below the directory that is visited."""
        stop = self._stops.pop()
        self._size -= sum(len(name) + _NOTE_SIZE for name, _ in stop.noted)

    def _stop_at(self, path: bytes, tree: bytes, depth: int) -> None:
        # Half of what is left, so that something is left for those further down.
        room = max(NOTED_AT_LEAST, (NOTED_BYTES - self._size) // 2)
        self._stops.append(_Stop(path, tree, depth, room))

    def _note(self, stop: _Stop, name: bytes, tree: bytes) -> None:
        stop.seen += 1
        size = len(name) + _NOTE_SIZE
        if stop.cut_at is None and stop.room < size and stop.noted:
            stop.cut_at = stop.seen - 1
        if stop.cut_at is None:
            self._guard.require_path(stop.depth + 1, len(stop.path) + len(name))
            stop.noted.append((name, tree))
            stop.room -= size
            self._size += size

    def _look_again(self, stop: _Stop) -> None:
        first, stop.cut_at, stop.seen = stop.cut_at or 0, None, stop.cut_at or 0
        self._guard.read_again(stop.tree)
        stop.room = max(NOTED_AT_LEAST, (NOTED_BYTES - self._size) // 2)
        directories = (
            (node.name, node.subtree)
            for node in read_nodes(self._repository, stop.tree)
            if node.is_dir and node.subtree is not None
        )
        for name, tree in islice(directories, first, None):
            self._note(stop, name, tree)
            if stop.cut_at is not None:
                break


class OpenTrees:
    """The trees on the way to where a walk is, which it is looking through. If they are too many, the outermost are closed."""

    def __init__(self, repository: Repository, guard: WalkGuard) -> None:
        self._repository, self._guard = repository, guard
        self._open: OrderedDict[Opened[Any], None] = OrderedDict()
        self._size = 0

    def open(self, begin: Callable[[], Iterator[Item]], *trees: bytes) -> "Opened[Item]":
        """Return what `begin` yields, which it makes of these trees; it is called again when something of it was closed."""
        return Opened(self, begin, trees)

    def admit(self, opened: "Opened[Any]") -> None:
        if opened.taken:
            for tree in opened.trees:
                self._guard.read_again(tree)
        self._open[opened] = None
        self._size += self._weigh(opened)
        while self._size > OPEN_BYTES and len(self._open) > 1:
            oldest, _ = self._open.popitem(last=False)
            self._size -= self._weigh(oldest)
            oldest.suspend()

    def dismiss(self, opened: "Opened[Any]") -> None:
        if opened in self._open:
            del self._open[opened]
            self._size -= self._weigh(opened)

    def _weigh(self, opened: "Opened[Any]") -> int:
        lengths = (self._repository.index.plain_length(BlobType.TREE, tree) or 0 for tree in opened.trees)
        return sum(min(length, TREE_BYTES) * _TREE_GROWTH for length in lengths)


class Opened(Generic[Item]):
    """An iterator over trees that can be closed in the middle, and then goes on where it was."""

    def __init__(self, open_trees: OpenTrees, begin: Callable[[], Iterator[Item]], trees: tuple[bytes, ...]) -> None:
        self._open_trees, self._begin, self.trees = open_trees, begin, trees
        self._items: Iterator[Item] | None = None
        self.taken = 0

    def next(self) -> Item | None:
        """Return the next item, None if there is no other. Raises DataDamaged if it was opened again too often."""
        if self._items is None:
            self._open_trees.admit(self)
            self._items = islice(self._begin(), self.taken, None)
        item = next(self._items, None)
        if item is None:
            self._open_trees.dismiss(self)
            self._items = iter(())
        else:
            self.taken += 1
        return item

    def suspend(self) -> None:
        self._items = None
