"""The judge of a restore calls two trees alike that are, and finds each thing in which they are not."""

import os
import shutil

import pytest

from engine.compare import compare_trees


@pytest.fixture
def trees(tmp_path):
    """Two trees that are alike."""
    for name in ("a", "b"):
        root = tmp_path / name
        (root / "directory").mkdir(parents=True)
        (root / "file").write_bytes(b"content")
        (root / "directory" / "other").write_bytes(b"content")
        os.link(root / "file", root / "linked")
        os.symlink("file", root / "link")
        for path in (root / "file", root / "link", root / "directory" / "other", root / "directory", root):
            os.utime(path, ns=(1, 1), follow_symlinks=False)
    return tmp_path / "a", tmp_path / "b"


def compare(trees, **more):
    return compare_trees(*map(os.fsencode, trees), **more)


def replace(path, make):
    """Make another entry in the place of one, at the same time."""
    times = path.lstat().st_mtime_ns, path.parent.stat().st_mtime_ns
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)
    os.utime(path, ns=(times[0],) * 2, follow_symlinks=False)
    os.utime(path.parent, ns=(times[1],) * 2)


def test_trees_that_are_alike_do_not_differ(trees):
    assert compare(trees) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda b: (b / "file").chmod(0o600), ["file: mode 644 and 600", "linked: mode 644 and 600"]),
        (lambda b: os.utime(b / "directory", ns=(1, 2)), ["directory: modification time 1 and 2 ns"]),
        (lambda b: os.utime(b / "link", ns=(1, 2), follow_symlinks=False), ["link: modification time 1 and 2 ns"]),
        (lambda b: os.setxattr(b / "directory", "user.new", b"1"), ["directory: extended attributes differ"]),
        (lambda b: replace(b / "directory/other", lambda path: path.write_bytes(b"kontent")), ["directory/other: content differs"]),
        (lambda b: replace(b / "directory/other", lambda path: path.write_bytes(b"")), ["directory/other: size 7 and 0"]),
        (lambda b: replace(b / "link", lambda path: path.symlink_to("linked")), ["link: links to another target"]),
        (lambda b: replace(b / "link", os.mkfifo), ["link: is another kind of entry"]),
        (
            lambda b: replace(b / "linked", lambda path: path.write_bytes(b"content")),
            ["linked: is not a hard link of the same file"],
        ),
        (
            lambda b: replace(b / "directory/other", lambda path: os.link(b / "file", path)),
            ["file: is not a hard link of the same file", "linked: is not a hard link of the same file"],
        ),
    ],
)
def test_each_difference_of_an_entry_is_told(trees, change, found):
    change(trees[1])
    assert compare(trees) == found


@pytest.mark.root
def test_another_owner_is_told(trees):
    os.chown(trees[1] / "link", 1, 2, follow_symlinks=False)
    assert compare(trees) == ["link: owner 0:0 and 1:2"]


def test_what_stands_in_one_tree_alone_is_told_unless_it_is_excluded(trees):
    first, second = trees
    for path, name in ((first, "only a"), (second, "only b")):
        (path / name).touch()
        os.utime(path, ns=(1, 1))
    assert compare(trees) == ["only a: only in the first", "only b: only in the second"]
    assert compare(trees, exclude=[os.fsencode(first / "only a")]) == ["only b: only in the second"]
