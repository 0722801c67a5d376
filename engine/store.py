"""What a repository needs of the place it is kept in: named files of six kinds.

The layout is restic's default one: `config` at the top, the other kinds in directories, data files spread over 256
directories by the first two digits of their names. Specified in restic's design document, "Repository Layout".
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class FileKind(Enum):
    """The kinds of files in a repository; the value is the directory's name."""

    CONFIG = "config"
    KEYS = "keys"
    LOCKS = "locks"
    SNAPSHOTS = "snapshots"
    INDEX = "index"
    DATA = "data"


_NAME = re.compile("[0-9a-f]{64}")


def is_file_name(name: str) -> bool:
    """Whether a repository's files, but for the configuration, are named like this. What is not is somebody else's."""
    return _NAME.fullmatch(name) is not None


def relative_path(kind: FileKind, name: str) -> str:
    """Return the path of a file below the repository's root, with `/` between its parts."""
    if kind is FileKind.CONFIG:
        return "config"
    if kind is FileKind.DATA:
        return f"data/{name[:2]}/{name}"
    return f"{kind.value}/{name}"


class PackUpload(Protocol):
    """A pack that is being written, piece by piece, from one thread at a time; it shows in the store when it is finished."""

    def write(self, piece: Buffer) -> None:
        """Append a piece, which may be changed afterwards."""

    def finish(self, name: str) -> None:
        """Give the pack its name: it is there complete or not at all."""

    def abandon(self) -> None:
        """Leave nothing of it behind. Never raises."""


class Store(Protocol):
    """A place for files. Every method may be called from several threads at once; all raise StoreError's family."""

    @property
    def location(self) -> str:
        """The place as a person would name it, without secrets."""

    @property
    def parallel_uploads(self) -> int:
        """How many packs are worth writing at once; each takes its size in memory."""

    @property
    def packs_ahead(self) -> int:
        """How many packs are worth reading while one is worked on; each takes what is read of it in memory."""

    @property
    def settle_s(self) -> float:
        """For how many seconds others may not see in a listing what was written."""

    def get(self, kind: FileKind, name: str) -> bytes:
        """Return the whole file. Raises FileMissing, and TooLarge for one beyond `bounds.FILE_BYTES`, which is not read."""

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer if the file ends before. Raises FileMissing."""

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        """Write the whole file; it appears complete or not at all."""

    def begin_pack(self) -> PackUpload:
        """Begin a data file whose name will be known at its end."""

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of each file of a kind, in no particular order.

        What has no name of a repository's file is left out, but for what lies among the packs.
        """

    def delete(self, kind: FileKind, name: str) -> None:
        """Delete the file; one that is not there is no error."""

    def exists(self, kind: FileKind, name: str) -> bool: ...

    def delete_remains(self) -> None:
        """Delete what writes of data, index and snapshot files that were cut off have left beside them; none may be going on."""

    def create(self) -> None:
        """Make the place itself (bucket or directory) if it does not exist."""

    def reopened(self) -> "Store":
        """Return a store of the same place for another process: nothing of this one's connections is shared."""

    def hurry(self) -> None:
        """Repeat nothing and hold nothing back from now on, in forked processes neither: the caller wants to end."""

    def close(self) -> None: ...


class UnpackedFiles(Protocol):
    """What snapshots and locks need of a repository: files that lie in no pack, sealed each by itself."""

    store: Store

    def load_file(self, kind: FileKind, name: str) -> bytes:
        """Return the plaintext of a file. Raises FileMissing, DataDamaged."""

    def save_file(self, kind: FileKind, payload: bytes) -> str:
        """Write a file and return its name."""
