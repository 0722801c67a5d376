"""Walking a snapshot: what is to be made, in which order, and which files share one content.

Directories come before what is in them. A file's contents are planned as pieces: runs of its blobs that lie in one pack. Tasks are
the pieces of one pack, so that each pack is read once, in order, by one worker. Planning is done by one process for all workers;
so it looks at no more of an entry than it must, and leaves the rest to whoever makes it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Annotated

import msgspec

from engine.blob import BlobType, parse_id
from engine.blobids import BlobIds
from engine.errors import DataDamaged, EngineError, UnsafePath
from engine.filter import PathFilter
from engine.gotime import parse_ns
from engine.node import Node, link_identity, unquote_name
from engine.repository import Repository
from engine.restorer.target import Path, check_name, shown
from engine.treereader import is_large, read_texts
from engine.treesplit import SplitEntry
from engine.walking import Itinerary, UniqueNames

# A pack of what compresses well is worked on by more than one worker.
TASK_BYTES = 64 << 20
# Of a file of very many blobs a piece has so many.
PIECE_BLOBS = 8192

Report = Callable[[bytes, str], None]


class Metadata(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a restored entry is given. Times are as the tree has them; `json` is the whole entry if there is more to give."""

    type: str
    mode: int
    uid: int
    gid: int
    mtime: str
    atime: str
    json: bytes = b""

    def node(self) -> Node:
        """The entry, as far as it says what to give. Raises DataDamaged."""
        if self.json:
            return Node.from_json(self.json)
        try:
            mtime_ns = parse_ns(self.mtime)
            atime_ns = mtime_ns if self.atime == self.mtime else parse_ns(self.atime)
        except ValueError as error:
            raise DataDamaged("the snapshot has no readable times for it") from error
        return Node(b"", self.type, self.mode, mtime_ns, atime_ns, uid=self.uid, gid=self.gid)


class Outline(msgspec.Struct, gc=False):
    """What planning needs of an entry. `json`: all of it, as the tree has it; `content` and `subtree`: 32-byte ids."""

    name: bytes
    type: str
    size: int
    links: int
    inode: int
    device_id: int
    content: Sequence[bytes]
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
    itinerary = Itinerary(repository, b"", tree)
    leading: dict[Path, Outline] = {}
    while True:
        try:
            stop = itinerary.next()
        except DataDamaged as error:
            report(b"/", str(error))
            continue
        if stop is None:
            return
        parent = tuple(stop[0].split(b"/")[1:])
        names = UniqueNames()
        entries = 0
        try:
            for outline in _outlines(repository, stop[1]):
                entries += 1
                path = (*parent, outline.name)
                try:
                    check_name(outline.name)
                    names.require_new(outline.name)
                    if selection.leaves_out(path):
                        continue
                    is_taken = selection.takes(path)
                    if outline.is_dir and outline.subtree is not None and (is_taken or selection.leads_to(path)):
                        itinerary.note(outline.name, outline.subtree)
                except (UnsafePath, DataDamaged) as error:
                    report(shown(path), str(error))
                    continue
                if is_taken:
                    if leading:
                        above = [path[:depth] for depth in range(1, len(path)) if path[:depth] in leading]
                        yield from ((directory, leading.pop(directory)) for directory in above)
                    yield path, outline
                elif outline.is_dir and selection.leads_to(path):
                    leading[path] = outline
            itinerary.visited(entries)
        except EngineError as error:
            report(shown(parent), str(error))
            itinerary.abandon()


def pieces_of(repository: Repository, path: Path, file: Outline) -> Iterable[Piece]:
    """Cut a file into pieces; those of a usual one are a list.

    Raises BlobMissing if the index lacks one of its blobs, DataDamaged if they have another size than the file.
    """
    pieces: Iterable[Piece] = _cut(repository, path, file)
    if len(file.content) <= PIECE_BLOBS:
        pieces = list(pieces)
        size = sum(piece.size for piece in pieces)
    else:
        size = sum(repository.locate(BlobType.DATA, blob_id).plain_length for blob_id in file.content)
    if size != file.size:
        raise DataDamaged("the content has another size than the snapshot says")
    return pieces


def _cut(repository: Repository, path: Path, file: Outline) -> Iterator[Piece]:
    pack = b""
    place = begin = offset = size = 0
    content = file.content
    for number, blob_id in enumerate(content):
        location = repository.locate(BlobType.DATA, blob_id)
        if number == 0:
            pack, place = location.pack_id, location.offset
        elif location.pack_id != pack or size >= TASK_BYTES or number - begin >= PIECE_BLOBS:
            yield Piece(path, file.metadata, pack, place, offset, size, [*content[begin:number]], False)
            pack, place, begin, offset, size = location.pack_id, location.offset, number, offset + size, 0
        size += location.plain_length
    yield Piece(path, file.metadata, pack, place, offset, size, [*content[begin:]], not begin)


def tasks(pieces: Iterable[Piece], packs: int = 1) -> Iterator[list[Piece]]:
    """Gather pieces into tasks: those of so many packs, in the order in which they lie there, or a part of them if large."""
    task: list[Piece] = []
    size = number = 0
    for _pack, of_pack in groupby(sorted(pieces, key=attrgetter("pack", "place")), attrgetter("pack")):
        number += 1
        if number > packs:
            yield task
            task, size, number = [], 0, 1
        for piece in of_pack:
            if task and size + piece.size > TASK_BYTES * packs:
                yield task
                task, size, number = [], 0, 1
            task.append(piece)
            size += piece.size
    if task:
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


def _outlines(repository: Repository, tree_id: bytes) -> Iterable[Outline]:
    """Return the entries of a tree; those of a usual one are a list. Raises BlobMissing, DataDamaged, StoreError's family."""
    outlines = map(_outline, read_texts(repository, tree_id))
    return outlines if is_large(repository, tree_id) else list(outlines)


def _outline(text: SplitEntry) -> Outline:
    try:
        entry = _decode_entry(text.text)
        json = bytes(text.text)
        # Few entries are without a time, and few have extended attributes.
        is_usual = bytes(entry.extended_attributes) == b"null" and entry.mtime and entry.atime
        rest = b"" if is_usual else json
        metadata = Metadata(entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.atime, rest)
        content: Sequence[bytes] = list(map(parse_id, entry.content)) if entry.content else []
        subtree = None if entry.subtree is None else parse_id(entry.subtree)
        name = unquote_name(entry.name)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged("a tree of the repository has an entry that cannot be read") from error
    if text.packed is not None:
        content = BlobIds(text.packed, bytes)
    return Outline(
        name, entry.type, entry.size, entry.links, entry.inode, entry.device_id, content, subtree, metadata, json
    )
