"""Compare two snapshots: which entries were added, removed or changed, and how much content only one of the two has.

Changes are found by reading the directories whose trees differ, both sides at once, and are told as they are found. What only
one snapshot has is what its changed entries name, less what unchanged ones name too: these are read afterwards, each tree
once. So memory holds the ids of what differs and of the trees that were read, beside the directories that are open.
The letters and the counts are those of restic's `diff`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.blob import BlobType, parse_id
from engine.errors import UNREADABLE, DataDamaged
from engine.node import Node
from engine.repository import Repository
from engine.tree import RawNode, iter_raw_nodes


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
        self.text, self.node = raw.text, Node.from_json(raw.text)

    @property
    def metadata(self) -> tuple[object, ...]:
        """All but the content, in a form that can be compared."""
        node = msgspec.structs.replace(self.node, content=None, xattrs=tuple(sorted(self.node.xattrs)))
        return node, node.device_id, msgspec.json.decode(self.text, type=_NotInNode)


class _NotInNode(msgspec.Struct):
    """Fields of entries that `engine.node` has no use for: those of Windows, and what could not be read."""

    generic_attributes: Any = None
    error: Any = ""


class _Blobs:
    """Ids of blobs that entries of one side name."""

    def __init__(self) -> None:
        self.data: set[bytes] = set()
        self.trees: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self.data or self.trees)

    def add(self, node: Node) -> None:
        if node.type == "file":
            self.data.update(node.content or ())
        elif node.is_dir and node.subtree is not None:
            self.trees.add(node.subtree)


# The path of a name, and its entry on either side, None where it has none.
_Pair = tuple[bytes, RawNode | None, RawNode | None]


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
        self.before, self.after = _Blobs(), _Blobs()
        self.compared: list[tuple[bytes, bytes, bytes]] = []

    def run(self, before: bytes, after: bytes) -> DiffStatistics:
        if before != after:
            self.before.trees.add(before)
            self.after.trees.add(after)
            self.find_changes(before, after)
            self.discard_shared()
            self.count_blobs(self.before, self.statistics.removed)
            self.count_blobs(self.after, self.statistics.added)
        return self.statistics

    def find_changes(self, before: bytes, after: bytes) -> None:
        """Go through the directories that differ, each before what is in it."""
        opened = [self.pairs(b"/", before, after)]
        while opened:
            pair = next(opened[-1], None)
            if pair is None:
                opened.pop()
                continue
            path, old, new = pair
            if old == new:
                continue
            try:
                below = self.look(path, _Entry(old) if old else None, _Entry(new) if new else None)
            except UNREADABLE as error:
                self.report(path, str(error))
                continue
            if below is not None:
                opened.append(below)

    def pairs(self, folder: bytes, before: bytes | None, after: bytes | None) -> Iterator[_Pair]:
        """Yield the entries of a directory, which may be there on one side only, by name."""
        try:
            old, new = self.read(before), self.read(after)
        except UNREADABLE as error:
            self.report(folder, str(error))
            return
        if before is not None and after is not None:
            self.compared.append((folder, before, after))
        for name in sorted(old.keys() | new.keys()):
            yield folder + name, old.get(name), new.get(name)

    def read(self, tree: bytes | None) -> dict[bytes, RawNode]:
        """Return a directory's entries by name, since trees of other writers may be in another order."""
        if tree is None:
            return {}
        return {raw.name: raw for raw in iter_raw_nodes(self.repository.load_blob(BlobType.TREE, tree))}

    def look(self, path: bytes, old: _Entry | None, new: _Entry | None) -> Iterator[_Pair] | None:
        """Tell what became of an entry; return what is to be compared below it."""
        modifier = ""
        if old is not None:
            self.before.add(old.node)
        if new is not None:
            self.after.add(new.node)
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
        if sides[-1].is_dir:
            path += b"/"
        if modifier and self.on_change is not None:
            self.on_change(Change(path, modifier))
        if not all(node.is_dir for node in sides):
            return None
        if any(node.subtree is None for node in sides):
            raise DataDamaged("the directory has no content")
        before, after = (None if entry is None else entry.node.subtree for entry in (old, new))
        return self.pairs(path, before, after) if before != after else None

    def discard_shared(self) -> None:
        """Take out of what only one side seems to have all that entries of both sides name, and what is below these."""
        before, after = self.before, self.after
        before.data, after.data = before.data - after.data, after.data - before.data
        before.trees, after.trees = before.trees - after.trees, after.trees - before.trees
        pending: list[tuple[bytes, str]] = []
        for folder, old_tree, new_tree in self.compared:
            old, new = self.read(old_tree), self.read(new_tree)
            same = (old[name] for name in old.keys() & new.keys() if _named(old[name]) == _named(new[name]))
            self.discard_named(folder, same, pending)
        seen: set[str] = set()
        while pending and (before or after):
            folder, subtree = pending.pop()
            if subtree in seen:
                continue
            seen.add(subtree)
            try:
                tree = _blob_id(subtree)
                self.discard((), (tree,))
                self.discard_named(folder, iter_raw_nodes(self.repository.load_blob(BlobType.TREE, tree)), pending)
            except UNREADABLE as error:
                self.report(folder, str(error))

    def discard_named(self, folder: bytes, entries: Iterable[RawNode], pending: list[tuple[bytes, str]]) -> None:
        """Take out the blobs of files, and put off the directories."""
        for raw in entries:
            if raw.content:
                self.discard(list(map(_blob_id, raw.content)), ())
            if raw.subtree is not None:
                pending.append((folder + raw.name + b"/", raw.subtree))

    def discard(self, data: Collection[bytes], trees: Collection[bytes]) -> None:
        for blobs in (self.before, self.after):
            blobs.data.difference_update(data)
            blobs.trees.difference_update(trees)

    def count_blobs(self, blobs: _Blobs, difference: Difference) -> None:
        difference.data_blobs, difference.tree_blobs = len(blobs.data), len(blobs.trees)
        for blob_type, ids in ((BlobType.DATA, blobs.data), (BlobType.TREE, blobs.trees)):
            for blob_id in ids:
                length = self.repository.index.plain_length(blob_type, blob_id)
                if length is None:
                    self.report(b"/", f"the {blob_type.label} blob {blob_id.hex()} is not in the index")
                difference.bytes += length or 0

    def report(self, path: bytes, reason: str) -> None:
        self.statistics.errors += 1
        if self.on_error is not None:
            self.on_error(path, reason)


def _modifier(old: _Entry, new: _Entry, metadata: bool) -> str:
    """Return what changed between two entries of one name, as Change has it; empty if nothing that is asked about."""
    modifier = "T" if old.node.type != new.node.type else ""
    if old.node.type == new.node.type == "file" and old.node.content != new.node.content:
        return "M?" if old.metadata == new.metadata else "M"
    is_same = old.metadata == new.metadata and old.node.content == new.node.content
    return modifier + ("U" if metadata and not is_same else "")


def _named(raw: RawNode) -> tuple[list[str] | None, str | None]:
    return raw.content, raw.subtree


def _blob_id(text: str) -> bytes:
    try:
        return parse_id(text)
    except ValueError as error:
        raise DataDamaged("a directory entry in the repository names no blob") from error
