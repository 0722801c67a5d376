"""Which pack holds which blob: the index in memory, and the index files that it is read from.

In memory a blob is a row of four numbers in flat arrays (16 bytes) behind a dictionary from id to row, so that a copy made by
`fork` stays shared. An index file is JSON (`packs`, each with its `blobs`); restic begins a new one every 50,000 blobs,
and so do we. Specified in restic's design document, "Indexing".
"""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from engine.blob import ID_SIZE, BlobLocation, BlobType, PackedBlob
from engine.errors import DataDamaged

BLOBS_PER_FILE = 50_000


@dataclass(frozen=True, slots=True)
class IndexedPack:
    """A pack and what it holds. `id`: 32 bytes."""

    id: bytes
    blobs: list[PackedBlob] = field(default_factory=list)


class Index:
    """The blobs of a repository. Reading is safe beside one writer."""

    def __init__(self) -> None:
        self._rows: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        self._packs: list[bytes] = []
        self._pack_numbers: dict[bytes, int] = {}
        self._pack_of = array("I")
        self._offset = array("I")
        self._length = array("I")
        self._uncompressed = array("I")

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows)

    def __contains__(self, blob: tuple[BlobType, bytes]) -> bool:
        return blob[1] in self._rows[blob[0]]

    def has(self, blob_type: BlobType, blob_id: bytes) -> bool:
        return blob_id in self._rows[blob_type]

    def has_all(self, blob_type: BlobType, blob_ids: Iterable[bytes | None]) -> bool:
        return all(map(self._rows[blob_type].__contains__, blob_ids))

    def find(self, blob_type: BlobType, blob_id: bytes) -> BlobLocation | None:
        """Return where the blob lies, None if the index does not know it."""
        row = self._rows[blob_type].get(blob_id)
        if row is None:
            return None
        return BlobLocation(
            self._packs[self._pack_of[row]], self._offset[row], self._length[row], self._uncompressed[row]
        )

    def plain_length(self, blob_type: BlobType, blob_id: bytes) -> int | None:
        """Return the size of the blob's content in bytes, None if the index does not know it."""
        row = self._rows[blob_type].get(blob_id)
        if row is None:
            return None
        return self._uncompressed[row] or self._length[row] - 32

    def add_pack(self, pack: IndexedPack) -> None:
        """Learn the blobs of a pack; the first place of a blob that lies in several is kept."""
        number = self._pack_numbers.get(pack.id)
        if number is None:
            number = self._pack_numbers[pack.id] = len(self._packs)
            self._packs.append(pack.id)
        for blob in pack.blobs:
            rows = self._rows[blob.type]
            if blob.id in rows:
                continue
            self._pack_of.append(number)
            self._offset.append(blob.offset)
            self._length.append(blob.length)
            self._uncompressed.append(blob.uncompressed_length)
            # Last, so that a reader on another thread never meets a row that is not there.
            rows[blob.id] = len(self._pack_of) - 1

    def packs(self) -> list[bytes]:
        """Return the ids of all packs."""
        return list(self._packs)

    def blobs(self, blob_type: BlobType) -> Iterator[tuple[bytes, BlobLocation]]:
        """Yield every blob of a type with its place."""
        for blob_id, row in self._rows[blob_type].items():
            yield (
                blob_id,
                BlobLocation(
                    self._packs[self._pack_of[row]], self._offset[row], self._length[row], self._uncompressed[row]
                ),
            )


def encode_index(packs: Iterable[IndexedPack], supersedes: Iterable[str] = ()) -> bytes:
    """Return the JSON of an index file. `supersedes`: names of the index files that it replaces."""
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


def decode_index(content: bytes) -> Iterator[IndexedPack]:
    """Yield the packs of an index file. Raises DataDamaged."""
    try:
        for pack in _decode_file(content).packs:
            blobs = [
                PackedBlob(_TYPES[blob.type], _blob_id(blob.id), blob.offset, blob.length, blob.uncompressed_length)
                for blob in pack.blobs or ()
            ]
            yield IndexedPack(_blob_id(pack.id), blobs)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged("an index file is damaged") from error


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


class _RawFile(msgspec.Struct):
    packs: list[_RawPack]


_decode_file = msgspec.json.Decoder(_RawFile).decode


def _blob_id(text: str) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != ID_SIZE:
        raise ValueError("an id of a wrong size")
    return raw
