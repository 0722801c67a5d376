"""Where every copy of every blob lies. The index in memory knows one place of a blob; whoever deletes must know all.

A repository has millions of blobs, so that a copy is four numbers in flat arrays (16 bytes) and blobs and packs are numbers.
"""

from array import array
from collections.abc import Iterator, Sequence

from engine.index import IndexedPack
from engine.pack import header_size

EMPTY_SIZE = header_size(0, 0)


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
        found = list(zip(blobs, pack.blobs, strict=True))
        begin = len(self)
        if number is None:
            number = self._numbers[pack.id] = len(self.packs)
            self.packs.append(pack.id)
            self.sizes.append(EMPTY_SIZE)
        else:
            known = {(self.blob[at], self.offset[at]) for at in self.of_pack(number)}
            found = [(blob, packed) for blob, packed in found if (blob, packed.offset) not in known]
        lengths = [packed.length for _, packed in found]
        self.blob.extend([blob for blob, _ in found])
        self.pack.extend([number] * len(found))
        self.offset.extend([packed.offset for _, packed in found])
        self.length.extend(lengths)
        compressed = sum(packed.uncompressed_length > 0 for _, packed in found)
        self.sizes[number] += sum(lengths) + header_size(len(found) - compressed, compressed) - EMPTY_SIZE
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
