"""A small repository with something to prune, and what can be seen of one."""

import os
import shutil
from pathlib import Path

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.dump import dump_file
from engine.commands.forget import forget
from engine.commands.ls import walk
from engine.commands.snapshots import list_snapshots
from engine.index import decode_index
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.conftest import PASSWORD

FILE_SIZE = 10_000
PACK_SIZE = 4 * FILE_SIZE


_opened: dict[bytes, Repository] = {}


def opened(location: Path) -> Repository:
    """The repository, opened anew; the key of each is derived once, since that takes its time."""
    store, config = open_store(str(location)), (location / "config").read_bytes()
    if config not in _opened:
        _opened[config] = Repository.open(store, PASSWORD)
    known = _opened[config]
    return Repository(store, known.key, known.key_name, known.config)


def write_files(source: Path, numbers) -> None:
    source.mkdir(exist_ok=True)
    for number in numbers:
        (source / str(number)).write_bytes(os.urandom(FILE_SIZE))


def fill(location: Path, source: Path) -> None:
    """Three snapshots of twelve files, of which the first is forgotten: most packs hold what is needed and what is not."""
    write_files(source, range(12))
    first = backup(opened(location), [source], host="h")
    write_files(source, (0, 5, 10))
    backup(opened(location), [source], host="h")
    write_files(source, (1,))
    backup(opened(location), [source], host="h")
    forget(opened(location), [first.snapshot_id])


def contents(location: Path) -> dict[str, dict[bytes, bytes]]:
    """The content of every file of every snapshot."""
    repository = opened(location)
    found = {}
    for snapshot in list_snapshots(repository):
        names = [path for path, node in walk(repository, snapshot) if node.type == "file"]
        found[snapshot.id] = {path: b"".join(dump_file(repository, snapshot, path)) for path in names}
    return found


def needed(location: Path) -> set[bytes]:
    """The ids of all blobs that snapshots lead to."""
    repository, found = opened(location), set()
    for snapshot in list_snapshots(repository):
        found.add(snapshot.tree)
        for _, node in walk(repository, snapshot):
            found.update(node.content or ())
            found.update([node.subtree] if node.subtree else ())
    return found


def files(location: Path) -> dict[str, bytes]:
    """Every file of the repository, locks aside."""
    found = (path for path in location.rglob("*") if path.is_file() and path.parent.name != "locks")
    return {str(path.relative_to(location)): path.read_bytes() for path in found}


def packs(location: Path) -> set[str]:
    return {path.name for path in (location / "data").glob("*/*")}


def add_files(location: Path, other: Path) -> None:
    """Put the packs and index files of another state of the repository beside those that are there."""
    for path in (*other.glob("data/*/*"), *other.glob("index/*")):
        shutil.copy(path, location / path.relative_to(other))


def blobs_in(location: Path) -> list[tuple[str, list]]:
    """For each pack that index files name, its id and its blobs."""
    repository = opened(location)
    return [
        (pack.id.hex(), pack.blobs)
        for name, _ in repository.store.list(FileKind.INDEX)
        for pack in decode_index(repository.load_file(FileKind.INDEX, name))
    ]
