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

from msgspec.structs import replace

from engine.node import TYPE_OF_FORMAT, Node, go_mode, replace_undecodable, unix_permissions

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
    node = _stat_node(name, os.lstat(path) if status is None else status)
    if node is None:
        return None
    ctime_ns = node.ctime_ns
    try:
        xattrs = read_xattrs(path if descriptor is None else descriptor)
    except OSError as error:
        if on_lost_xattrs is None:
            raise
        on_lost_xattrs(error)
        # No entry has this change time, so that the next backup does not take the node for current.
        xattrs, ctime_ns = (), ctime_ns - 1
    return replace(node, ctime_ns=ctime_ns, linktarget=os.readlink(path) if node.type == "symlink" else b"", xattrs=xattrs)


def stat_head(name: bytes, status: os.stat_result) -> str:
    """The beginning of the JSON of an entry's node (see `Node.stat_json`), empty for what is not backed up.

    It has the change time and the inode, so that an entry whose JSON in an older snapshot begins the same has the same
    extended attributes, link target and device too: none of these changes without the change time.
    """
    node = _stat_node(name, status)
    return "" if node is None else node.stat_json()


def _stat_node(name: bytes, status: os.stat_result) -> Node | None:
    """The node of an entry as far as ``stat`` can say it, None for what is not backed up."""
    kind, mode = _kind_and_mode(status.st_mode)
    if not kind:
        return None
    is_file = kind == "file"
    links = 0 if kind == "dir" else status.st_nlink
    mtime_ns = status.st_mtime_ns
    user, group = owner_names(status.st_uid, status.st_gid)
    return Node(
        name,
        kind,
        mode,
        mtime_ns,
        mtime_ns,
        status.st_ctime_ns,
        status.st_uid,
        status.st_gid,
        user,
        group,
        status.st_ino,
        status.st_dev if links > 1 else 0,
        status.st_size if is_file else 0,
        0 if kind == "fifo" else links,  # restic counts none of a fifo
        device=status.st_rdev if kind in ("dev", "chardev") else 0,
        content=() if is_file else None,
    )


@lru_cache(maxsize=1024)
def _kind_and_mode(st_mode: int) -> tuple[str, int]:
    """The type of a node and its mode; no type for what is not backed up."""
    kind = TYPE_OF_FORMAT.get(stat.S_IFMT(st_mode), "socket")
    return "" if kind == "socket" else kind, go_mode(st_mode)


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
def owner_names(uid: int, gid: int) -> tuple[str, str]:
    """The names of a user id and a group id, each empty when the machine knows none."""
    user = group = ""
    with contextlib.suppress(KeyError):
        user = replace_undecodable(pwd.getpwuid(uid).pw_name)
    with contextlib.suppress(KeyError):
        group = replace_undecodable(grp.getgrgid(gid).gr_name)
    return user, group


class Traits(NamedTuple):
    """Whose a file is, and whether it has extended attributes."""

    uid: int
    gid: int
    has_xattrs: bool


def read_traits(descriptor: int) -> Traits:
    """Raises OSError."""
    status = os.fstat(descriptor)
    return Traits(status.st_uid, status.st_gid, bool(read_xattrs(descriptor)))


class OwnerNotSet(PermissionError):
    """An entry stays its restorer's, who may not give files away."""


def apply_metadata(
    node: Node, path: bytes, *, descriptor: int | None = None, traits: Traits | None = None
) -> list[OSError]:
    """Give owner, extended attributes, mode and times of `node` to `path`, and return what could not be set.

    `descriptor`, an open file of the same entry, saves path look-ups; `traits`, what the entry is known to have, saves giving and
    taking away what need not be. Owners are numeric, as restic restores them; for whoever may not give files away that
    is an OwnerNotSet. A directory's times hold only if this is called after its entries were made.
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
        is_others = error.errno == errno.EPERM and os.geteuid() != 0
        failures.append(OwnerNotSet(*error.args) if is_others else error)
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
