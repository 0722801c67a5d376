"""The blobs of an index in flat arrays: rows of an id and three numbers (44 bytes), and a table from id to row (5.6 bytes).

A dictionary would take over two hundred bytes a blob, and a forked process that merely looks something up would copy its pages,
since Python counts references in the objects themselves.
"""

from array import array
from struct import Struct

from engine.blob import ID_SIZE

_ROW = Struct(f"={ID_SIZE}s3I")
_NUMBERS = Struct("=3I")
ROW_SIZE = _ROW.size
# Rows come in chunks: one array would be copied as a whole, and be larger than it need be, whenever it grows.
# One more, and each would take a page for the few bytes that Python and the allocator add: a byte a row.
CHUNK_ROWS = (1 << 12) - 1

PLACES = 64
# At this load one bucket in five is full.
LOAD = 0.9
GROWTH = 1.5


class BlobRows:
    """Rows of a 32-byte id and three numbers below 2^32. Reading is safe beside one writer."""

    def __init__(self) -> None:
        self.chunks: list[bytearray] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, blob_id: bytes, first: int, second: int, third: int) -> int:
        """Add a row and return its number, which is one more than the row's before."""
        row = self._size
        at = row % CHUNK_ROWS * ROW_SIZE
        if at == 0:
            self.chunks.append(bytearray(CHUNK_ROWS * ROW_SIZE))
        _ROW.pack_into(self.chunks[-1], at, blob_id, first, second, third)
        self._size = row + 1
        return row

    def id(self, row: int) -> bytes:
        at = row % CHUNK_ROWS * ROW_SIZE
        return bytes(self.chunks[row // CHUNK_ROWS][at : at + ID_SIZE])

    def numbers(self, row: int) -> tuple[int, int, int]:
        first, second, third = _NUMBERS.unpack_from(self.chunks[row // CHUNK_ROWS], row % CHUNK_ROWS * ROW_SIZE + ID_SIZE)
        return first, second, third


class IdTable:
    """From ids to the numbers of their rows: a hash table. Reading is safe beside one writer.

    An id's hash chooses a bucket of 64 places; a place has a byte of the id (0: empty), by which `bytes.find` meets the right
    place nearly at once, and the row's number. What finds its bucket full goes into the next.
    """

    def __init__(self, rows: BlobRows) -> None:
        self._rows = rows
        self._size = 0
        self._buckets = _Buckets(1)
        self._room = PLACES * LOAD

    def __len__(self) -> int:
        return self._size

    def reserve(self, expected: int) -> None:
        """Make room for so many rows at once, which saves growing step by step."""
        if expected > self._size:
            self._rebuild(expected)

    def get(self, blob_id: bytes) -> int | None:
        """Return the row of the id, None if the table has it not, or it is none."""
        if len(blob_id) != ID_SIZE:
            return None
        buckets, chunks = self._buckets, self._rows.chunks
        tags, rows = buckets.tags, buckets.rows
        tag = blob_id[0] or 1
        start = hash(blob_id) % buckets.count * PLACES
        while True:
            end = start + PLACES
            place = tags.find(tag, start, end)
            while place >= 0:
                row = rows[place]
                if chunks[row // CHUNK_ROWS].startswith(blob_id, row % CHUNK_ROWS * ROW_SIZE):
                    return row
                place = tags.find(tag, place + 1, end)
            if tags[end - 1] == 0:  # places are filled from the first on, so that the bucket is not full
                return None
            start = end % len(tags)

    def add(self, blob_id: bytes, first: int, second: int, third: int) -> int | None:
        """Add a row with this id and return None; of an id that is there already, return the row and change nothing."""
        known = self.get(blob_id)
        if known is None:
            if self._size >= self._room:
                self._rebuild(int(self._size * GROWTH) + PLACES)
            # The row first, so that a reader on another thread never meets a place without one.
            self._buckets.put(blob_id, self._rows.append(blob_id, first, second, third))
            self._size += 1
        return known

    def rows(self) -> "array[int]":
        """Return the numbers of all rows, in no particular order."""
        buckets = self._buckets
        return array("I", (row for tag, row in zip(buckets.tags, buckets.rows, strict=True) if tag))

    def _rebuild(self, expected: int) -> None:
        larger = _Buckets(int(expected / (PLACES * LOAD)) + 1)
        for row in self.rows():
            larger.put(self._rows.id(row), row)
        # In one step, so that a reader on another thread meets the one or the other.
        self._buckets, self._room = larger, larger.count * PLACES * LOAD


class _Buckets:
    def __init__(self, count: int) -> None:
        self.count = count
        self.tags = bytearray(count * PLACES)
        self.rows = array("I", [0]) * (count * PLACES)

    def put(self, blob_id: bytes, row: int) -> None:
        start = hash(blob_id) % self.count * PLACES
        while (place := self.tags.find(0, start, start + PLACES)) < 0:
            start = (start + PLACES) % len(self.tags)
        # The tag last: a reader on another thread must not meet a place without its row.
        self.rows[place] = row
        self.tags[place] = blob_id[0] or 1
