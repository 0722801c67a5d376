"""The ids of a very large file's pieces, side by side in one buffer: a tuple of them takes more than twice the memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from engine.blob import ID_SIZE

Id = TypeVar("Id")


class BlobIds(Sequence[Id], Generic[Id]):
    """A sequence of ids, of which `show` makes what it is asked for: `bytes` for raw ids, `bytes.hex` for their digits."""

    def __init__(self, packed: bytes | bytearray, show: Callable[[bytes], Id]) -> None:
        self.packed, self._show = packed, show

    def __len__(self) -> int:
        return len(self.packed) // ID_SIZE

    @overload
    def __getitem__(self, at: int) -> Id: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Id, ...]: ...

    def __getitem__(self, at: int | slice) -> Id | tuple[Id, ...]:
        if isinstance(at, slice):
            return tuple(self[number] for number in range(*at.indices(len(self))))
        number = range(len(self))[at]
        return self._show(bytes(self.packed[number * ID_SIZE : (number + 1) * ID_SIZE]))

    def __iter__(self) -> Iterator[Id]:
        for at in range(0, len(self.packed), ID_SIZE):
            yield self._show(bytes(self.packed[at : at + ID_SIZE]))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BlobIds):
            return bool(self.packed == other.packed)
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]  # a tuple of the same ids is equal, and hashes otherwise


def _equal(one: object, other: object) -> bool:
    return one == other
