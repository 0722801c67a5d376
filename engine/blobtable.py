"""The blobs of an index in flat arrays: rows of an id and three numbers (44 bytes), and a table from id to row (5.6 bytes).

A dictionary would take over two hundred bytes a blob, and a forked process that merely looks something up would copy its pages,
since Python counts references in the objects themselves.
"""

from array import array

from engine.blob import ID_SIZE

NUMBERS = 3
# Rows come in chunks: one array would be copied as a whole, and be larger than it need be, whenever it grows.
CHUNK_ROWS = 1 << 12

PLACES = 64
# At this load one bucket in five is full.
LOAD = 0.9
GROWTH = 1.5


class BlobRows:
    """Rows of a 32-byte id and three numbers below 2^32. Reading is safe beside one writer."""

    def __init__(self) -> None:
        self._ids: list[bytearray] = []
        self._numbers: list[array[int]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, blob_id: bytes, first: int, second: int, third: int) -> int:
        """Add a row and return its number, which is one more than the row's before."""
        row = self._size
        chunk, at = divmod(row, CHUNK_ROWS)
        if at == 0:
            self._ids.append(bytearray(CHUNK_ROWS * ID_SIZE))
            self._numbers.append(array("I", [0]) * (NUMBERS * CHUNK_ROWS))
        self._ids[chunk][at * ID_SIZE : (at + 1) * ID_SIZE] = blob_id
        numbers, at = self._numbers[chunk], at * NUMBERS
        numbers[at], numbers[at + 1], numbers[at + 2] = first, second, third
        self._size = row + 1
        return row

    def has_id(self, row: int, blob_id: bytes) -> bool:
        return self._ids[row // CHUNK_ROWS].startswith(blob_id, row % CHUNK_ROWS * ID_SIZE)

    def id(self, row: int) -> bytes:
        at = row % CHUNK_ROWS * ID_SIZE
        return bytes(self._ids[row // CHUNK_ROWS][at : at + ID_SIZE])

    def numbers(self, row: int) -> "array[int]":
        at = row % CHUNK_ROWS * NUMBERS
        return self._numbers[row // CHUNK_ROWS][at : at + NUMBERS]


class IdTable:
    """From ids to the numbers of their rows: a hash table. Reading is safe beside one writer.

    Ids are hashes, so that some of their bytes serve as the hash. They choose a bucket of 64 places; a place has one more byte of
    the id (0: empty), by which `bytes.find` meets the right place nearly at once, and the row's number. What finds its bucket
    full goes into the next.
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
        buckets, has_id = self._buckets, self._rows.has_id
        tags, numbers = buckets.tags, buckets.rows
        tag = blob_id[0] or 1
        start = int.from_bytes(blob_id[1:8], "little") % buckets.count * PLACES
        while True:
            end = start + PLACES
            place = tags.find(tag, start, end)
            while place >= 0:
                if has_id(numbers[place], blob_id):
                    return numbers[place]
                place = tags.find(tag, place + 1, end)
            if tags[end - 1] == 0:  # places are filled from the first on, so that the bucket is not full
                return None
            start = end % len(tags)

    def add(self, blob_id: bytes, row: int) -> None:
        """Enter a row that is there already under this id, and not yet in the table."""
        if self._size >= self._room:
            self._rebuild(int(self._size * GROWTH) + PLACES)
        self._buckets.put(blob_id, row)
        self._size += 1

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
        start = int.from_bytes(blob_id[1:8], "little") % self.count * PLACES
        while (place := self.tags.find(0, start, start + PLACES)) < 0:
            start = (start + PLACES) % len(self.tags)
        # The tag last: a reader on another thread must not meet a place without its row.
        self.rows[place] = row
        self.tags[place] = blob_id[0] or 1
