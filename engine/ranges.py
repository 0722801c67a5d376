"""Ranges of packs: blobs that are wanted, in the order in which they lie, and so close together that one request reads several."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.blob import BlobLocation, BlobType
from engine.index import Index

# Reading over a small gap costs less than a second request.
GAP_BYTES = 256 << 10
RANGE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PackRange:
    """`length` bytes of a pack from `offset`, with the blobs that are wanted of them: id and location each."""

    pack_id: bytes
    offset: int
    length: int
    blobs: tuple[tuple[bytes, BlobLocation], ...]


def pack_ranges(
    index: Index, blob_type: BlobType, blob_ids: Iterable[bytes], limit: int = RANGE_BYTES
) -> Iterator[PackRange]:
    """Yield ranges that hold these blobs, pack by pack (see `join_places`); those that the index does not know are left out."""
    found = ((blob_id, index.find(blob_type, blob_id)) for blob_id in blob_ids)
    return join_places(((blob_id, location) for blob_id, location in found if location is not None), limit)


def join_places(places: Iterable[tuple[bytes, BlobLocation]], limit: int = RANGE_BYTES) -> Iterator[PackRange]:
    """Yield ranges that hold the blobs at these places (id and location each), pack by pack.

    A range has at most `limit` bytes, unless a single blob is larger.
    """
    joined: list[tuple[bytes, BlobLocation]] = []
    for blob_id, location in sorted(places, key=lambda place: (place[1].pack_id, place[1].offset)):
        if joined and not _is_near(joined[0][1], joined[-1][1], location, limit):
            yield _range(joined)
            joined = []
        joined.append((blob_id, location))
    if joined:
        yield _range(joined)


def _is_near(first: BlobLocation, last: BlobLocation, following: BlobLocation, limit: int) -> bool:
    return (
        following.pack_id == first.pack_id
        and following.offset - (last.offset + last.length) <= GAP_BYTES
        and following.offset + following.length - first.offset <= limit
    )


def _range(places: list[tuple[bytes, BlobLocation]]) -> PackRange:
    first = places[0][1]
    # The last to begin need not be the last to end in an index that lies.
    end = max(location.offset + location.length for _, location in places)
    return PackRange(first.pack_id, first.offset, end - first.offset, tuple(places))
