"""Directories with every kind of entry; trees in a repository."""

import hashlib
import os
import stat
from pathlib import Path

from engine.blob import BlobType
from engine.node import Node
from engine.repository import Repository
from engine.tree import join_nodes


def write_every_kind(root: Path) -> None:
    """Make a tree with all that a Linux file system can hold; devices and foreign owners only as root."""
    root.mkdir()
    base = os.fsencode(root)
    (root / "plain.txt").write_bytes(b"some text\n")
    (root / "empty").touch()
    (root / "chunks").write_bytes(os.urandom(3 << 20) + bytes(2 << 20))
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"end")
    (root / "deep" / "a" / "b").mkdir(parents=True)
    (root / "deep" / "a" / "b" / "leaf").write_bytes(b"leaf")
    (root / "no entries").mkdir()
    (root / ("n" * 255)).write_bytes(b"long name")
    for name in (b"not utf-8 \xff\xfe", b"new\nline", b'q"uo\\te', "ünï ☃ \u200b\u2028".encode(), b"<&>", b"\x01\x7f"):
        with open(base + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"plain.txt", base + b"/link")
    os.symlink(b"nowhere \xff <&>", base + b"/dangling")
    os.link(root / "plain.txt", root / "deep" / "hard link")
    os.mkfifo(root / "fifo")
    (root / "setuid").touch()
    (root / "setuid").chmod(0o6755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "secret").touch(mode=0o000)
    os.setxattr(root / "plain.txt", "user.comment", b"\x00binary\xff")
    os.setxattr(root / "no entries", "user.empty", b"")
    acl = bytes.fromhex("02000000 01000600ffffffff 02000700e8030000 04000400ffffffff 10000700ffffffff 20000400ffffffff")
    os.setxattr(root / "empty", "system.posix_acl_access", acl)
    os.setxattr(root / "deep", "system.posix_acl_default", acl)
    if os.geteuid() == 0:
        os.mknod(root / "chardev", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.mknod(root / "blockdev", stat.S_IFBLK | 0o600, os.makedev(7, 300))
        os.chown(root / "deep" / "a", 12345, 54321)
        os.chown(root / "link", 12345, 54321, follow_symlinks=False)
        # Changing the owner cleared these.
        (root / "setuid").chmod(0o6755)
    os.utime(root / "plain.txt", ns=(-300_000_000_123_456_789, -300_000_000_123_456_789))
    os.utime(root / "link", ns=(1_000_000_001, 1_000_000_001), follow_symlinks=False)
    os.utime(root / "deep", ns=(4_000_000_000_000_000_001, 4_000_000_000_000_000_001))


def save_tree(repository: Repository, *nodes: Node | str) -> bytes:
    """Store a tree of nodes, or of their JSON, in the order given, whether they make sense or not; return its id."""
    content = join_nodes(node.to_json() if isinstance(node, Node) else node for node in nodes)
    tree = hashlib.sha256(content).digest()
    with repository.writer() as writer:
        writer.add_blob(BlobType.TREE, tree, content)
    return tree
