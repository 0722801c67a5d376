"""List what a snapshot holds: one directory by as many tree reads as its path has parts, or everything.

Both are safe beside other threads and start no processes, since the server browses with them.
"""

import os
from collections.abc import Iterator

from msgspec.structs import replace

from engine.errors import PathNotFound, TooLarge
from engine.node import Node
from engine.repository import Repository
from engine.snapshot import Snapshot, find_snapshot
from engine.treereader import read_nodes
from engine.walking import Itinerary

# What a directory that is returned as a whole may have; `walk` takes any.
ENTRIES_LIMIT = 100_000
TEXT_LIMIT = 64 << 20


def list_directory(repository: Repository, snapshot: Snapshot | str, path: bytes) -> list[Node]:
    """Return the entries of a directory inside the snapshot, in the order of their names, without contents and attributes.

    Raises PathNotFound if there is none at `path` or it is no directory, TooLarge if it has more than can be returned at once,
    SnapshotNotFound, DataDamaged, StoreError.
    """
    node = find_node(repository, snapshot, path)
    if node.subtree is None:
        raise PathNotFound(f"{path.decode(errors='replace')} is no directory")
    entries: list[Node] = []
    size = 0
    for entry in read_nodes(repository, node.subtree):
        entries.append(replace(entry, content=None, xattrs=()))
        size += sum(map(len, (entry.name, entry.linktarget, entry.user, entry.group)))
        if len(entries) > ENTRIES_LIMIT or size > TEXT_LIMIT:
            raise TooLarge(f"{path.decode(errors='replace')} has too many entries to be listed at once")
    return entries


def find_node(repository: Repository, snapshot: Snapshot | str, path: bytes) -> Node:
    """Return the entry at an absolute path inside the snapshot; the root is a directory without a name.

    Raises PathNotFound, SnapshotNotFound, DataDamaged, StoreError.
    """
    found = open_snapshot(repository, snapshot)
    node = Node(b"", "dir", subtree=found.tree)
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        below = node.subtree
        match = None
        if below is not None:
            match = next((entry for entry in read_nodes(repository, below) if entry.name == part), None)
        if match is None:
            raise PathNotFound(f"the snapshot has nothing at {path.decode(errors='replace')}")
        node = match
    return node


def open_directory(repository: Repository, name: str) -> tuple[Snapshot, bytes]:
    """Return a snapshot, and the id of the tree of a directory in it, by `SNAPSHOT` (its root) or `SNAPSHOT:/FOLDER`.

    Raises PathNotFound if there is no directory, SnapshotNotFound, DataDamaged, StoreError.
    """
    snapshot_name, _colon, folder = name.partition(":")
    snapshot = open_snapshot(repository, snapshot_name)
    node = find_node(repository, snapshot, os.fsencode(folder))
    if node.subtree is None:
        raise PathNotFound(f"{folder} is no directory")
    return snapshot, node.subtree


def walk(repository: Repository, snapshot: Snapshot | str, path: bytes = b"/") -> Iterator[tuple[bytes, Node]]:
    """Yield every entry below `path` (and the one at `path`, unless it is the root) with its absolute path.

    A directory comes before its entries. Raises as `find_node` does, DataDamaged also for a snapshot made to have no end.
    """
    node = find_node(repository, snapshot, path)
    here = b"/" + b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    if node.name:
        yield here, node
    if node.subtree is None:
        return
    itinerary = Itinerary(repository, here.rstrip(b"/"), node.subtree)
    while (stop := itinerary.next()) is not None:
        parent, tree = stop
        entries = 0
        for entry in read_nodes(repository, tree):
            entries += 1
            yield parent + b"/" + entry.name, entry
            if entry.is_dir and entry.subtree is not None:
                itinerary.note(entry.name, entry.subtree)
        itinerary.visited(entries)


def open_snapshot(repository: Repository, snapshot: Snapshot | str) -> Snapshot:
    """Return the snapshot, with the repository's index read. Raises SnapshotNotFound, DataDamaged, StoreError."""
    found = find_snapshot(repository, snapshot) if isinstance(snapshot, str) else snapshot
    # A name comes from outside: the snapshot may be younger than the index that was read, or a prune may have moved its blobs.
    if isinstance(snapshot, str) or not len(repository.index):
        repository.load_index()
    return found
