"""Listing and dumping show what is in a snapshot, as restic would."""

import hashlib
import io
import os
import tarfile
from datetime import UTC, datetime

import pytest

from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.dump import dump_file, dump_tar
from engine.commands.ls import PathNotFound, find_node, list_directory, walk
from engine.compare import compare_trees
from engine.errors import DataDamaged
from engine.node import Node
from engine.snapshot import Snapshot
from engine.tree import encode_tree


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


def test_directories_nested_over_and_over_again_are_damage_and_no_endless_walk(repository, monkeypatch):
    monkeypatch.setattr("engine.restorer.plan.VISITS_LIMIT", 50)
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
