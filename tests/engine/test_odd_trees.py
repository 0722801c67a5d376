"""The oddest tree that Linux can hold comes back with no difference, and restic has it to the byte as we do."""

import os
import re
import stat
import subprocess

import pytest

from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.dump import dump_tar
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.snapshot import iter_snapshots
from engine.tree import iter_raw_nodes
from tests.engine.trees import write_every_kind

# restic 0.14 and 0.18 make entries that are no files anew for each of their names.
LINKED = {f"linked/{kind}-2: is not a hard link of the same file" for kind in ("symlink", "fifo", "chardev")}
# restic before 0.16 keeps no target that is not UTF-8.
DANGLING = "every kind/dangling: links to another target"


@pytest.fixture
def odd(tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    write_every_kind(root / "every kind")
    (root / "bytes").mkdir()
    for byte in set(range(1, 256)) - {ord("/")}:
        for name in (bytes([byte]), b"in %c between" % byte, b"...%c" % byte):
            if name != b".":
                (root / "bytes" / os.fsdecode(name)).touch()
    (root / "many").mkdir()
    for number in range(3000):
        (root / "many" / f"{number}").touch()
    (root / "deep" / "/".join(["d" * 250] * 13)).mkdir(parents=True)
    linked = root / "linked"
    linked.mkdir()
    os.symlink("line \u2028 \u2029 separators <&>", linked / "symlink-1")
    os.mkfifo(linked / "fifo-1")
    os.mkfifo(linked / "fifo alone")
    (linked / "file-1").write_bytes(b"content")
    if os.geteuid() == 0:
        os.mknod(linked / "chardev-1", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for first in linked.glob("*-1"):
        os.link(first, first.with_name(first.name.replace("1", "2")), follow_symlinks=False)
    return root


@pytest.mark.root
def test_we_restore_it_with_no_difference(repository, odd, tmp_path):
    saved = backup(repository, [odd], host="h")
    summary = restore(repository, saved.snapshot_id, str(tmp_path / "target"), verify=True)
    assert (saved.errors, summary.errors) == (0, 0)
    assert compare_trees(os.fsencode(odd), os.fsencode(f"{tmp_path}/target{odd}")) == []


@pytest.mark.root
@pytest.mark.restic
def test_restic_restores_what_we_saved_as_well_as_it_can(repository, location, odd, tmp_path, restic):
    backup(repository, [odd], host="h")
    assert "no errors were found" in restic(location, "check", "--read-data")
    restic(location, "restore", "latest", "--target", tmp_path / "target")
    differences = set(compare_trees(os.fsencode(odd), os.fsencode(f"{tmp_path}/target{odd}")))
    assert differences - LINKED - {DANGLING} == set()


@pytest.mark.root
@pytest.mark.restic
def test_we_restore_what_restic_saved_and_hard_links_that_restic_does_not(repository, location, odd, tmp_path, restic):
    restic(location, "backup", odd)
    assert restore(repository, "latest", str(tmp_path / "target"), verify=True).errors == 0
    differences = set(compare_trees(os.fsencode(odd), os.fsencode(f"{tmp_path}/target{odd}")))
    assert differences - {DANGLING} == set()


@pytest.mark.restic
def test_our_trees_are_to_the_byte_those_of_restic(repository, location, odd, restic):
    (odd / "every kind" / "dangling").unlink()
    backup(repository, [odd], host="h")
    # With ours as parent: how content is cut into blobs is free.
    restic(location, "backup", "--host", "h", odd)
    ours, theirs = sorted(iter_snapshots(repository), key=lambda snapshot: snapshot.time)
    repository.load_index()
    outside = {os.fsencode(part) for part in odd.parts[1:-1]}

    def compare(ours, theirs):
        ours, theirs = (list(iter_raw_nodes(repository.load_blob(BlobType.TREE, tree))) for tree in (ours, theirs))
        assert [node.name for node in ours] == [node.name for node in theirs]
        for our, their in zip(ours, theirs, strict=True):
            # The repository lies beside the tree, in a directory that each backup changes.
            if our.name not in outside:
                assert without_ids(our.text) == without_ids(their.text)
            if our.subtree:
                compare(bytes.fromhex(our.subtree), bytes.fromhex(their.subtree))

    compare(ours.tree, theirs.tree)
    # From 0.15 on restic can do both, and refuses a tree of which any byte is not as it would write it.
    if "rewrite" in restic(location, "help"):
        assert "modified 2 snapshots" in restic(location, "rewrite", "--exclude", f"{odd}/bytes/x")
        assert "no snapshots were modified" in restic(location, "repair", "snapshots")


def without_ids(node):
    """A node's JSON without its subtree's id and its device, which restic writes even where it tells no hard links apart."""
    return re.sub(r'"device_id":\d+,|"subtree":"\w+"', "", node)


@pytest.mark.root
def test_a_tar_of_it_has_its_hard_links(repository, odd, tmp_path):
    saved = backup(repository, [odd], host="h").snapshot_id
    (tmp_path / "tar").write_bytes(b"".join(dump_tar(repository, saved, os.fsencode(odd / "linked"))))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "tar", "-C", tmp_path / "out"], check=True)
    differences = compare_trees(os.fsencode(odd / "linked"), os.fsencode(tmp_path / "out"))
    assert [line for line in differences if "modification time" not in line] == []


def test_a_path_longer_than_the_system_takes_is_told_and_the_rest_is_saved(repository, tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()
    monkeypatch.chdir(tmp_path / "source")
    for _ in range(20):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    told = []
    summary = backup(repository, [tmp_path / "source"], host="h", on_unreadable=lambda path, why: told.append(why))
    assert told == ["file name too long"]
    assert (summary.errors, summary.files_total) == (1, 1)
