"""List what a snapshot holds: one directory by as many tree reads as its path has parts, or everything.

Both are safe beside other threads and start no processes, since the server browses with them.
"""

import os
from collections import Counter
from collections.abc import Iterator

from engine.blob import BlobType
from engine.errors import DataDamaged, PathNotFound
from engine.node import Node
from engine.repository import Repository
from engine.restorer import plan
from engine.snapshot import Snapshot, find_snapshot
from engine.tree import iter_nodes


def list_directory(repository: Repository, snapshot: Snapshot | str, path: bytes) -> list[Node]:
    """Return the entries of a directory inside the snapshot, in the order of their names.

    Raises PathNotFound if there is none at `path` or it is no directory, SnapshotNotFound, DataDamaged, StoreError.
    """
    node = find_node(repository, snapshot, path)
    if node.subtree is None:
        raise PathNotFound(f"{path.decode(errors='replace')} is no directory")
    return list(iter_nodes(repository.load_blob(BlobType.TREE, node.subtree)))


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
            entries = iter_nodes(repository.load_blob(BlobType.TREE, below))
            match = next((entry for entry in entries if entry.name == part), None)
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
    pending = [(here.rstrip(b"/"), node.subtree)]
    visits: Counter[bytes] = Counter()
    while pending:
        parent, subtree = pending.pop()
        if subtree is None:
            continue
        below: list[tuple[bytes, bytes | None]] = []
        for entry in iter_nodes(repository.load_blob(BlobType.TREE, subtree)):
            yield parent + b"/" + entry.name, entry
            if entry.is_dir:
                below.append((parent + b"/" + entry.name, entry.subtree))
        if below:
            visits[subtree] += 1
            if visits[subtree] > plan.VISITS_LIMIT:
                raise DataDamaged(f"{parent.decode(errors='replace')}: {plan.NESTED_TOO_OFTEN}")
        pending.extend(reversed(below))


def open_snapshot(repository: Repository, snapshot: Snapshot | str) -> Snapshot:
    """Return the snapshot, with the repository's index read. Raises SnapshotNotFound, DataDamaged, StoreError."""
    found = find_snapshot(repository, snapshot) if isinstance(snapshot, str) else snapshot
    # A name comes from outside: the snapshot may be younger than the index that was read, or a prune may have moved its blobs.
    if isinstance(snapshot, str) or not len(repository.index):
        repository.load_index()
    return found
