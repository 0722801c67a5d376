"""Which pack holds which blob: the index in memory, and the index files that it is read from.

In memory a blob is a row of flat arrays: its id and three numbers (44 bytes), behind a table from id to row (`engine.blobtable`),
so that millions of blobs fit and a copy made by `fork` stays shared. An index file is JSON (`packs`, each with its `blobs`);
restic begins a new one every 50,000 blobs, and so do we. Specified in restic's design document, "Indexing".
"""

import json
import logging
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from engine.blob import BlobLocation, BlobType, PackedBlob, parse_id
from engine.blobtable import BlobRows, IdTable
from engine.bounds import BLOB_BYTES, BLOBS_IN_PACK
from engine.crypto import OVERHEAD
from engine.errors import DataDamaged

log = logging.getLogger(__name__)

BLOBS_PER_FILE = 50_000
# The text of a pack of thirty thousand blobs, which decoded takes twice as much.
DECODED_AT_ONCE = 4 << 20
SANE = BLOB_BYTES[BlobType.DATA] + 1
# Backups that run side by side, or prunes that were cut off, store a blob a few times.
OTHER_PLACES = 8


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack and what it holds. `id`: 32 bytes."""

    id: bytes
    blobs: list[PackedBlob] = field(default_factory=list)


class Index:
    """The blobs of a repository. Reading is safe beside one writer."""

    def __init__(self) -> None:
        # Offset, length and uncompressed length.
        self._rows = BlobRows()
        self._tables = (IdTable(self._rows), IdTable(self._rows))
        # The rows of a pack follow each other: it is enough to know which is the first.
        self._first_rows = array("I")
        self._packs: list[bytes] = []
        # Backups that run side by side may store a blob twice; it is seldom, so a dictionary does.
        self._other_places: dict[tuple[BlobType, bytes], list[BlobLocation]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, blob: tuple[BlobType, bytes]) -> bool:
        return self._tables[blob[0]].get(blob[1]) is not None

    def reserve(self, blob_type: BlobType, expected: int) -> None:
        """Make room for so many blobs of a type at once."""
        self._tables[blob_type].reserve(expected)

    def has(self, blob_type: BlobType, blob_id: bytes) -> bool:
        return self._tables[blob_type].get(blob_id) is not None

    def has_all(self, blob_type: BlobType, blob_ids: Iterable[bytes]) -> bool:
        """Whether all are known; what is no id is not."""
        return None not in map(self._tables[blob_type].get, blob_ids)

    def find(self, blob_type: BlobType, blob_id: bytes) -> BlobLocation | None:
        """Return where the blob lies, None if the index does not know it."""
        row = self._tables[blob_type].get(blob_id)
        return None if row is None else self._location(row)

    def other_places(self, blob_type: BlobType, blob_id: bytes) -> Sequence[BlobLocation]:
        """Return where else the blob lies: what to try when it cannot be read where `find` says."""
        return self._other_places.get((blob_type, blob_id), ())

    def number(self, blob_type: BlobType, blob_id: bytes) -> int | None:
        """Return the blob's number, None if the index does not know it: 0, 1, … in the order in which blobs were learnt.

        Whoever counts something for each blob can do so in an array.
        """
        return self._tables[blob_type].get(blob_id)

    def plain_length(self, blob_type: BlobType, blob_id: bytes) -> int | None:
        """Return the size of the blob's content in bytes, None if the index does not know it."""
        row = self._tables[blob_type].get(blob_id)
        return None if row is None else self.plain_length_at(row)

    def plain_length_at(self, number: int) -> int:
        """Return the size of the content of the blob of this number."""
        _offset, length, uncompressed_length = self._rows.numbers(number)
        return uncompressed_length or length - OVERHEAD

    def add_pack(self, pack: IndexedPack) -> None:
        """Learn the blobs of a pack; of a blob that lies in several, the first place stays the one that is found."""
        self._first_rows.append(len(self._rows))
        self._packs.append(pack.id)
        add_of = [table.add for table in self._tables]
        for blob in pack.blobs:
            known = add_of[blob.type](blob.id, blob.offset, blob.length, blob.uncompressed_length)
            if known is not None:
                self._add_other_place(known, pack.id, blob)

    def number_pack(self, pack: IndexedPack) -> list[int]:
        """Learn the blobs of a pack and return their numbers (see `number`); of a blob that is known, no further place is kept.

        A prune keeps all places in its own way, and one that was cut off leaves many.
        """
        self._first_rows.append(len(self._rows))
        self._packs.append(pack.id)
        add_of = [table.add for table in self._tables]
        numbers = []
        for blob in pack.blobs:
            known = add_of[blob.type](blob.id, blob.offset, blob.length, blob.uncompressed_length)
            numbers.append(len(self._rows) - 1 if known is None else known)
        return numbers

    def packs(self) -> list[bytes]:
        """Return the ids of all packs."""
        return list(dict.fromkeys(self._packs))

    def blobs(self, blob_type: BlobType) -> Iterator[tuple[bytes, BlobLocation]]:
        """Yield every blob of a type with its place."""
        for row in self._tables[blob_type].rows():
            yield self._rows.id(row), self._location(row)

    def _add_other_place(self, row: int, pack_id: bytes, blob: PackedBlob) -> None:
        place = BlobLocation(pack_id, blob.offset, blob.length, blob.uncompressed_length)
        # An index file may be read again, and then tells nothing new.
        if place != self._location(row):
            others = self._other_places.setdefault((blob.type, blob.id), [])
            if len(others) < OTHER_PLACES and place not in others:
                others.append(place)

    def _location(self, row: int) -> BlobLocation:
        pack = self._packs[bisect_right(self._first_rows, row) - 1]
        return BlobLocation(pack, *self._rows.numbers(row))


def encode_index(packs: Iterable[IndexedPack], supersedes: Iterable[str] = ()) -> bytes:
    """Return the JSON of an index file. `supersedes`: names of the index files that it and those written before it replace."""
    replaced = list(supersedes)
    beginning = f'"supersedes":{json.dumps(replaced, separators=(",", ":"))},' if replaced else ""
    # Put together as text: dictionaries of every blob would take several times the memory of the file.
    listed = ",".join(
        f'{{"id":"{pack.id.hex()}","blobs":[{",".join(map(_encode_blob, pack.blobs))}]}}' for pack in packs
    )
    return f'{{{beginning}"packs":[{listed}]}}'.encode()


def _encode_blob(blob: PackedBlob) -> str:
    size = f',"uncompressed_length":{blob.uncompressed_length}' if blob.uncompressed_length else ""
    label = blob.type.label
    return f'{{"id":"{blob.id.hex()}","type":"{label}","offset":{blob.offset},"length":{blob.length}{size}}}'


_TYPES = {"data": BlobType.DATA, "tree": BlobType.TREE}


def decode_index(content: bytes, name: str = "") -> Iterator[IndexedPack]:
    """Yield the packs of an index file (of this name, to be told by). Raises DataDamaged.

    A piece of a file that is too large to be one is left out, so that it is missing where it is needed, and its pack has another
    size than the index says.
    """
    try:
        for pack_id, blobs in map(_decode_pack, _decode_file(content).packs):
            packed = [
                PackedBlob(_TYPES[blob.type], parse_id(blob.id), blob.offset, blob.length, blob.uncompressed_length)
                for blob in blobs or ()
                if (blob.length < SANE and blob.uncompressed_length < SANE) or _is_sane(blob)
            ]
            yield IndexedPack(parse_id(pack_id), packed)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged(f"index file {name} is damaged" if name else "an index file is damaged") from error


def _decode_pack(text: msgspec.Raw) -> "tuple[str, Iterable[_RawBlob] | None]":
    """Return id and blobs of a pack: decoded, unless they are so many that they come one by one."""
    if len(memoryview(text)) <= DECODED_AT_ONCE:
        pack = _decode_usual_pack(text)
        return pack.id, pack.blobs
    large = _decode_large_pack(text)
    if len(large.blobs or ()) > BLOBS_IN_PACK:
        raise ValueError("a pack of more blobs than a header can list")
    return large.id, map(_decode_blob, large.blobs or ())


def _is_sane(blob: "_RawBlob") -> bool:
    if blob.type == "data":
        size = max(blob.length, blob.uncompressed_length)
        log.warning("data blob %s of %d bytes is larger than any program writes, and left out", blob.id, size)
    return blob.type == "tree"


_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _RawBlob(msgspec.Struct, gc=False):
    id: str
    type: Literal["data", "tree"]
    offset: _Number
    length: _Number
    uncompressed_length: _Number = 0


class _RawPack(msgspec.Struct, gc=False):
    id: str
    blobs: list[_RawBlob] | None = None


class _RawLargePack(msgspec.Struct, gc=False):
    id: str
    blobs: list[msgspec.Raw] | None = None


class _RawFile(msgspec.Struct):
    # Decoded one by one: all the blobs of a file would take three times its memory.
    packs: list[msgspec.Raw]


_decode_file = msgspec.json.Decoder(_RawFile).decode
_decode_usual_pack = msgspec.json.Decoder(_RawPack).decode
_decode_large_pack = msgspec.json.Decoder(_RawLargePack).decode
_decode_blob = msgspec.json.Decoder(_RawBlob).decode
