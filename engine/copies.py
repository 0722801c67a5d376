"""Where every copy of every blob lies. The index in memory knows one place of a blob; whoever deletes must know all.

A repository has millions of blobs, so that a copy is four numbers in flat arrays (16 bytes) and blobs and packs are numbers.
"""

from array import array
from collections.abc import Iterator, Sequence

from engine.index import IndexedPack
from engine.pack import header_size

_HEADER = header_size(0, 0)
_RAW_ENTRY = header_size(1, 0) - _HEADER
_COMPRESSED_ENTRY = header_size(0, 1) - _HEADER


class Copies:
    """Every copy of every blob, as index files list them. `packs`: the ids, by number; `sizes`: what each pack takes, in bytes.

    `blob`, `pack`, `offset` and `length` have an entry for each copy.
    """

    def __init__(self) -> None:
        self.packs: list[bytes] = []
        self.sizes = array("Q")
        self.blob = array("I")
        self.pack = array("I")
        self.offset = array("I")
        self.length = array("I")
        self._numbers: dict[bytes, int] = {}
        self._first = array("I")
        self._end = array("I")
        self._later: dict[int, list[range]] = {}

    def __len__(self) -> int:
        return len(self.blob)

    def __contains__(self, pack_id: bytes) -> bool:
        return pack_id in self._numbers

    def add_pack(self, pack: IndexedPack, blobs: Sequence[int]) -> int:
        """Learn what a pack holds; `blobs` are the numbers of its blobs. Return the pack's number.

        A pack may be listed again, with blobs that are known and with others: restic before 0.10 did the latter.
        """
        number = self._numbers.get(pack.id)
        begin = len(self)
        if number is None:
            number = self._numbers[pack.id] = len(self.packs)
            self.packs.append(pack.id)
            self.sizes.append(_HEADER)
            known = set()
        else:
            known = {(self.blob[at], self.offset[at]) for at in self.of_pack(number)}
        for blob, packed in zip(blobs, pack.blobs, strict=True):
            if (blob, packed.offset) in known:
                continue
            self.blob.append(blob)
            self.pack.append(number)
            self.offset.append(packed.offset)
            self.length.append(packed.length)
            self.sizes[number] += packed.length + (_COMPRESSED_ENTRY if packed.uncompressed_length else _RAW_ENTRY)
        if number == len(self._first):
            self._first.append(begin)
            self._end.append(len(self))
        elif len(self) > begin:
            self._later.setdefault(number, []).append(range(begin, len(self)))
        return number

    def of_pack(self, number: int) -> Iterator[int]:
        """Yield the copies that lie in a pack."""
        yield from range(self._first[number], self._end[number])
        for span in self._later.get(number, ()):
            yield from span
