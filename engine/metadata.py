"""Metadata of an entry on this machine: reading a path into a Node, and giving a Node's metadata to a path.

Extended attributes include POSIX ACLs (``system.posix_acl_access`` and ``_default``). Contents of files and directories
are not read or written here. As restic does by default, the access time is not kept: it is stored as the modification time.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from engine.node import TYPE_OF_FORMAT, Node, go_mode, replace_undecodable, stat_json, unix_permissions

_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES)


Tell = Callable[[OSError], None]


def read_node(
    path: bytes,
    name: bytes,
    status: os.stat_result | None = None,
    *,
    descriptor: int | None = None,
    on_lost_xattrs: Tell | None = None,
) -> Node | None:
    """The node of a path without its content or subtree, or None for what is not backed up (sockets, unknown kinds).

    `status` is an lstat taken already; `descriptor` an open file to read extended attributes from. A symbolic link is
    not followed. Raises OSError when the path is gone or cannot be read; but if it is the extended attributes alone,
    `on_lost_xattrs` is told, and the node is without them.
    """
    if status is None:
        status = os.lstat(path)
    kind = TYPE_OF_FORMAT.get(stat.S_IFMT(status.st_mode))
    if kind is None or kind == "socket":
        return None
    is_file, is_dir = kind == "file", kind == "dir"
    has_links = not is_dir and kind != "fifo"
    links = status.st_nlink if has_links else 0
    ctime_ns = status.st_ctime_ns
    try:
        xattrs = read_xattrs(path if descriptor is None else descriptor)
    except OSError as error:
        if on_lost_xattrs is None:
            raise
        on_lost_xattrs(error)
        # No entry has this change time, so that the next backup does not take the node for current.
        xattrs, ctime_ns = (), ctime_ns - 1
    return Node(
        name,
        kind,
        go_mode(status.st_mode),
        status.st_mtime_ns,
        status.st_mtime_ns,
        ctime_ns,
        status.st_uid,
        status.st_gid,
        user_name(status.st_uid),
        group_name(status.st_gid),
        status.st_ino,
        status.st_dev if links > 1 else 0,
        status.st_size if is_file else 0,
        links,
        os.readlink(path) if kind == "symlink" else b"",
        xattrs,
        status.st_rdev if kind in ("dev", "chardev") else 0,
        () if is_file else None,
    )


def stat_head(name: bytes, status: os.stat_result) -> str:
    """The beginning of the JSON of an entry's node (see `node.stat_json`), empty for what is not backed up.

    It has the change time and the inode, so that an entry whose JSON in an older snapshot begins the same has the same
    extended attributes, link target and device too: none of these changes without the change time.
    """
    mode = status.st_mode
    kind = TYPE_OF_FORMAT.get(stat.S_IFMT(mode))
    if kind is None or kind == "socket":
        return ""
    links = status.st_nlink if kind not in ("dir", "fifo") else 0
    mtime_ns = status.st_mtime_ns
    return stat_json(
        name,
        kind,
        go_mode(mode),
        mtime_ns,
        mtime_ns,
        status.st_ctime_ns,
        status.st_uid,
        status.st_gid,
        user_name(status.st_uid),
        group_name(status.st_gid),
        status.st_ino,
        status.st_dev if links > 1 else 0,
        status.st_size if kind == "file" else 0,
        links,
    )


def read_head(path: bytes, name: bytes, status: os.stat_result, on_lost_xattrs: Tell) -> str:
    """The JSON of `read_node` up to the content, empty for what is not backed up; most files need no node for it.

    Raises OSError as `read_node` does.
    """
    try:
        if stat.S_ISREG(status.st_mode) and not read_xattrs(path):
            return stat_head(name, status) + '"content":'
    except OSError:  # it is told below
        pass
    node = read_node(path, name, status, on_lost_xattrs=on_lost_xattrs)
    return "" if node is None else node.head_json()


def read_xattrs(path: bytes | int) -> tuple[tuple[str, bytes], ...]:
    """Names and values of the extended attributes, in the file system's order; empty where there are none to be had."""
    try:
        names = os.listxattr(path) if isinstance(path, int) else os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    if not names:
        return ()
    found = []
    for name in names:
        try:
            value = os.getxattr(path, name) if isinstance(path, int) else os.getxattr(path, name, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_XATTRS:  # removed meanwhile, or not ours to read
                continue
            raise
        found.append((os.fsencode(name).decode("utf-8", "replace"), value))
    return tuple(found)


@lru_cache(maxsize=4096)
def user_name(uid: int) -> str:
    """The name of a user id, empty when the machine knows none."""
    try:
        return replace_undecodable(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return ""


@lru_cache(maxsize=4096)
def group_name(gid: int) -> str:
    """The name of a group id, empty when the machine knows none."""
    try:
        return replace_undecodable(grp.getgrgid(gid).gr_name)
    except KeyError:
        return ""


class Traits(NamedTuple):
    """Whose a file is, and whether it has extended attributes."""

    uid: int
    gid: int
    has_xattrs: bool


def read_traits(descriptor: int) -> Traits:
    """Raises OSError."""
    status = os.fstat(descriptor)
    return Traits(status.st_uid, status.st_gid, bool(read_xattrs(descriptor)))


def apply_metadata(
    node: Node, path: bytes, *, descriptor: int | None = None, traits: Traits | None = None
) -> list[OSError]:
    """Give owner, extended attributes, mode and times of `node` to `path`, and return what could not be set.

    `descriptor`, an open file of the same entry, saves path look-ups; `traits`, what the entry is known to have, saves giving and
    taking away what need not be. Owners are numeric, as restic restores them; only root can give files away, so for others a
    refusal to change the owner is no failure. A directory's times hold only if this is called after its entries were made.
    """
    failures: list[OSError] = []
    target: bytes | int = path if descriptor is None else descriptor
    is_link = node.type == "symlink"
    follow = descriptor is not None
    permissions = unix_permissions(node.mode)
    try:
        if traits is not None and (traits.uid, traits.gid) == (node.uid, node.gid):
            pass
        elif descriptor is not None:
            os.fchown(descriptor, node.uid, node.gid)
        else:
            os.lchown(path, node.uid, node.gid)
    except OSError as error:
        if not (error.errno == errno.EPERM and os.geteuid() != 0):
            failures.append(error)
        # What ran as its owner must not run as whoever restores it.
        permissions &= ~(stat.S_ISUID | stat.S_ISGID)
    # Users' attributes need the right to write, which the mode may take away.
    if traits is None or traits.has_xattrs or node.xattrs:
        failures += _apply_xattrs(node, target, follow)
    # After the owner, because chown clears the setuid bit; before ACLs, which refine the mode.
    if not is_link:
        try:
            os.chmod(target, permissions)
        except OSError as error:
            failures.append(error)
    if node.xattrs:
        failures += _set_xattrs(node, target, follow, are_users=False)
    try:
        os.utime(target, ns=(node.atime_ns, node.mtime_ns), follow_symlinks=follow)
    except OSError as error:
        failures.append(error)
    return failures


def _apply_xattrs(node: Node, target: bytes | int, follow: bool) -> list[OSError]:
    """Remove the attributes that the node does not have, and set those of users."""
    wanted = dict(node.xattrs)
    with contextlib.suppress(OSError):  # where attributes cannot be listed there are none to remove
        for name in os.listxattr(target, follow_symlinks=follow):
            if name not in wanted and not name.startswith("security."):
                with contextlib.suppress(OSError):
                    os.removexattr(target, name, follow_symlinks=follow)
    return _set_xattrs(node, target, follow, are_users=True)


def _set_xattrs(node: Node, target: bytes | int, follow: bool, *, are_users: bool) -> list[OSError]:
    failures = []
    for name, value in node.xattrs:
        if name.startswith("user.") is not are_users:
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except OSError as error:
            failures.append(error)
    return failures
