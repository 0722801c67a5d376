"""Comparing two snapshots tells what restic tells, reads no more than it must, and goes on past damage."""

import json
import os
import shutil
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.diff import diff
from engine.commands.ls import find_node, open_directory
from engine.errors import Cancelled, PathNotFound
from engine.node import Node
from engine.repository import Repository
from engine.snapshot import Snapshot, save_snapshot
from tests.engine.conftest import PASSWORD
from tests.engine.trees import save_tree


def make(root):
    """A directory with something of each kind that can change."""
    for folder in ("changed/deep", "removed", "same/below", "becomes file"):
        (root / folder).mkdir(parents=True)
    (root / "changed" / "content").write_bytes(b"old")
    (root / "changed" / "mode").touch()
    (root / "changed" / "becomes directory").symlink_to("content")
    (root / "changed" / os.fsdecode(b"\xff<&>\n")).write_bytes(b"odd")
    (root / "removed" / "file").write_bytes(b"only once")
    os.mkfifo(root / "removed" / "fifo")
    (root / "same" / "below" / "file").write_bytes(os.urandom(2000))
    (root / "becomes file" / "in it").write_bytes(b"is not told")


def change(root):
    (root / "changed" / "content").write_bytes(b"new!")
    (root / "changed" / "mode").chmod(0o600)
    (root / "changed" / "becomes directory").unlink()
    (root / "changed" / "becomes directory").mkdir()
    (root / "changed" / os.fsdecode(b"\xff<&>\n")).unlink()
    (root / "changed" / "deep" / "er" / "still").mkdir(parents=True)
    (root / "changed" / "deep" / "er" / "copy").write_bytes((root / "same" / "below" / "file").read_bytes())
    shutil.rmtree(root / "removed")
    shutil.rmtree(root / "becomes file")
    (root / "becomes file").write_bytes(b"a file")
    shutil.copytree(root / "same", root / "copied")


@pytest.fixture(scope="module")
def compared(empty_repository, tmp_path_factory):
    """A repository with two snapshots of a tree, before and after the changes: its place, the tree's, and their ids."""
    place = tmp_path_factory.mktemp("compared")
    location, root = shutil.copytree(empty_repository, place / "repository"), place / "tree"
    repository = Repository.open(open_store(str(location)), PASSWORD)
    ids = []
    for step in (make, change):
        step(root)
        ids.append(backup(repository, [root], host="h").snapshot_id)
    return location, root, tuple(ids)


@pytest.fixture
def location(compared, tmp_path):
    return shutil.copytree(compared[0], tmp_path / "repository")


@pytest.fixture
def tree(compared):
    return compared[1]


@pytest.fixture
def two(compared):
    return compared[2]


def compare(repository, before, after, **options):
    """Return the changes as a dictionary from path to letters, and the statistics."""
    changes = []
    trees = [open_directory(repository, name)[1] for name in (before, after)]
    statistics = diff(repository, *trees, on_change=changes.append, **options)
    assert len({change.path for change in changes}) == len(changes)
    return {change.path: change.modifier for change in changes}, statistics


def below(root, path):
    return os.fsencode(root) + b"/" + path


def test_each_kind_of_change_is_told_by_its_letter(repository, tree, two):
    changes, statistics = compare(repository, *two)
    assert changes == {
        below(tree, path): letter
        for path, letter in {
            b"becomes file": "T",
            b"changed/becomes directory/": "T",
            b"changed/content": "M",
            b"changed/deep/er/": "+",
            b"changed/deep/er/copy": "+",
            b"changed/deep/er/still/": "+",
            b"changed/\xff<&>\n": "-",
            b"copied/": "+",
            b"copied/below/": "+",
            b"copied/below/file": "+",
            b"removed/": "-",
            b"removed/fifo": "-",
            b"removed/file": "-",
        }.items()
    }
    assert (statistics.changed_files, statistics.errors) == (1, 0)
    assert (statistics.added.files, statistics.added.dirs, statistics.added.others) == (2, 4, 0)
    assert (statistics.removed.files, statistics.removed.dirs, statistics.removed.others) == (2, 1, 1)


def test_metadata_is_told_on_request(repository, tree, two):
    changes, _ = compare(repository, *two, metadata=True)
    assert changes[below(tree, b"changed/mode")] == "U"
    assert changes[below(tree, b"changed/content")] == "M"
    assert changes[below(tree, b"becomes file")] == "TU"
    assert below(tree, b"same/") not in changes


def test_content_that_is_elsewhere_in_the_other_snapshot_is_neither_added_nor_removed(repository, tree, two):
    _, statistics = compare(repository, *two)
    # Of files: the new contents of one, and of the one that was a directory; "copy" is that of a file that stayed.
    assert (statistics.added.data_blobs, statistics.removed.data_blobs) == (2, 3)
    back, _ = compare(repository, two[1], two[0])
    assert back[below(tree, b"removed/file")] == "+"


def test_a_snapshot_does_not_differ_from_itself_and_nothing_is_read(repository, two, monkeypatch):
    trees = [open_directory(repository, two[0])[1]] * 2
    monkeypatch.setattr(repository, "load_blob", lambda *_: pytest.fail("a tree was read"))
    statistics = diff(repository, *trees, on_change=lambda _: pytest.fail("a change was told"))
    assert (statistics.added.bytes, statistics.removed.bytes) == (0, 0)


def test_changes_are_found_before_what_is_the_same_is_read_and_then_it_is_read_once(repository, tree, two, monkeypatch):
    trees = [open_directory(repository, name)[1] for name in two]
    same = find_node(repository, two[0], below(tree, b"same")).subtree
    read, read_early = [], []
    load = repository.load_blob
    monkeypatch.setattr(repository, "load_blob", lambda kind, blob: (read.append(blob), load(kind, blob))[1])
    diff(repository, *trees, on_change=lambda _: read_early.append(same in read))
    assert (len(read_early), any(read_early), read.count(same)) == (13, False, 1)


def test_folders_of_snapshots_are_compared_by_the_paths_in_them(repository, tree, two):
    names = [f"{two[0]}:{tree}/removed", f"{two[1]}:{tree}/same/below"]
    changes, _ = compare(repository, *names)
    assert changes == {b"/file": "M", b"/fifo": "-"}
    with pytest.raises(PathNotFound, match="is no directory"):
        open_directory(repository, f"{two[0]}:{tree}/removed/file")


def changes_of(repository, before, after, **options):
    """Compare two lists of nodes."""
    changes = []
    diff(repository, save_tree(repository, *before), save_tree(repository, *after), on_change=changes.append, **options)
    return [(change.path, change.modifier) for change in changes]


def test_other_content_although_nothing_else_changed_is_shown_to_be_damage(repository):
    old, new = (Node(b"f", "file", inode=5, size=1, device_id=1, content=(bytes([number]) * 32,)) for number in (1, 2))
    assert changes_of(repository, [old], [new]) == [(b"/f", "M?")]
    assert changes_of(repository, [old], [replace(new, inode=6)]) == [(b"/f", "M")]
    assert changes_of(repository, [old], [replace(new, device_id=2)]) == [(b"/f", "M")]


def test_neither_the_order_of_attributes_nor_the_zone_of_a_time_is_metadata_but_what_windows_has_is(repository):
    node = Node(b"f", "file", xattrs=(("user.a", b"1"), ("user.b", b"2")), content=())
    swapped = replace(node, xattrs=node.xattrs[::-1])
    zoned = node.to_json().replace('Z"', '+00:00"')
    windows = node.to_json().replace('"content"', '"generic_attributes":{"windows.file_attributes":33},"content"')
    assert len({node.to_json(), swapped.to_json(), zoned, windows}) == 4
    assert changes_of(repository, [node], [swapped], metadata=True) == []
    assert changes_of(repository, [node], [zoned], metadata=True) == []
    assert changes_of(repository, [node], [windows], metadata=True) == [(b"/f", "U")]


def test_names_in_another_order_are_compared_with_each_other(repository):
    a, b = (Node(name, "file", content=()) for name in (b"a", b"b"))
    assert changes_of(repository, [a, b], [b, a], metadata=True) == []


def test_directories_that_are_shared_over_and_over_are_read_once(repository):
    tree = save_tree(repository, Node(b"f", "file", content=()))
    for _ in range(40):
        tree = save_tree(repository, Node(b"a", "dir", subtree=tree), Node(b"b", "dir", subtree=tree))
    shared = Node(b"shared", "dir", subtree=tree)
    assert changes_of(repository, [shared], [Node(b"new", "file", content=()), shared]) == [(b"/new", "+")]


def test_a_directory_that_cannot_be_read_is_told_and_the_rest_is_compared(repository):
    folders = [Node(b"d", "dir", subtree=bytes([number]) * 32) for number in (1, 2)]
    hollow = Node(b"e", "dir")
    told = []
    before = save_tree(repository, folders[0], Node(b"f", "file", content=()))
    after = save_tree(repository, folders[1], hollow)
    changes = []
    statistics = diff(
        repository, before, after, on_change=changes.append, on_error=lambda path, reason: told.append((path, reason))
    )
    assert [(change.path, change.modifier) for change in changes] == [(b"/e/", "+"), (b"/f", "-")]
    assert told[0] == (b"/d/", f"the tree blob {'01' * 32} is not in the index")
    assert told[1] == (b"/e", "the directory has no content")
    # Their sizes are missing in the sums.
    assert sorted(reason for _, reason in told[2:]) == [
        f"the tree blob {number * 32} is not in the index" for number in ("01", "02")
    ]
    assert statistics.errors == 4


def test_a_comparison_ends_when_it_is_interrupted(repository, two, monkeypatch):
    trees = [open_directory(repository, name)[1] for name in two]
    monkeypatch.setattr(repository, "load_blob", _interrupted)
    with pytest.raises(Cancelled):
        diff(repository, *trees)


def _interrupted(*_):
    raise Cancelled


def test_the_command_fails_when_something_could_not_be_compared(engine, repository):
    trees = [save_tree(repository, Node(b"d", "dir", subtree=bytes([number]) * 32)) for number in (1, 2)]
    names = [save_snapshot(repository, Snapshot(datetime.now(UTC), tree, ("/",))) for tree in trees]
    status, out, err = engine("diff", *names)
    assert (status, b"Files:           0 new" in out, b"/d/: the tree blob" in err) == (1, True, True)


def test_the_command_shows_a_list_and_counts_or_counts_alone(engine, tree, two):
    status, out, _ = engine("diff", *two)
    lines = out.split(b"\n")
    assert (status, lines[0]) == (0, f"comparing snapshot {two[0][:8]} to {two[1][:8]}:".encode())
    assert b"M    " + below(tree, b"changed/content") in lines
    assert b"Files:           2 new,     2 removed,     1 changed" in lines
    _, counts, _ = engine("diff", "-q", *two)
    assert (counts.startswith(b"\nFiles: "), out.endswith(counts)) == (True, True)


@pytest.mark.restic
@pytest.mark.parametrize("options", [(), ("--metadata",)])
def test_restic_tells_the_same(engine, location, restic, two, options):
    ours = [json.loads(line) for line in engine("diff", "--json", *options, *two)[1].splitlines()]
    theirs = [json.loads(line) for line in restic(location, "diff", "--json", *options, *two).splitlines()]
    assert ours == theirs
    assert (len(ours) > 10, ours[-1]["message_type"]) == (True, "statistics")


@pytest.mark.restic
def test_restic_tells_the_same_of_what_is_in_a_folder(engine, location, restic, tree, two):
    folder = f"{tree}/changed"
    ours = [json.loads(line) for line in engine("diff", "--json", *(f"{name}:{folder}" for name in two))[1].splitlines()]
    theirs = [json.loads(line) for line in restic(location, "diff", "--json", *two).splitlines()]
    below = [{**change, "path": change["path"][len(folder) :]} for change in theirs[:-1] if change["path"].startswith(f"{folder}/")]
    assert (len(below), ours[:-1]) == (6, below)
