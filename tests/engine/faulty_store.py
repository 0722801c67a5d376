"""Stores for tests: one in memory, and one of whose calls fails as it is told to."""

import os
import signal
from collections.abc import Callable, Iterator
from enum import Enum
from multiprocessing import Value
from typing import TypeVar

from engine.errors import FileMissing, StoreUnreachable
from engine.store import Buffer, FileKind, PackUpload, Store, relative_path

T = TypeVar("T")


class MemoryStore:
    """A store in a dictionary of paths below the repository's root and their content. A forked process sees a copy."""

    location = "memory"
    parallel_uploads = 2
    settle_s = 0.0
    packs_ahead = 0

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def get(self, kind: FileKind, name: str) -> bytes:
        try:
            return self.files[relative_path(kind, name)]
        except KeyError as error:
            raise FileMissing(f"{kind.value} file {name} is missing") from error

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self.get(kind, name)[offset : offset + length]

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        self.files[relative_path(kind, name)] = bytes(data)

    def begin_pack(self) -> "_Upload":
        return _Upload(self)

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        for path, content in list(self.files.items()):
            if path.split("/")[0] == kind.value:
                yield path.rpartition("/")[2], len(content)

    def delete(self, kind: FileKind, name: str) -> None:
        self.files.pop(relative_path(kind, name), None)

    def exists(self, kind: FileKind, name: str) -> bool:
        return relative_path(kind, name) in self.files

    def delete_remains(self) -> None:
        pass

    def create(self) -> None:
        pass

    def reopened(self) -> "MemoryStore":
        return self

    def hurry(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Upload:
    def __init__(self, store: MemoryStore) -> None:
        self._store, self._content = store, bytearray()

    def write(self, piece: Buffer) -> None:
        self._content += piece

    def finish(self, name: str) -> None:
        self._store.put(FileKind.DATA, name, self._content)

    def abandon(self) -> None:
        pass


class Failure(Enum):
    """What becomes of a call that fails. DONE: it is done, and fails all the same. DEATH: its process is killed, undone."""

    REFUSED = "refused"
    DONE = "done"
    DEATH = "death"


class FaultyStore:
    """Any store, whose calls fail from the `first` one on, `count` of them; counted over all processes together."""

    def __init__(self, store: Store, failure: Failure | None = None, first: int = 1, count: int = 1) -> None:
        self._store, self._failure, self._failing = store, failure, range(first, first + count)
        self._calls = Value("i", 0)
        self.location, self.parallel_uploads, self.settle_s = store.location, store.parallel_uploads, store.settle_s
        self.packs_ahead = store.packs_ahead

    @property
    def calls(self) -> int:
        return int(self._calls.value)

    def get(self, kind: FileKind, name: str) -> bytes:
        return self._do(lambda: self._store.get(kind, name))

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self._do(lambda: self._store.get_range(kind, name, offset, length))

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        self._do(lambda: self._store.put(kind, name, data))

    def begin_pack(self) -> PackUpload:
        return _FaultyUpload(self._do(self._store.begin_pack), self._do)

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        return iter(self._do(lambda: list(self._store.list(kind))))

    def delete(self, kind: FileKind, name: str) -> None:
        self._do(lambda: self._store.delete(kind, name))

    def exists(self, kind: FileKind, name: str) -> bool:
        return self._do(lambda: self._store.exists(kind, name))

    def delete_remains(self) -> None:
        self._do(self._store.delete_remains)

    def create(self) -> None:
        self._do(self._store.create)

    def reopened(self) -> "FaultyStore":
        again = FaultyStore(self._store.reopened(), self._failure, self._failing.start, len(self._failing))
        again._calls = self._calls
        return again

    def hurry(self) -> None:
        self._store.hurry()

    def close(self) -> None:
        self._store.close()

    def _do(self, act: Callable[[], T]) -> T:
        with self._calls.get_lock():
            self._calls.value += 1
            number = self._calls.value
        if self._failure is None or number not in self._failing:
            return act()
        if self._failure is Failure.DEATH:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._failure is Failure.DONE:
            act()
        raise StoreUnreachable(f"call {number} of the store was made to fail")


class _FaultyUpload:
    def __init__(self, upload: PackUpload, do: Callable[[Callable[[], None]], None]) -> None:
        self._upload, self._do = upload, do

    def write(self, piece: Buffer) -> None:
        self._do(lambda: self._upload.write(piece))

    def finish(self, name: str) -> None:
        self._do(lambda: self._upload.finish(name))

    def abandon(self) -> None:
        self._upload.abandon()
