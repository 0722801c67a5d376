"""Which blobs two sides name that are compared: a byte for each blob of the index, with a bit for either side.

Sets of ids would take a hundred bytes for each blob that differs.
"""

from collections.abc import Iterable, Iterator

from engine.blob import BlobType
from engine.index import Index

BEFORE, AFTER = 1, 2
_SHIFT = {BlobType.DATA: 0, BlobType.TREE: 2}
_SEEN = 1 << 4
# The blobs that no index knows are seldom many.
UNKNOWN_LIMIT = 100_000


class BlobSides:
    """What two sides name, as far as it was not taken out again.

    `unknown`: blobs that the index does not know, and their sides; `more_unknown`: how often others were named.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._marks = bytearray(len(self._index))
        self._left = 0
        self.unknown: dict[tuple[BlobType, bytes], int] = {}
        self.more_unknown = 0

    def __bool__(self) -> bool:
        """Whether anything is named that was not taken out again."""
        return bool(self._left or self.unknown)

    def add(self, side: int, blob_type: BlobType, blob_ids: Iterable[bytes]) -> None:
        bit = side << _SHIFT[blob_type]
        for blob_id in blob_ids:
            number = self._index.number(blob_type, blob_id)
            if number is not None:
                self._left += not self._marks[number] & bit
                self._marks[number] |= bit
            elif len(self.unknown) < UNKNOWN_LIMIT or (blob_type, blob_id) in self.unknown:
                self.unknown[blob_type, blob_id] = self.unknown.get((blob_type, blob_id), 0) | side
            else:
                self.more_unknown += 1

    def discard_common(self) -> None:
        """Take out what both sides name."""
        both = [(BEFORE | AFTER) << shift for shift in _SHIFT.values()]
        for number, mark in enumerate(self._marks):
            if mark in both:
                self._marks[number] = 0
                self._left -= 2
        self.unknown = {blob: sides for blob, sides in self.unknown.items() if sides != BEFORE | AFTER}

    def discard(self, blob_type: BlobType, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            number = self._index.number(blob_type, blob_id)
            if number is None:
                self.unknown.pop((blob_type, blob_id), None)
                continue
            self._left -= (self._marks[number] & ~_SEEN).bit_count()
            self._marks[number] &= _SEEN

    def is_unseen(self, tree: bytes) -> bool | None:
        """Whether it is the first time that this is asked of a tree; None for one that the index does not know."""
        number = self._index.number(BlobType.TREE, tree)
        if number is None:
            return None
        is_unseen = not self._marks[number] & _SEEN
        self._marks[number] |= _SEEN
        return is_unseen

    def named(self, side: int) -> Iterator[tuple[BlobType, int]]:
        """Yield type and size in bytes (0 if unknown) of each blob that this side names, and the other does not."""
        of_side = {side << shift: blob_type for blob_type, shift in _SHIFT.items()}
        for number, mark in enumerate(self._marks):
            blob_type = of_side.get(mark & ~_SEEN)
            if blob_type is not None:
                yield blob_type, self._index.plain_length_at(number)
        for (blob_type, _), sides in self.unknown.items():
            if sides & side:
                yield blob_type, 0
