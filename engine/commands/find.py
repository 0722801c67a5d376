"""Find entries of snapshots by patterns, or what snapshots name by ids of blobs, trees and packs.

All snapshots are searched in one go: a tree that brought nothing is remembered and not walked again, at the same path where
patterns are asked, at any where ids are. The rules for patterns, and what is found, are those of restic's `find`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Generic, TypeVar

from engine.blob import ID_SIZE, BlobType
from engine.errors import UNREADABLE, DataDamaged, EngineError
from engine.filter import compile_patterns
from engine.node import Node
from engine.pack import iter_header
from engine.repository import Repository
from engine.snapshot import Snapshot
from engine.tree import RawNode, named_id
from engine.treereader import decode, read_raw_nodes
from engine.walking import Opened, OpenTrees, WalkGuard

OnError = Callable[[bytes, str], None]
_Found = TypeVar("_Found")
# What is remembered of where nothing was found, a hundred bytes each.
BARREN_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that matches a pattern. `path`: absolute inside the snapshot."""

    snapshot: Snapshot
    path: bytes
    node: Node


@dataclass(frozen=True, slots=True)
class FoundObject:
    """Where a snapshot names an object: the file at `path` a blob, or the directory at `path` its tree.

    `kind`: `blob` or `tree`; `id` and `parent_tree` (of a blob: the tree with the file's entry) are hexadecimal.
    """

    snapshot: Snapshot
    kind: str
    id: str
    path: bytes
    parent_tree: str = ""


def find(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    patterns: Iterable[str],
    *,
    ignore_case: bool = False,
    oldest: datetime | None = None,
    newest: datetime | None = None,
    on_error: OnError,
) -> Iterator[Match]:
    """Yield what matches one of the patterns and was modified between the two times, snapshot by snapshot.

    What a matching directory holds matches too. The index must have been read. A directory that cannot be read is told to
    `on_error` (path, reason), once for all snapshots. Raises InvalidPattern, StoreError's family.
    """
    # An empty pattern matches everything; and nothing can be taken back, so that `!` is a letter like others.
    wanted = [f"\\{text}" if text.startswith("!") else text or "*" for text in patterns]
    chosen = compile_patterns(text.lower() for text in wanted) if ignore_case else compile_patterns(wanted)
    since, until = (None if moment is None else round(moment.timestamp()) * 1_000_000_000 for moment in (oldest, newest))

    def look(_parent: bytes, path: bytes, raw: RawNode) -> tuple[list[tuple[bytes, Node]], bool]:
        asked = _lower(path) if ignore_case else path
        goes_below = raw.subtree is not None and chosen.may_match_below(asked)
        if not chosen.matches(asked):
            return [], goes_below
        node = decode(raw)
        is_in_time = (since is None or node.mtime_ns >= since) and (until is None or node.mtime_ns <= until)
        return [(path, node)] if is_in_time else [], goes_below

    walk = _Walk(repository, look, on_error, is_of_path=True)
    for snapshot in snapshots:
        for path, node in walk.below(snapshot.tree):
            yield Match(snapshot, path, node)


def find_objects(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    *,
    blobs: Iterable[str] = (),
    trees: Iterable[str] = (),
    on_error: OnError,
) -> Iterator[FoundObject]:
    """Yield each place where a snapshot names one of these data blobs or trees; ids may be shortened.

    The index must have been read, and need not know them. For `on_error` see `find`. Raises EngineError for what is no id.
    """
    is_wanted_blob, is_wanted_tree = _one_of(blobs), _one_of(trees)

    def named(parent: bytes, path: bytes, raw: RawNode) -> Iterator[tuple[str, str, bytes, str]]:
        for blob in raw.content or ():
            if is_wanted_blob(blob):
                yield "blob", blob, path, parent.hex()
        if raw.subtree is not None and is_wanted_tree(raw.subtree):
            yield "tree", raw.subtree, path, ""

    def look(parent: bytes, path: bytes, raw: RawNode) -> tuple[Iterator[tuple[str, str, bytes, str]], bool]:
        return named(parent, path, raw), raw.subtree is not None

    walk = _Walk(repository, look, on_error, is_of_path=False)
    for snapshot in snapshots:
        if is_wanted_tree(snapshot.tree.hex()):
            yield FoundObject(snapshot, "tree", snapshot.tree.hex(), b"/")
        for kind, object_id, path, parent in walk.below(snapshot.tree):
            yield FoundObject(snapshot, kind, object_id, path, parent)


def pack_contents(repository: Repository, packs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the ids of the data blobs and of the trees in packs, whose ids may be shortened. The index must have been read.

    Of a pack that is missing or damaged these are what the index says. Raises EngineError for what is no pack.
    """
    data: list[str] = []
    trees: list[str] = []
    stored = repository.stored_packs()
    known = stored.keys() | set(repository.index.packs())
    for text in packs:
        is_wanted = _one_of([text])
        fitting = [pack_id for pack_id in known if is_wanted(pack_id.hex())]
        if not fitting:
            raise EngineError(f"there is no pack {text!r}")
        if len(fitting) > 1:
            raise EngineError(f"the pack id {text!r} is ambiguous: it begins {len(fitting)} ids")
        for blob_type, blob_id in _blobs_of_pack(repository, fitting[0], stored.get(fitting[0], 0)):
            (trees if blob_type is BlobType.TREE else data).append(blob_id.hex())
    return data, trees


def _blobs_of_pack(repository: Repository, pack_id: bytes, size: int) -> list[tuple[BlobType, bytes]]:
    try:
        return [(blob.type, blob.id) for blob in iter_header(repository.load_pack_header(pack_id, size), size)]
    except UNREADABLE:
        indexed = ((of_type, blob, location) for of_type in BlobType for blob, location in repository.index.blobs(of_type))
        found = [(of_type, blob) for of_type, blob, location in indexed if location.pack_id == pack_id]
        if not found:
            raise
        return found


@dataclass(slots=True)
class _Open:
    """A tree that is being walked; `path` ends in `/`. It is barren until something is found in it or below."""

    tree: bytes
    path: bytes
    entries: Opened[RawNode]
    is_barren: bool = True
    leads_on: bool = False


class _Walk(Generic[_Found]):
    """Walks trees, each entry before what is below it.

    `look` is given a tree, the path of an entry in it and the entry, and returns what it finds and whether to look below.
    """

    def __init__(
        self,
        repository: Repository,
        look: Callable[[bytes, bytes, RawNode], tuple[Iterable[_Found], bool]],
        on_error: OnError,
        *,
        is_of_path: bool,
    ) -> None:
        self._repository, self._look, self._on_error = repository, look, on_error
        self._is_of_path = is_of_path
        self._barren: set[bytes] = set()

    def below(self, root: bytes) -> Iterator[_Found]:
        """Yield what is found in a tree and below it."""
        guard = WalkGuard(self._repository.index)
        trees = OpenTrees(self._repository, guard)
        opened: list[_Open] = []
        self._open(trees, root, b"/", opened)
        while opened:
            here = opened[-1]
            try:
                raw = here.entries.next()
                if raw is None:
                    opened.pop()
                    guard.count(here.tree, here.entries.taken, leads_on=here.leads_on)
            except DataDamaged as error:
                # There would be no end to it.
                self._on_error(here.path, str(error))
                return
            if raw is None:
                if here.is_barren:
                    self._note_barren(here)
                elif opened:
                    opened[-1].is_barren = False
                continue
            path = here.path + raw.name
            try:
                found, goes_below = self._look(here.tree, path, raw)
                for one in found:
                    here.is_barren = False
                    yield one
                if goes_below and raw.subtree is not None:
                    here.leads_on = True
                    guard.require_path(len(opened), len(path))
                    self._open(trees, named_id(raw.subtree), path + b"/", opened)
            except UNREADABLE as error:
                self._on_error(path, str(error))

    def _open(self, trees: OpenTrees, tree: bytes, path: bytes, opened: list[_Open]) -> None:
        if self._place(tree, path) not in self._barren:
            opened.append(_Open(tree, path, trees.open(partial(self._entries, tree, path), tree)))

    def _entries(self, tree: bytes, path: bytes) -> Iterator[RawNode]:
        try:
            yield from read_raw_nodes(self._repository, tree)
        except UNREADABLE as error:
            self._on_error(path, str(error))

    def _note_barren(self, here: _Open) -> None:
        if len(self._barren) < BARREN_LIMIT:
            self._barren.add(self._place(here.tree, here.path))

    def _place(self, tree: bytes, path: bytes) -> bytes:
        # A hash, since paths may be long, and millions of them are remembered.
        return blake2b(tree + path, digest_size=ID_SIZE).digest() if self._is_of_path else tree


def _lower(path: bytes) -> bytes:
    return path.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


def _one_of(ids: Iterable[str]) -> Callable[[str], bool]:
    """Return the question whether an id is, or begins with, one of these. Raises EngineError for what is no id."""
    wanted = {text.lower() for text in ids}
    for text in wanted:
        if not 1 <= len(text) <= 64 or not set(text) <= set("0123456789abcdef"):
            raise EngineError(f"{text!r} is no id: hexadecimal digits are needed")
    beginnings = tuple(text for text in wanted if len(text) < 64)
    return lambda object_id: object_id in wanted or object_id.startswith(beginnings)

