"""Metadata is read from a path and given to another one."""

import grp
import os
import pwd
import socket
import stat
from types import SimpleNamespace

import pytest

from engine.metadata import apply_metadata, owner_names, read_node
from tests.engine.trees import write_every_kind


@pytest.mark.root
def test_what_was_read_from_one_entry_can_be_given_to_another_of_its_kind(tmp_path):
    write_every_kind(tmp_path / "source")
    for entry in os.scandir(os.fsencode(tmp_path / "source")):
        node = read_node(entry.path, entry.name)
        copy = os.fsencode(tmp_path / "copy")
        _make_like(node, copy)
        assert apply_metadata(node, copy) == []
        given = read_node(copy, entry.name)
        for attribute in ("mode", "mtime_ns", "uid", "gid", "xattrs", "linktarget", "device"):
            assert getattr(given, attribute) == getattr(node, attribute), (entry.name, attribute)
        os.rmdir(copy) if node.is_dir else os.unlink(copy)


def test_attributes_that_the_node_does_not_have_are_removed(tmp_path):
    path = tmp_path / "file"
    path.touch()
    node = read_node(os.fsencode(path), b"file")
    os.setxattr(path, "user.old", b"1")
    apply_metadata(node, os.fsencode(path))
    assert "user.old" not in os.listxattr(path)


def test_a_descriptor_serves_as_well_as_a_path(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.kept", b"1")
    node = read_node(os.fsencode(path), b"file")
    other = tmp_path / "other"
    with other.open("wb") as file:
        assert apply_metadata(node, os.fsencode(other), descriptor=file.fileno()) == []
    assert os.getxattr(other, "user.kept") == b"1"
    assert other.stat().st_mtime_ns == path.stat().st_mtime_ns


def test_names_of_users_and_groups_that_are_not_utf_8_can_be_stored(monkeypatch):
    name = b"J\xfcrgen".decode("utf-8", "surrogateescape")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=name))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=name))
    assert owner_names(4_000_000_001, 4_000_000_002) == ("J\ufffdrgen", "J\ufffdrgen")


def test_a_socket_is_not_backed_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert read_node(os.fsencode(tmp_path / "socket"), b"socket") is None


def test_the_device_of_an_entry_is_kept_only_where_it_tells_hard_links_apart(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert read_node(os.fsencode(path), b"file").device_id == 0
    os.link(path, tmp_path / "second")
    node = read_node(os.fsencode(path), b"file")
    assert (node.device_id, node.links) == (path.stat().st_dev, 2)


def test_what_cannot_be_set_is_returned_and_the_rest_is_set(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.fine", b"1")
    node = read_node(os.fsencode(path), b"file")
    other = tmp_path / "other"
    other.touch()
    from msgspec.structs import replace

    failures = apply_metadata(replace(node, xattrs=(("nonsense", b""), *node.xattrs)), os.fsencode(other))
    assert len(failures) == 1
    assert os.getxattr(other, "user.fine") == b"1"
    assert other.stat().st_mtime_ns == node.mtime_ns


def _make_like(node, path):
    if node.is_dir:
        os.mkdir(path)
    elif node.type == "symlink":
        os.symlink(node.linktarget, path)
    elif node.type == "fifo":
        os.mkfifo(path)
    elif node.type in ("dev", "chardev"):
        os.mknod(path, (stat.S_IFBLK if node.type == "dev" else stat.S_IFCHR) | 0o600, node.device)
    else:
        open(path, "wb").close()
