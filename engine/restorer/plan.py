"""Walking a snapshot: what is to be made, in which order, and which files share one content.

Directories come before what is in them. A file's contents are planned as pieces: runs of its blobs that lie in one pack,
so that whoever writes them reads each pack once, in order.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from engine.blob import BlobType
from engine.errors import EngineError, UnsafePath
from engine.filter import PathFilter
from engine.node import Node
from engine.repository import Repository
from engine.restorer.target import DEPTH_LIMIT, Path, check_name, shown
from engine.tree import iter_nodes

# What one task may hold in memory: about a pack of content.
TASK_BYTES = 16 << 20
TASK_FILES = 256
# Trees of directories may be shared, but one that is met so often is a bomb: forty levels of two names each for one tree
# would be restored for years. Trees of files only are bounded by their number.
VISITS_LIMIT = 10_000
NESTED_TOO_OFTEN = "the same directories are nested in the snapshot over and over again"

Report = Callable[[bytes, str], None]


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Consecutive blobs of a file: `blobs` (32-byte ids) begin at `offset` bytes. A whole file is one piece from 0."""

    path: Path
    node: Node
    offset: int
    size: int
    blobs: tuple[bytes, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a snapshot is wanted: absolute paths inside it, and what patterns match; all of it if there are neither."""

    include: tuple[Path, ...] = ()
    exclude: PathFilter | None = None
    patterns: PathFilter | None = None

    def takes(self, path: Path) -> bool:
        """Whether the entry itself is restored."""
        if not self.include and self.patterns is None:
            return True
        if any(path[: len(wanted)] == wanted for wanted in self.include):
            return True
        return self.patterns is not None and self.patterns.matches(shown(path))

    def leads_to(self, path: Path) -> bool:
        """Whether something below the directory, which is not taken itself, may be restored."""
        if any(wanted[: len(path)] == path for wanted in self.include):
            return True
        return self.patterns is not None and self.patterns.may_match_below(shown(path))

    def leaves_out(self, path: Path) -> bool:
        return self.exclude is not None and self.exclude.matches(shown(path))


def walk(repository: Repository, tree: bytes, selection: Selection, report: Report) -> Iterator[tuple[Path, Node]]:
    """Yield what is to be restored of a tree, and the directories that lead to it, directories before their entries.

    What cannot be read or must not be made is told to `report` (path, reason) and left out.
    """
    pending: list[tuple[Path, bytes]] = [((), tree)]
    visits: Counter[bytes] = Counter()
    leading: dict[Path, Node] = {}
    while pending:
        parent, tree_id = pending.pop()
        try:
            content = repository.load_blob(BlobType.TREE, tree_id)
            nodes = list(iter_nodes(content))
        except EngineError as error:
            report(shown(parent), str(error))
            continue
        if any(node.is_dir for node in nodes):
            visits[tree_id] += 1
            if visits[tree_id] > VISITS_LIMIT:
                report(shown(parent), NESTED_TOO_OFTEN)
                continue
        seen: set[bytes] = set()
        below: list[tuple[Path, bytes]] = []
        for node in nodes:
            path = (*parent, node.name)
            try:
                check_name(node.name)
                if node.name in seen:
                    raise UnsafePath("the name stands twice in its directory")
                if len(path) > DEPTH_LIMIT:
                    raise UnsafePath("the directories are nested too deeply")
            except UnsafePath as error:
                report(shown(path), str(error))
                continue
            seen.add(node.name)
            if selection.leaves_out(path):
                continue
            if selection.takes(path):
                if leading:
                    above = [path[:depth] for depth in range(1, len(path)) if path[:depth] in leading]
                    yield from ((directory, leading.pop(directory)) for directory in above)
                yield path, node
            elif node.is_dir and selection.leads_to(path):
                leading[path] = node
            else:
                continue
            if node.is_dir and node.subtree is not None:
                below.append((path, node.subtree))
        pending.extend(reversed(below))


def pieces_of(repository: Repository, path: Path, node: Node) -> list[Piece]:
    """Cut a file into pieces of bounded size. Raises BlobMissing if the index lacks one of its blobs."""
    content = node.content or ()
    pieces: list[Piece] = []
    begin = offset = size = 0
    for number, blob_id in enumerate(content):
        length = repository.index.plain_length(BlobType.DATA, blob_id)
        if length is None:
            repository.locate(BlobType.DATA, blob_id)
            raise AssertionError("unreachable: locate raises")
        if size and size + length > TASK_BYTES:
            pieces.append(Piece(path, node, offset, size, content[begin:number], False))
            begin, offset, size = number, offset + size, 0
        size += length
    pieces.append(Piece(path, node, offset, size, content[begin:], not pieces))
    return pieces


def tasks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Gather pieces into tasks of bounded size and number."""
    task: list[Piece] = []
    size = 0
    for piece in pieces:
        if task and (size + piece.size > TASK_BYTES or len(task) >= TASK_FILES):
            yield task
            task, size = [], 0
        task.append(piece)
        size += piece.size
    if task:
        yield task


def in_pack_order(repository: Repository, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces in the order in which their first blobs lie in the packs."""

    def place(piece: Piece) -> tuple[bytes, int]:
        if not piece.blobs:
            return b"", 0
        location = repository.locate(BlobType.DATA, piece.blobs[0])
        return location.pack_id, location.offset

    return sorted(pieces, key=place)
