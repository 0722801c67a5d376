"""Compare two snapshots: which entries were added, removed or changed, and how much content only one of the two has.

Changes are found by reading the directories whose trees differ, both sides at once, and are told as they are found. What only
one snapshot has is what its changed entries name, less what unchanged ones name too: these are read afterwards, each tree
once. So memory holds a byte for each blob of the index and which directories differ, beside those that are open.
The letters and the counts are those of restic's `diff`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from engine.blob import BlobType
from engine.blobsides import AFTER, BEFORE, BlobSides
from engine.errors import UNREADABLE, DataDamaged
from engine.node import Node
from engine.repository import Repository
from engine.tree import RawNode, named_id
from engine.treereader import decode, is_large, read_raw_nodes
from engine.walking import Opened, OpenTrees, WalkGuard


@dataclass(frozen=True, slots=True)
class Change:
    """A difference. `path`: absolute in what is compared, that of a directory ends in `/`.

    `modifier`: `+` added, `-` removed, `T` another type, `M` other content, `M?` other content although nothing else changed
    (damage, most likely), `U` other metadata; `TU` for another type where metadata is compared.
    """

    path: bytes
    modifier: str


@dataclass(slots=True)
class Difference:
    """What one snapshot has and the other has not. `bytes`: of its blobs, before compression."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0

    def count(self, node: Node) -> None:
        self.files += node.type == "file"
        self.dirs += node.is_dir
        self.others += node.type not in ("file", "dir")


@dataclass(slots=True)
class DiffStatistics:
    """What a comparison counted. `changed_files`: those with other content; `errors`: what could not be compared."""

    changed_files: int = 0
    added: Difference = field(default_factory=Difference)
    removed: Difference = field(default_factory=Difference)
    errors: int = 0


def diff(
    repository: Repository,
    before: bytes,
    after: bytes,
    *,
    metadata: bool = False,
    on_change: Callable[[Change], None] | None = None,
    on_error: Callable[[bytes, str], None] | None = None,
) -> DiffStatistics:
    """Compare two trees, given by their ids; `commands.ls.open_directory` finds those of snapshots.

    An entry that became of another type is one change: what was below it is not told. What cannot be read is told to `on_error`
    (path, reason), and the rest is compared.
    """
    return _Diff(repository, metadata, on_change, on_error).run(before, after)


class _Entry:
    """An entry of a directory, decoded."""

    def __init__(self, raw: RawNode) -> None:
        self.text, self.node = raw.text, decode(raw)

    @property
    def metadata(self) -> tuple[object, ...]:
        """All but the content, in a form that can be compared."""
        node = msgspec.structs.replace(self.node, content=None, xattrs=tuple(sorted(self.node.xattrs)))
        return node, node.device_id, msgspec.json.decode(self.text, type=_NotInNode)


class _NotInNode(msgspec.Struct):
    """Fields of entries that `engine.node` has no use for: those of Windows, and what could not be read."""

    generic_attributes: Any = None
    error: Any = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Folder:
    """A directory by its name in the one above it: of very many, whole paths would take too much memory."""

    above: "_Folder | None" = None
    name: bytes = b""

    @property
    def path(self) -> bytes:
        """The path, with `/` at its end."""
        names: list[bytes] = []
        folder: _Folder | None = self
        while folder is not None:
            names.append(folder.name)
            folder = folder.above
        return b"/".join(reversed(names)) + b"/"


# A name, and its entry on either side, None where it has none.
_Pair = tuple[bytes, RawNode | None, RawNode | None]


@dataclass(slots=True)
class _Compared:
    """Two directories that are being compared, either of which may not be there. `leads_on`: to others below."""

    folder: _Folder
    before: bytes | None
    after: bytes | None
    pairs: Opened[_Pair]
    leads_on: bool = False


class _Diff:
    def __init__(
        self,
        repository: Repository,
        metadata: bool,
        on_change: Callable[[Change], None] | None,
        on_error: Callable[[bytes, str], None] | None,
    ) -> None:
        self.repository, self.metadata = repository, metadata
        self.on_change, self.on_error = on_change, on_error
        self.statistics = DiffStatistics()
        self.blobs = BlobSides(repository.index)
        self.guards = WalkGuard(repository.index), WalkGuard(repository.index)
        self.open_trees = OpenTrees(repository, self.guards[0])
        # Each pair once, at the first place where it stands.
        self.compared: dict[tuple[bytes, bytes], _Folder] = {}

    def run(self, before: bytes, after: bytes) -> DiffStatistics:
        if before != after:
            self.blobs.add(BEFORE, BlobType.TREE, (before,))
            self.blobs.add(AFTER, BlobType.TREE, (after,))
            self.find_changes(before, after)
            self.blobs.discard_common()
            self.discard_shared()
            for side, difference in ((BEFORE, self.statistics.removed), (AFTER, self.statistics.added)):
                self.count(side, difference)
            for blob_type, blob_id in self.blobs.unknown:
                self.report(b"/", f"the {blob_type.label} blob {blob_id.hex()} is not in the index")
            if self.blobs.more_unknown:
                self.report(b"/", f"blobs that are not in the index are named {self.blobs.more_unknown} times more")
        return self.statistics

    def find_changes(self, before: bytes, after: bytes) -> None:
        """Go through the directories that differ, each before what is in it."""
        opened = [self.opened(_Folder(), before, after)]
        while opened:
            here = opened[-1]
            try:
                pair = here.pairs.next()
                if pair is None:
                    opened.pop()
                    for guard, tree in zip(self.guards, (here.before, here.after), strict=True):
                        if tree is not None:
                            guard.count(tree, here.pairs.taken, leads_on=here.leads_on)
            except DataDamaged as error:
                # There would be no end to it.
                self.report(here.folder.path, str(error))
                return
            if pair is None:
                continue
            if here.before is not None and here.after is not None:
                self.compared.setdefault((here.before, here.after), here.folder)
            name, old, new = pair
            if old == new:
                continue
            folder = _Folder(here.folder, name)
            try:
                below = self.look(folder, _Entry(old) if old else None, _Entry(new) if new else None)
                if below is not None:
                    here.leads_on = True
                    path = folder.path
                    self.guards[0].require_path(len(opened), len(path))
                    opened.append(self.opened(folder, *below))
            except UNREADABLE as error:
                self.report(folder.path[:-1], str(error))

    def opened(self, folder: _Folder, before: bytes | None, after: bytes | None) -> _Compared:
        trees = [tree for tree in (before, after) if tree is not None]
        return _Compared(folder, before, after, self.open_trees.open(partial(self.pairs, folder, before, after), *trees))

    def pairs(self, folder: _Folder, before: bytes | None, after: bytes | None) -> Iterator[_Pair]:
        """Yield the entries of a directory, which may be there on one side only, by name."""
        try:
            yield from _merged(self.read(before), self.read(after))
        except UNREADABLE as error:
            self.report(folder.path, str(error))

    def read(self, tree: bytes | None) -> Iterator[RawNode]:
        """Yield a directory's entries by name. Raises DataDamaged for a large one in another order."""
        if tree is None:
            return
        if not is_large(self.repository, tree):
            # Trees of other writers may be in another order.
            entries = {raw.name: raw for raw in read_raw_nodes(self.repository, tree)}
            yield from (entries[name] for name in sorted(entries))
            return
        last: bytes | None = None
        for raw in read_raw_nodes(self.repository, tree):
            if last is not None and raw.name <= last:
                raise DataDamaged("the entries of the directory are in no order")
            last = raw.name
            yield raw

    def look(self, folder: _Folder, old: _Entry | None, new: _Entry | None) -> tuple[bytes | None, bytes | None] | None:
        """Tell what became of an entry; return the trees to be compared below it."""
        modifier = ""
        for side, entry in ((BEFORE, old), (AFTER, new)):
            if entry is not None:
                self.add(side, entry.node)
        if old is not None and new is not None:
            modifier = _modifier(old, new, self.metadata)
            self.statistics.changed_files += "M" in modifier
        elif old is not None:
            modifier = "-"
            self.statistics.removed.count(old.node)
        elif new is not None:
            modifier = "+"
            self.statistics.added.count(new.node)
        sides = [entry.node for entry in (old, new) if entry is not None]
        if modifier and self.on_change is not None:
            self.on_change(Change(folder.path if sides[-1].is_dir else folder.path[:-1], modifier))
        if not all(node.is_dir for node in sides):
            return None
        if any(node.subtree is None for node in sides):
            raise DataDamaged("the directory has no content")
        before, after = (None if entry is None else entry.node.subtree for entry in (old, new))
        return (before, after) if before != after else None

    def add(self, side: int, node: Node) -> None:
        if node.type == "file":
            self.blobs.add(side, BlobType.DATA, node.content or ())
        elif node.is_dir and node.subtree is not None:
            self.blobs.add(side, BlobType.TREE, (node.subtree,))

    def discard_shared(self) -> None:
        """Take out of what only one side seems to have all that entries of both sides name, and what is below these."""
        pending: list[tuple[_Folder, bytes]] = []
        for (before, after), folder in self.compared.items():
            if not self.blobs:
                return
            same = (old for _, old, new in self.pairs(folder, before, after) if old and new and _named(old) == _named(new))
            self.discard_named(folder, same, pending)
        while pending and self.blobs:
            folder, tree = pending.pop()
            try:
                self.discard_named(folder, read_raw_nodes(self.repository, tree), pending)
            except UNREADABLE as error:
                self.report(folder.path, str(error))

    def discard_named(self, folder: _Folder, entries: Iterable[RawNode], pending: list[tuple[_Folder, bytes]]) -> None:
        """Take out the blobs of files, and put off the directories."""
        for raw in entries:
            if raw.content:
                self.blobs.discard(BlobType.DATA, map(named_id, raw.content))
            if raw.subtree is not None:
                tree = named_id(raw.subtree)
                self.blobs.discard(BlobType.TREE, (tree,))
                is_unseen = self.blobs.is_unseen(tree)
                if is_unseen:
                    pending.append((_Folder(folder, raw.name), tree))
                elif is_unseen is None:
                    self.report(_Folder(folder, raw.name).path, f"the tree blob {tree.hex()} is not in the index")

    def count(self, side: int, difference: Difference) -> None:
        for blob_type, size in self.blobs.named(side):
            difference.data_blobs += blob_type is BlobType.DATA
            difference.tree_blobs += blob_type is BlobType.TREE
            difference.bytes += size

    def report(self, path: bytes, reason: str) -> None:
        self.statistics.errors += 1
        if self.on_error is not None:
            self.on_error(path, reason)


def _merged(before: Iterator[RawNode], after: Iterator[RawNode]) -> Iterator[_Pair]:
    """Yield the entries of both, which are sorted by name."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        name = min(entry.name for entry in (old, new) if entry is not None)
        first = old if old is not None and old.name == name else None
        second = new if new is not None and new.name == name else None
        yield name, first, second
        if first is not None:
            old = next(before, None)
        if second is not None:
            new = next(after, None)


def _modifier(old: _Entry, new: _Entry, metadata: bool) -> str:
    """Return what changed between two entries of one name, as Change has it; empty if nothing that is asked about."""
    modifier = "T" if old.node.type != new.node.type else ""
    if old.node.type == new.node.type == "file" and old.node.content != new.node.content:
        return "M?" if old.metadata == new.metadata else "M"
    is_same = old.metadata == new.metadata and old.node.content == new.node.content
    return modifier + ("U" if metadata and not is_same else "")


def _named(raw: RawNode) -> tuple[list[str] | None, str | None]:
    return raw.content, raw.subtree

