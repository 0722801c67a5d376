"""A hostile repository, or a target that was prepared, never makes a restore touch anything outside its target."""

import hashlib
import json
import os
from datetime import UTC, datetime

import pytest
import zstandard

from engine.blob import BlobType, PackedBlob
from engine.commands.restore import restore
from engine.crypto import OVERHEAD
from engine.index import IndexedPack
from engine.pack import encode_header
from engine.repository import Repository
from engine.snapshot import Snapshot, save_snapshot
from engine.store import FileKind

CONTENT = b"hostile content"


class Hostile:
    """Writes trees that no honest program would."""

    def __init__(self, repository):
        self.repository = repository

    def blob(self, content, blob_type=BlobType.DATA):
        blob_id = hashlib.sha256(content).digest()
        with self.repository.writer() as writer:
            writer.add_blob(blob_type, blob_id, content)
        return blob_id

    def tree(self, *nodes):
        return self.blob(json.dumps({"nodes": nodes}).encode(), BlobType.TREE)

    def snapshot(self, *nodes):
        return self.snapshot_of(self.tree(*nodes))

    def snapshot_of(self, tree):
        return save_snapshot(self.repository, Snapshot(datetime.now(UTC), tree, ("/",)))

    def file(self, name, content=CONTENT, **more):
        return node(name, "file", content=[self.blob(content).hex()], size=len(content), **more)

    def directory(self, name, *nodes):
        return node(name, "dir", mode=1 << 31 | 0o755, subtree=self.tree(*nodes).hex())


def node(name, kind, **more):
    times = dict.fromkeys(("mtime", "atime", "ctime"), "2024-01-01T00:00:00Z")
    return {"name": name, "type": kind, "mode": 0o644, **times, "uid": os.getuid(), "gid": os.getgid()} | more


@pytest.fixture
def hostile(repository):
    return Hostile(repository)


@pytest.fixture
def field(tmp_path):
    """A directory with a victim beside the target: nothing but the target may change."""
    root = tmp_path / "field"
    (root / "victims").mkdir(parents=True)
    (root / "victims" / "file").write_bytes(b"untouched")
    (root / "victims" / "file").chmod(0o600)
    (root / "target").mkdir()
    return root


@pytest.fixture
def run(repository, field):
    """Return a function that restores a snapshot and returns what was told; it checks the victims afterwards."""

    def restore_it(snapshot_id, **options):
        def state():
            entries = [field, field / "victims", *(field / "victims").iterdir()]
            return [(entry, entry.stat().st_mode, entry.stat().st_mtime_ns, entry.stat().st_nlink) for entry in entries]

        before = state()
        told = []
        fresh = Repository(repository.store, repository.key, repository.key_name, repository.config)
        summary = restore(fresh, snapshot_id, str(field / "target"), on_error=lambda *one: told.append(one), **options)
        assert state() == before
        assert (field / "victims" / "file").read_bytes() == b"untouched"
        assert sorted(entry.name for entry in field.iterdir()) == ["target", "victims"]
        assert summary.errors == len({path for path, _ in told})
        return told

    return restore_it


def found_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("kind", ["file", "dir", "symlink", "fifo"])
@pytest.mark.parametrize("name", ["..", ".", "", "/abs", "a/b", "../victims/file", "../victims/new", r"a\x00b", r"..\x2fx"])
def test_a_name_that_is_no_single_component_is_refused_and_the_others_are_restored(hostile, run, field, name, kind):
    made = {
        "file": lambda: hostile.file(name),
        "dir": lambda: hostile.directory(name, hostile.file("file")),
        "symlink": lambda: node(name, "symlink", linktarget="/etc"),
        "fifo": lambda: node(name, "fifo"),
    }[kind]()
    told = run(hostile.snapshot(hostile.file("first"), made, hostile.file("last")))
    assert [reason for _, reason in told] == ["the name could lead out of the target"]
    assert found_below(field / "target") == ["first", "last"]


def test_an_entry_that_cannot_be_made_leaves_what_stands_there(hostile, run, field):
    for name in ("socket", "irregular"):
        (field / "target" / name).write_bytes(b"precious")
    told = run(hostile.snapshot(node("socket", "socket"), node("irregular", "irregular")))
    assert told == [(b"/irregular", "the entry is of an unknown type (irregular)")]
    for name in ("socket", "irregular"):
        assert (field / "target" / name).read_bytes() == b"precious"


def test_a_name_that_stands_twice_is_made_once(hostile, run, field):
    told = run(hostile.snapshot(hostile.file("a", b"first"), hostile.file("a", b"second")))
    assert told == [(b"/a", "the name stands twice in its directory")]
    assert (field / "target" / "a").read_bytes() == b"first"


@pytest.mark.parametrize("link_first", [True, False])
def test_a_link_and_a_directory_of_one_name_do_not_lead_out(hostile, run, field, link_first):
    link = node("a", "symlink", linktarget="../victims")
    both = [link, hostile.directory("a", hostile.file("file"))]
    told = run(hostile.snapshot(*(both if link_first else both[::-1]), hostile.file("other")))
    assert b"/a" in {path for path, _ in told}
    assert (field / "target" / "other").read_bytes() == CONTENT


def test_a_link_that_has_entries_below_it_is_only_a_link(hostile, run, field):
    below = hostile.tree(hostile.file("file"), hostile.file("new")).hex()
    run(hostile.snapshot(node("a", "symlink", linktarget="../victims", subtree=below), hostile.file("other")))
    assert found_below(field / "target") == ["a", "other"]
    assert os.readlink(field / "target" / "a") == "../victims"


def test_metadata_of_a_link_is_not_given_to_what_it_points_to(hostile, run, field):
    outside = str(field / "victims" / "file")
    link = node("a", "symlink", linktarget=outside, mode=1 << 27 | 0o777, uid=12345, gid=12345)
    run(hostile.snapshot(link))
    assert os.readlink(field / "target" / "a") == outside
    assert (field / "victims" / "file").stat().st_uid == os.getuid()


def test_hard_links_join_nothing_but_what_was_restored(hostile, run, field):
    twin = {"inode": (field / "victims" / "file").stat().st_ino, "links": 2, "device_id": os.stat(field).st_dev}
    link = node("a", "symlink", linktarget="../victims/file", **twin)
    told = run(hostile.snapshot(link, hostile.file("b", **twin), hostile.file("c", **twin)))
    assert (field / "victims" / "file").stat().st_nlink == 1
    assert all(path in (b"/b", b"/c") for path, _ in told)


def test_a_hard_link_to_a_directory_is_no_hard_link(hostile, run, field):
    twin = {"inode": 7, "links": 2, "device_id": 1}
    directory = hostile.directory("a", hostile.file("inside")) | twin
    run(hostile.snapshot(directory, hostile.file("b", **twin)))
    assert (field / "target" / "b").read_bytes() == CONTENT


@pytest.mark.parametrize("overwrite", ["always", "if-changed", "if-newer"])
def test_links_that_were_planted_in_the_target_are_replaced_and_not_followed(hostile, run, field, overwrite):
    target = field / "target"
    os.symlink("../victims", target / "directory")
    os.symlink("../victims/file", target / "file")
    os.symlink("../victims/new", target / "dangling")
    os.utime(target / "file", ns=(1, 1), follow_symlinks=False)
    os.utime(target / "dangling", ns=(1, 1), follow_symlinks=False)
    names = ("file", "dangling")
    run(hostile.snapshot(hostile.directory("directory", hostile.file("file")), *map(hostile.file, names)), overwrite=overwrite)
    assert (target / "directory" / "file").read_bytes() == CONTENT
    assert not (target / "directory").is_symlink()
    for name in names:
        assert not (target / name).is_symlink()
        assert (target / name).read_bytes() == CONTENT


def test_a_hard_link_that_was_planted_in_the_target_is_not_written_through(hostile, run, field):
    os.link(field / "victims" / "file", field / "target" / "a")
    fresh_nlink = (field / "victims" / "file").stat().st_nlink
    assert fresh_nlink == 2
    with pytest.raises(AssertionError):  # the victim's number of links is the one thing that changes
        run(hostile.snapshot(hostile.file("a")))
    assert (field / "victims" / "file").read_bytes() == b"untouched"
    assert (field / "target" / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [0, 3, 1 << 20, 1 << 62, (1 << 64) - 1, -1])
def test_a_size_that_lies_is_told_and_takes_no_space(hostile, run, field, size):
    lying = hostile.file("lying") | {"size": size}
    told = run(hostile.snapshot(lying, hostile.file("honest")))
    assert {path for path, _ in told} <= {b"/lying", b"/"}
    assert told
    assert sum(path.stat().st_blocks for path in (field / "target").iterdir()) * 512 < 1 << 20


def test_a_frame_that_grows_beyond_what_the_index_says_is_refused(repository, hostile, run, field):
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    blob_id = hashlib.sha256(bytes(64 << 20)).digest()
    plant(repository, blob_id, bomb, claimed=1000)
    lying = node("bomb", "file", content=[blob_id.hex()], size=1000)
    told = run(hostile.snapshot(lying, hostile.file("honest")))
    assert told == [(b"/bomb", "compressed data claims an absurd size")]
    assert (field / "target" / "honest").read_bytes() == CONTENT


def test_a_frame_smaller_than_the_index_says_is_refused(repository, hostile, run, field):
    blob_id = hashlib.sha256(b"x" * 1000).digest()
    plant(repository, blob_id, zstandard.ZstdCompressor().compress(b"x" * 1000), claimed=(1 << 32) - 1)
    told = run(hostile.snapshot(node("bomb", "file", content=[blob_id.hex()], size=(1 << 32) - 1), hostile.file("honest")))
    assert {path for path, _ in told} == {b"/bomb"}
    assert (field / "target" / "honest").read_bytes() == CONTENT


def plant(repository, blob_id, frame, claimed):
    """Store a frame in a pack of its own, with a size that is not its own."""
    sealed = bytes(repository.key.seal(frame))
    blob = PackedBlob(BlobType.DATA, blob_id, 0, len(sealed), claimed)
    pack = sealed + encode_header([blob], repository.key)
    pack_id = hashlib.sha256(pack).digest()
    repository.store.put(FileKind.DATA, pack_id.hex(), pack)
    with repository.writer() as writer:
        writer.indexing.add_pack(IndexedPack(pack_id, [blob]), len(pack))
    assert len(sealed) == len(frame) + OVERHEAD


def test_directories_nested_without_end_are_cut_off(hostile, run, field, monkeypatch):
    monkeypatch.setattr("engine.walking.DEPTH_LIMIT", 40)
    tree = hostile.tree(hostile.file("leaf"))
    for _ in range(60):
        tree = hostile.tree(node("d", "dir", mode=1 << 31 | 0o755, subtree=tree.hex()))
    told = run(hostile.snapshot_of(tree))
    assert [reason for _, reason in told] == ["the directories are nested too deeply"]
    assert len(found_below(field / "target")) == 40


def test_paths_longer_than_the_system_allows_at_once_are_restored(hostile, run, field):
    tree = hostile.tree(hostile.file("leaf"))
    for _ in range(100):
        tree = hostile.tree(node("n" * 250, "dir", mode=1 << 31 | 0o755, subtree=tree.hex()))
    assert run(hostile.snapshot_of(tree)) == []
    directory = os.open(field / "target", os.O_RDONLY)
    for _ in range(100):
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    assert os.listdir(directory) == ["leaf"]
    os.close(directory)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "a"},
        {"name": "a", "type": "file", "mode": "x"},
        {"name": "a", "type": "file", "uid": -1},
        {"name": "a", "type": "file", "gid": 1 << 40},
        {"name": "a", "type": "file", "size": 1.5},
        {"name": "a", "type": "symlink", "linktarget": "a\0b"},
        {"name": "a", "type": "file", "extended_attributes": [{"name": "user.a\0b", "value": ""}]},
        {"name": "a", "type": "file", "extended_attributes": [{"name": 5, "value": ""}]},
        {"name": 5, "type": "file"},
        {"name": r"\q", "type": "file"},
        {"name": "a", "type": "file", "content": ["zz"]},
        [],
        None,
        7,
    ],
)
def test_an_entry_that_is_no_entry_is_told_and_other_directories_are_restored(hostile, run, field, broken):
    bad = node("bad", "dir", mode=1 << 31 | 0o755, subtree=hostile.tree(broken).hex())
    told = run(hostile.snapshot(bad, hostile.directory("good", hostile.file("file"))))
    assert told
    assert all(path.startswith(b"/bad") for path, _ in told)
    assert (field / "target" / "good" / "file").read_bytes() == CONTENT


def test_an_unknown_type_and_a_socket_are_told_and_the_others_are_restored(hostile, run, field):
    told = run(hostile.snapshot(node("odd", "teapot"), hostile.file("file")))
    assert [path for path, _ in told] == [b"/odd"]
    assert found_below(field / "target") == ["file"]


def test_absurd_metadata_is_told_and_the_content_is_restored(hostile, run, field):
    attribute = {"name": "user." + "x" * 300, "value": "AA=="}
    odd = hostile.file("odd", extended_attributes=[attribute], mtime="9999-12-31T23:59:59Z")
    told = run(hostile.snapshot(odd, hostile.file("file")))
    assert [path for path, _ in told] == [b"/odd"]
    assert (field / "target" / "odd").read_bytes() == CONTENT
