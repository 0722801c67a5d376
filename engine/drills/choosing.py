"""What a drill restores: all of a snapshot, or files of it that chance chooses, and what is to be found afterwards."""

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from secrets import SystemRandom

from engine.commands.ls import walk
from engine.errors import Cancelled, EngineError
from engine.node import Node
from engine.repository import Repository
from engine.snapshot import Snapshot

SAMPLE_FILES = 200
# Of so many drawn the sample takes those that fit it.
DRAWN = 5 * SAMPLE_FILES


@dataclass(frozen=True, slots=True)
class Choice:
    """`include`: paths inside the snapshot, none: all of it. `files`: contents to compare (a file with two names has one) of `size`
    bytes together; `of_files`: names of files that the snapshot has. `devices`: entries that only root can make.
    """

    include: Sequence[str]
    files: int
    size: int
    of_files: int
    devices: frozenset[bytes] = frozenset()


def choose_whole(repository: Repository, snapshot: Snapshot | str, goes_on: Callable[[], bool] = lambda: True) -> Choice:
    """Return the choice of everything. `goes_on` is asked at each entry.

    Raises EngineError if there is no file, or the snapshot cannot be read, and Cancelled if it is not to go on.
    """
    identities: set[tuple[int, int]] = set()
    devices: set[bytes] = set()
    files = size = names = 0
    for path, node in _entries(repository, snapshot, goes_on):
        if node.type in ("dev", "chardev"):
            devices.add(path)
        if node.type != "file":
            continue
        names += 1
        if (identity := node.link_identity) is not None:
            if identity in identities:
                continue
            identities.add(identity)
        files += 1
        size += node.size
    _require_files(names)
    return Choice((), files, size, names, frozenset(devices))


def choose_sample(
    repository: Repository, snapshot: Snapshot | str, limit: int, goes_on: Callable[[], bool] = lambda: True
) -> Choice:
    """Return the choice of up to 200 files by chance, of `limit` bytes together; of the smallest file if no drawn one is so small.

    Raises as `choose_whole` does.
    """
    chance = SystemRandom()
    drawn: list[tuple[float, int, bytes, Node]] = []
    smallest: tuple[bytes, Node] | None = None
    names = 0
    for path, node in _entries(repository, snapshot, goes_on):
        if node.type != "file":
            continue
        names += 1
        if smallest is None or node.size < smallest[1].size:
            smallest = path, node
        # The number tells two apart that drew the same.
        ticket = chance.random(), names, path, node
        if len(drawn) < DRAWN:
            heapq.heappush(drawn, ticket)
        elif ticket > drawn[0]:
            heapq.heapreplace(drawn, ticket)
    _require_files(names)
    chosen: list[tuple[bytes, Node]] = []
    size = 0
    for _, _, path, node in sorted(drawn, reverse=True):
        if len(chosen) < SAMPLE_FILES and size + node.size <= limit:
            chosen.append((path, node))
            size += node.size
    if not chosen:
        assert smallest is not None
        chosen = [smallest]
    contents = {node.link_identity or path: node.size for path, node in chosen}
    return Choice([os.fsdecode(path) for path, _ in chosen], len(contents), sum(contents.values()), names)


def _entries(repository: Repository, snapshot: Snapshot | str, goes_on: Callable[[], bool]) -> Iterator[tuple[bytes, Node]]:
    for entry in walk(repository, snapshot):
        if not goes_on():
            raise Cancelled
        yield entry


def _require_files(names: int) -> None:
    if not names:
        raise EngineError("the backup holds no file, so that there is nothing to compare")
