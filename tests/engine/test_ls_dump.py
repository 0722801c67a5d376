"""Listing and dumping show what is in a snapshot, as restic would."""

import hashlib
import io
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime

import pytest

from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.dump import dump_file, dump_tar
from engine.commands.ls import PathNotFound, find_node, list_directory, walk
from engine.compare import compare_trees
from engine.errors import DataDamaged
from engine.node import Node
from engine.repository import Repository
from engine.snapshot import Snapshot
from engine.store import FileKind
from engine.tree import encode_tree
from tests.engine.conftest import PASSWORD


@pytest.fixture
def saved(repository, source):
    return backup(repository, [source], host="h").snapshot_id


@pytest.mark.restic
def test_walking_lists_what_restic_lists(repository, location, source, saved, restic):
    paths = [path for path, _ in walk(repository, saved)]
    listed = restic(location, "ls", "latest", "--json").splitlines()[1:]
    assert len(paths) == len(listed) == len(set(paths))
    assert {os.fsencode(source) + b"/" + name for name in os.listdir(os.fsencode(source))} <= set(paths)


def test_a_directory_is_listed_in_the_order_of_its_names(repository, source, saved):
    names = [node.name for node in list_directory(repository, saved, os.fsencode(source))]
    assert names == sorted(os.listdir(os.fsencode(source)))
    assert [node.name for node in list_directory(repository, saved, b"/")] == [os.fsencode(source).split(b"/")[1]]


def test_walking_from_a_path_shows_it_first(repository, source, saved):
    top = os.fsencode(source) + b"/deep"
    assert next(path for path, _ in walk(repository, saved, top + b"/")) == top
    assert top + b"/a/b/leaf" in {path for path, _ in walk(repository, saved, top)}


@pytest.mark.parametrize("path", [b"/nothing", b"/tmp/nothing", b"/../tmp"])
def test_a_path_that_is_not_there_is_told(repository, saved, path):
    with pytest.raises(PathNotFound):
        find_node(repository, saved, path)


def test_a_file_is_no_directory_and_a_directory_no_file(repository, source, saved):
    file, directory = os.fsencode(source) + b"/plain.txt", os.fsencode(source)
    for call, path in ((list_directory, file), (dump_tar, file), (dump_file, directory)):
        with pytest.raises(PathNotFound):
            call(repository, saved, path)


@pytest.mark.parametrize("name", [b"plain.txt", b"chunks", b"sparse", b"empty", b"not utf-8 \xff\xfe"])
def test_a_file_is_dumped_whole(repository, source, saved, name):
    path = os.fsencode(source) + b"/" + name
    with open(path, "rb") as file:
        assert b"".join(dump_file(repository, saved, path)) == file.read()


@pytest.mark.root
def test_a_directory_is_dumped_as_a_tar_archive_of_all_in_it(repository, source, saved, tmp_path):
    archive = b"".join(dump_tar(repository, saved, os.fsencode(source)))
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as tar:
        tar.extractall(tmp_path / "out", numeric_owner=True, filter="fully_trusted")
    kept = [line for line in compare_trees(os.fsencode(source), os.fsencode(tmp_path / "out"))
            if "modification time" not in line and "extended attributes" not in line]  # fmt: skip
    assert kept == []


@pytest.mark.restic
def test_a_repository_that_stays_open_follows_a_prune(repository, location, source, restic):
    older, younger = source / "older", source / "younger"
    older.write_bytes(os.urandom(1000))
    forgotten = backup(repository, [source], host="h").snapshot_id
    older.rename(younger)
    younger.write_bytes(os.urandom(1000))
    kept = backup(repository, [source], host="h").snapshot_id
    opened = Repository.open(repository.store, PASSWORD)
    assert list_directory(opened, forgotten, b"/")
    # The pack that holds the older file holds also what did not change.
    restic(location, "forget", forgotten, "--prune", "--max-unused", "0")
    for path in (source / "plain.txt", younger):
        assert b"".join(dump_file(opened, kept, os.fsencode(path))) == path.read_bytes()


def test_nobody_reads_from_an_index_that_another_is_still_reading(repository, source, saved, monkeypatch):
    store = repository.store
    first = {name for name, _ in store.list(FileKind.INDEX)}
    (source / "younger").write_text("younger")
    younger = backup(repository, [source], host="h").snapshot_id
    last, = {name for name, _ in store.list(FileKind.INDEX)} - first  # fmt: skip
    opened = Repository.open(store, PASSWORD)
    held, released = threading.Event(), threading.Event()
    get, names = store.get, store.list

    def get_slowly(kind, name):
        if name == last:
            held.set()
            released.wait()
        return get(kind, name)

    monkeypatch.setattr(store, "get", get_slowly)
    monkeypatch.setattr(store, "list", lambda kind: sorted(names(kind), key=lambda file: file[0] == last))
    with ThreadPoolExecutor() as threads:
        one = threads.submit(list_directory, opened, younger, os.fsencode(source))
        held.wait()
        other = threads.submit(list_directory, opened, younger, os.fsencode(source))
        # It ends at once only if it does not wait for the index.
        wait([other], timeout=0.3)
        released.set()
        assert one.result() == other.result()
def test_directories_nested_over_and_over_again_are_damage_and_no_endless_walk(repository, monkeypatch):
    monkeypatch.setattr("engine.walking.VISITS_LIMIT", 50)
    nodes = [Node(b"leaf", "file", content=())]
    with repository.writer() as writer:
        for _ in range(12):
            content = encode_tree(nodes)
            tree = hashlib.sha256(content).digest()
            writer.add_blob(BlobType.TREE, tree, content)
            nodes = [Node(name, "dir", subtree=tree) for name in (b"a", b"b")]
    bomb = Snapshot(datetime.now(UTC), tree, ("/",))
    with pytest.raises(DataDamaged, match="over and over again"):
        list(walk(repository, bomb))
