"""Writing the contents of files: read ranges of packs, open the blobs, put them where they belong.

A task is a list of pieces of one or several packs and is worked on alone, by a thread or by a process. Of a pack what is wanted is
read in one go, unless there is much between; from a store that lets wait, while the packs before it are worked on.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from engine.blob import BlobLocation, BlobType
from engine.errors import DataDamaged, EngineError, FileMissing
from engine.metadata import OwnerNotSet
from engine.ranges import PackRange, pack_ranges
from engine.readahead import map_ahead
from engine.repository import Repository
from engine.restorer.plan import Piece
from engine.restorer.target import Target, shown
from engine.store import FileKind

# A pack is filled to 16 MiB, and by a last blob of up to 8 MiB beyond that.
RANGE_BYTES = 24 << 20
# Holes are looked for in steps of this; a hole smaller than it is written as zeros.
HOLE_STEP = 64 << 10
_ZEROS = bytes(HOLE_STEP)


@dataclass(slots=True)
class TaskResult:
    """What a task did. `failures`: path and reason; a failed path is not complete on the disk."""

    bytes_written: int = 0
    files_done: int = 0
    owners_not_set: int = 0
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    warnings: list[tuple[bytes, str]] = field(default_factory=list)


def write_pieces(repository: Repository, target: Target, pieces: Sequence[Piece]) -> TaskResult:
    """Write the pieces; a piece that is a whole file is made, and given its metadata, here too."""
    result = TaskResult()
    for blobs, of_pack in _packs(repository, pieces):
        for piece in of_pack:
            try:
                _write_piece(blobs, target, piece, result)
            except (EngineError, OSError) as error:
                result.failures.append((shown(piece.path), _reason(error)))
                continue
            result.bytes_written += piece.size
            result.files_done += piece.is_whole
    return result


def _packs(repository: Repository, pieces: Sequence[Piece]) -> Iterator[tuple["_BlobReader", list[Piece]]]:
    """Yield the pieces pack by pack, with what reads its blobs; the store may be asked for the next packs meanwhile."""

    def reader(of_pack: list[Piece]) -> tuple[_BlobReader, list[Piece]]:
        return _BlobReader(repository, (blob_id for piece in of_pack for blob_id in piece.blobs)), of_pack

    def filled(of_pack: list[Piece]) -> tuple[_BlobReader, list[Piece]]:
        blobs, _ = reader(of_pack)
        blobs.fill()
        return blobs, of_pack

    packs = [list(of_pack) for _, of_pack in groupby(pieces, key=attrgetter("pack"))]
    ahead = min(repository.store.packs_ahead, len(packs) - 1)
    if ahead <= 0:
        yield from map(reader, packs)
        return
    with ThreadPoolExecutor(ahead, thread_name_prefix="pack") as readers:
        yield from map_ahead(readers, filled, packs, ahead + 1)


def verify_pieces(repository: Repository, target: Target, pieces: Sequence[Piece]) -> TaskResult:
    """Read the pieces back from the disk and compare them with the hashes that the snapshot names."""
    result = TaskResult()
    for piece in pieces:
        try:
            _verify_piece(repository, target, piece)
        except (EngineError, OSError) as error:
            result.failures.append((shown(piece.path), _reason(error)))
            continue
        result.bytes_written += piece.size
        result.files_done += piece.offset == 0
    return result


def _write_piece(blobs: "_BlobReader", target: Target, piece: Piece, result: TaskResult) -> None:
    if not piece.is_whole:
        descriptor = target.open_file(piece.path, os.O_RDWR)
        try:
            _write_content(blobs, descriptor, piece)
        finally:
            os.close(descriptor)
        return
    node = piece.metadata.node()
    descriptor = target.make_file(piece.path)
    try:
        # A file smaller than a step has no hole to leave.
        if piece.size >= HOLE_STEP:
            os.truncate(descriptor, piece.size)
        _write_content(blobs, descriptor, piece)
        for error in target.apply_metadata_to_new(piece.path, node, descriptor):
            if isinstance(error, OwnerNotSet):
                result.owners_not_set += 1
            else:
                result.warnings.append((shown(piece.path), f"metadata: {error.strerror}"))
    except BaseException:
        # What is not complete must not be there for a later restore to keep as newer than the snapshot.
        with contextlib.suppress(OSError):
            target.remove(piece.path)
        raise
    finally:
        os.close(descriptor)


def _write_content(blobs: "_BlobReader", descriptor: int, piece: Piece) -> None:
    offset = piece.offset
    for blob_id in piece.blobs:
        content = blobs.read(blob_id)
        _write_around_holes(descriptor, content, offset)
        offset += len(content)
    if offset - piece.offset != piece.size:
        raise DataDamaged("the content has another size than the index says")


def _write_around_holes(descriptor: int, content: bytes, offset: int) -> None:
    """Write `content`, leaving out steps of zeros: the file was made as one hole."""
    if offset == 0 and len(content) < HOLE_STEP:
        _write_all(descriptor, memoryview(content), 0)
        return
    view = memoryview(content)
    begin = 0
    for step in range(0, len(content), HOLE_STEP):
        end = min(step + HOLE_STEP, len(content))
        # The first byte settles it for nearly all that is not a hole.
        if content[step] == 0 and end - step == HOLE_STEP and view[step:end] == _ZEROS:
            _write_all(descriptor, view[begin:step], offset + begin)
            begin = end
    _write_all(descriptor, view[begin:], offset + begin)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _verify_piece(repository: Repository, target: Target, piece: Piece) -> None:
    try:
        descriptor = target.open_file(piece.path)
    except PermissionError:
        descriptor = _open_unreadable(target, piece)
    try:
        if piece.is_whole and os.fstat(descriptor).st_size != piece.size:
            raise DataDamaged("verifying found another size on the disk")
        offset = piece.offset
        for blob_id in piece.blobs:
            length = repository.index.plain_length(BlobType.DATA, blob_id) or 0
            if hashlib.sha256(os.pread(descriptor, length, offset)).digest() != blob_id:
                raise DataDamaged("verifying found other content on the disk")
            offset += length
    finally:
        os.close(descriptor)


def _open_unreadable(target: Target, piece: Piece) -> int:
    """Open a file of ours that its mode keeps us from reading."""
    status = target.status(piece.path)
    permissions = 0 if status is None else stat.S_IMODE(status.st_mode)
    target.change_mode(piece.path, permissions | stat.S_IRUSR)
    try:
        return target.open_file(piece.path)
    finally:
        # Another piece of the file may be in the middle of this too, so that the right comes from the snapshot.
        target.change_mode(piece.path, permissions & ~stat.S_IRUSR | piece.metadata.mode & stat.S_IRUSR)


def _reason(error: EngineError | OSError) -> str:
    return str(error) if isinstance(error, EngineError) else (error.strerror or type(error).__name__)


class _BlobReader:
    """Reads the blobs of a task in the order in which they are asked for, range by range.

    A blob whose range cannot be read, or that is damaged, fails alone, when it is asked for.
    """

    def __init__(self, repository: Repository, blob_ids: Iterable[bytes]) -> None:
        self._repository = repository
        self._places: dict[bytes, tuple[_Range, BlobLocation]] = {}
        for wanted in pack_ranges(repository.index, BlobType.DATA, dict.fromkeys(blob_ids), RANGE_BYTES):
            found = _Range(wanted)
            for blob_id, location in wanted.blobs:
                self._places[blob_id] = found, location

    def fill(self) -> None:
        """Read all ranges now; one that cannot be read fails when a blob of it is asked for."""
        for found in {id(found): found for found, _ in self._places.values()}.values():
            with contextlib.suppress(EngineError):
                found.read(self._repository)

    def read(self, blob_id: bytes) -> bytes:
        """Return the blob's content. Raises BlobMissing, DataDamaged, StoreError."""
        try:
            return self._read(blob_id)
        except (DataDamaged, FileMissing):
            if not self._repository.index.other_places(BlobType.DATA, blob_id):
                raise
            return self._repository.load_blob(BlobType.DATA, blob_id)

    def _read(self, blob_id: bytes) -> bytes:
        found, location = self._places[blob_id]
        at = location.offset - found.wanted.offset
        sealed = found.read(self._repository)[at : at + location.length]
        return self._repository.open_blob(blob_id, sealed, location.uncompressed_length)


class _Range:
    """A range of a pack, read when the first of its blobs is asked for."""

    def __init__(self, wanted: PackRange) -> None:
        self.wanted = wanted
        self._content: memoryview | EngineError | None = None

    def read(self, repository: Repository) -> memoryview:
        """Return what lies there. Raises FileMissing, StoreError: what it once raised, each time."""
        if self._content is None:
            wanted = self.wanted
            try:
                content = repository.store.get_range(FileKind.DATA, wanted.pack_id.hex(), wanted.offset, wanted.length)
                self._content = memoryview(content)
            except EngineError as error:
                self._content = error
        if isinstance(self._content, EngineError):
            raise self._content.with_traceback(None)
        return self._content
