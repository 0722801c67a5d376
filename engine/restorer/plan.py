"""Walking a snapshot: what is to be made, in which order, and which files share one content.

Directories come before what is in them. A file's contents are planned as pieces: runs of its blobs that lie in one pack. Tasks are
the pieces of one pack, so that each pack is read once, in order, by one worker. Planning is done by one process for all workers;
so it looks at no more of an entry than it must, and leaves the rest to whoever makes it.
"""

from binascii import unhexlify
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Annotated

import msgspec

from engine.blob import ID_SIZE, BlobType
from engine.errors import DataDamaged, EngineError, UnsafePath
from engine.filter import PathFilter
from engine.gotime import parse_ns
from engine.node import Node, link_identity, unquote_name
from engine.repository import Repository
from engine.restorer.target import DEPTH_LIMIT, Path, check_name, shown
from engine.tree import split_tree

# A pack of what compresses well is worked on by more than one worker.
TASK_BYTES = 64 << 20
# Trees of directories may be shared, but one that is met so often is a bomb: forty levels of two names each for one tree
# would be restored for years. Trees of files only are bounded by their number.
VISITS_LIMIT = 10_000
NESTED_TOO_OFTEN = "the same directories are nested in the snapshot over and over again"

Report = Callable[[bytes, str], None]


class Metadata(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a restored file is given. Times are as the tree has them; `json` is the whole entry if there is more to give."""

    mode: int
    uid: int
    gid: int
    mtime: str
    atime: str
    json: bytes = b""

    def node(self) -> Node:
        """The file's entry, as far as it says what to give. Raises DataDamaged."""
        if self.json:
            return Node.from_json(self.json)
        try:
            mtime_ns = parse_ns(self.mtime)
            atime_ns = mtime_ns if self.atime == self.mtime else parse_ns(self.atime)
        except ValueError as error:
            raise DataDamaged("the snapshot has no readable times for it") from error
        return Node(b"", "file", self.mode, mtime_ns, atime_ns, uid=self.uid, gid=self.gid)


class Outline(msgspec.Struct, gc=False):
    """What planning needs of an entry. `json`: all of it, as the tree has it; `content` and `subtree`: 32-byte ids."""

    name: bytes
    type: str
    size: int
    links: int
    inode: int
    device_id: int
    content: list[bytes]
    subtree: bytes | None
    metadata: Metadata
    json: bytes

    @property
    def is_dir(self) -> bool:
        return self.type == "dir"

    @property
    def link_identity(self) -> tuple[int, int] | None:
        return link_identity(self.type, self.links, self.device_id, self.inode)

    def node(self) -> Node:
        """Raises DataDamaged."""
        return Node.from_json(self.json)


class Piece(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Consecutive blobs of a file that lie in one pack: `blobs` (32-byte ids) begin at `offset` bytes of the file.

    A file of one piece is whole. `pack` and `place` are where the first blob lies, nothing and 0 for an empty file.
    """

    path: Path
    metadata: Metadata
    pack: bytes
    place: int
    offset: int
    size: int
    blobs: list[bytes]
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


def walk(repository: Repository, tree: bytes, selection: Selection, report: Report) -> Iterator[tuple[Path, Outline]]:
    """Yield what is to be restored of a tree, and the directories that lead to it, directories before their entries.

    What cannot be read or must not be made is told to `report` (path, reason) and left out.
    """
    pending: list[tuple[Path, bytes]] = [((), tree)]
    visits: Counter[bytes] = Counter()
    leading: dict[Path, Outline] = {}
    while pending:
        parent, tree_id = pending.pop()
        try:
            nodes = _outlines(repository.load_blob(BlobType.TREE, tree_id))
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


def pieces_of(repository: Repository, path: Path, file: Outline) -> list[Piece]:
    """Cut a file into pieces. Raises BlobMissing if the index lacks one of its blobs, DataDamaged if they are not its size."""
    pieces: list[Piece] = []
    pack = b""
    place = begin = offset = size = 0
    for number, blob_id in enumerate(file.content):
        location = repository.locate(BlobType.DATA, blob_id)
        if number == 0:
            pack, place = location.pack_id, location.offset
        elif location.pack_id != pack or size >= TASK_BYTES:
            pieces.append(Piece(path, file.metadata, pack, place, offset, size, file.content[begin:number], False))
            pack, place, begin, offset, size = location.pack_id, location.offset, number, offset + size, 0
        size += location.plain_length
    if offset + size != file.size:
        raise DataDamaged("the content has another size than the snapshot says")
    pieces.append(Piece(path, file.metadata, pack, place, offset, size, file.content[begin:], not pieces))
    return pieces


def tasks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Gather pieces into tasks: those of one pack, in the order in which they lie there, or a part of them if they are large."""
    for _pack, of_pack in groupby(sorted(pieces, key=attrgetter("pack", "place")), attrgetter("pack")):
        task: list[Piece] = []
        size = 0
        for piece in of_pack:
            if task and size + piece.size > TASK_BYTES:
                yield task
                task, size = [], 0
            task.append(piece)
            size += piece.size
        yield task


_Number = Annotated[int, msgspec.Meta(ge=0)]
# What chmod and chown could not even be given is refused here.
_Number32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Entry(msgspec.Struct, gc=False):
    name: str
    type: str
    mode: _Number32 = 0
    mtime: str = ""
    atime: str = ""
    uid: _Number32 = 0
    gid: _Number32 = 0
    size: _Number = 0
    links: int = 0
    inode: int = 0
    device_id: int = 0
    extended_attributes: msgspec.Raw = msgspec.Raw(b"null")
    content: list[str] | None = None
    subtree: str | None = None


_decode_entry = msgspec.json.Decoder(_Entry).decode


def _outlines(tree: bytes) -> list[Outline]:
    """Return the entries of a tree blob. Raises DataDamaged."""
    try:
        return [_outline(raw) for raw in split_tree(tree)]
    except (msgspec.DecodeError, ValueError) as error:
        raise DataDamaged("a tree of the repository has an entry that cannot be read") from error


def _outline(raw: msgspec.Raw) -> Outline:
    entry = _decode_entry(raw)
    json = bytes(raw)
    # Few entries are without a time, and few have extended attributes.
    is_usual = bytes(entry.extended_attributes) == b"null" and entry.mtime and entry.atime
    metadata = Metadata(entry.mode, entry.uid, entry.gid, entry.mtime, entry.atime, b"" if is_usual else json)
    content = list(map(_id, entry.content)) if entry.content else []
    subtree = None if entry.subtree is None else _id(entry.subtree)
    return Outline(
        unquote_name(entry.name), entry.type, entry.size, entry.links, entry.inode, entry.device_id, content, subtree, metadata,
        json,
    )  # fmt: skip


def _id(text: str) -> bytes:
    raw = unhexlify(text)
    if len(raw) != ID_SIZE:
        raise ValueError("an id of a wrong size")
    return raw
