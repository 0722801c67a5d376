"""What the archiver and its worker processes say to each other. Entries of trees travel as the JSON that is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.errors import EngineError
from engine.node import Node


@dataclass(frozen=True, slots=True)
class DirectoryJob:
    """List a directory, or those of its entries that have `names`.

    What the parent snapshot has of it is the tree with the id `previous_tree`, or the content `previous` of a tree.
    `are_targets`: somebody asked for these names, so that one that is not there is missed.
    """

    number: int
    path: bytes
    previous_tree: bytes | None = None
    names: tuple[bytes, ...] | None = None
    previous: bytes | None = None
    are_targets: bool = False


@dataclass(frozen=True, slots=True)
class Subdirectory:
    """An entry that waits for its tree. `head`: its JSON up to the content; `is_same`: nothing of it but the tree may differ."""

    name: bytes
    head: str
    is_same: bool
    previous_tree: bytes | None


@dataclass(frozen=True, slots=True)
class LargeFile:
    """An entry that waits for threads to read it."""

    name: bytes
    previous: Node | None


@dataclass(slots=True)
class Counts:
    """What became of files and directories, in entries and bytes of content."""

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    bytes_total: int = 0

    def add(self, other: Counts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count_file(self, previous: Node | None, node: Node) -> None:
        self.bytes_total += node.size
        if previous is None:
            self.files_new += 1
        elif previous == node:
            self.files_unmodified += 1
        else:
            self.files_changed += 1

    @property
    def files_total(self) -> int:
        return self.files_new + self.files_changed + self.files_unmodified


@dataclass(slots=True)
class Listing:
    """A directory's entries in the order of their names: ready JSON, or what is still to be done.

    `unreadable` has paths with the reason; what could not be read at all has no entry. `is_unchanged`: every entry is as the
    parent snapshot's tree has it, and none of them is a directory; the entries are then left out, and the tree stands.
    """

    number: int
    is_unchanged: bool = False
    entries: list[str | Subdirectory | LargeFile] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Split:
    """A directory too large for one worker, in parts."""

    number: int
    parts: list[DirectoryJob]


@dataclass(frozen=True, slots=True)
class Results:
    """What a worker found; `is_last`: it has done all of the jobs that came in one message."""

    found: list[Listing | Split]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Which of these blobs (32-byte ids, joined; sizes in bytes) are new? Those that are will be packed by who asks."""

    ids: bytes
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """A byte for each id of the question, 1 if the blob is new."""

    is_new: bytes


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack that is stored; `blobs` are id, offset, stored length and uncompressed length."""

    id: bytes
    size: int
    blobs: list[tuple[bytes, int, int, int]]


class Flush:
    """Store everything that is left."""


class Flushed:
    """Everything is stored."""


class Stop:
    """Give up what is not stored."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The worker cannot go on."""

    error: EngineError


FromArchiver = list[DirectoryJob] | Answer | Flush | Stop
FromWorker = Results | Question | StoredPack | Flushed | Failure
