"""Comparing two trees on disk, entry by entry and byte by byte: the judge of a restore.

What counts: names, types, permission bits, owners, modification times in nanoseconds, sizes, contents, targets of symbolic
links, device numbers, extended attributes (POSIX ACLs among them) and which names are hard links of one file. What does
not: access and change times, inode numbers, how a file lies on the disk.
"""

import os
import stat
from collections.abc import Collection, Iterator

from engine.metadata import read_xattrs

BLOCK_SIZE = 1 << 20

Identity = tuple[int, int]
# Of each file with several names, by device and inode, the file that it is in the other tree.
Links = tuple[dict[Identity, Identity], dict[Identity, Identity]]


def compare_trees(a: bytes, b: bytes, *, exclude: Collection[bytes] = ()) -> list[str]:
    """Return a sentence for each difference between the trees below `a` and `b`; none if they are alike.

    `exclude`: paths below `a` that are left out with all below them. The directories `a` and `b` themselves are compared too.
    """
    differences: list[str] = []
    links: Links = {}, {}
    excluded = frozenset(os.path.normpath(path) for path in exclude)
    for name in _paired_names(a, b, b"", excluded, differences):
        shown = os.fsdecode(name) or "."
        path_a, path_b = os.path.join(a, name), os.path.join(b, name)
        try:
            differences += [f"{shown}: {difference}" for difference in _entry_differences(path_a, path_b, links)]
        except OSError as error:
            differences.append(f"{shown}: cannot be compared ({error.strerror})")
    return differences


def _paired_names(a: bytes, b: bytes, name: bytes, excluded: frozenset[bytes], differences: list[str]) -> Iterator[bytes]:
    """Yield the names, relative to both trees, of the entries that stand in both; note those that do not."""
    pending = [name]
    while pending:
        name = pending.pop()
        yield name
        below_a, below_b = os.path.join(a, name), os.path.join(b, name)
        if not (_is_directory(below_a) and _is_directory(below_b)):
            continue
        try:
            names_a = {entry for entry in os.listdir(below_a) if os.path.join(below_a, entry) not in excluded}
            names_b = set(os.listdir(below_b))
        except OSError as error:
            differences.append(f"{os.fsdecode(name) or '.'}: cannot be listed ({error.strerror})")
            continue
        differences += [f"{os.fsdecode(os.path.join(name, entry))}: only in the first" for entry in sorted(names_a - names_b)]
        differences += [f"{os.fsdecode(os.path.join(name, entry))}: only in the second" for entry in sorted(names_b - names_a)]
        pending += (os.path.join(name, entry) for entry in sorted(names_a & names_b, reverse=True))


def _entry_differences(a: bytes, b: bytes, links: Links) -> Iterator[str]:
    status_a, status_b = os.lstat(a), os.lstat(b)
    kind = stat.S_IFMT(status_a.st_mode)
    if kind != stat.S_IFMT(status_b.st_mode):
        yield "is another kind of entry"
        return
    if kind != stat.S_IFLNK and stat.S_IMODE(status_a.st_mode) != stat.S_IMODE(status_b.st_mode):
        yield f"mode {stat.S_IMODE(status_a.st_mode):o} and {stat.S_IMODE(status_b.st_mode):o}"
    if (status_a.st_uid, status_a.st_gid) != (status_b.st_uid, status_b.st_gid):
        yield f"owner {status_a.st_uid}:{status_a.st_gid} and {status_b.st_uid}:{status_b.st_gid}"
    if status_a.st_mtime_ns != status_b.st_mtime_ns:
        yield f"modification time {status_a.st_mtime_ns} and {status_b.st_mtime_ns} ns"
    if kind == stat.S_IFLNK and os.readlink(a) != os.readlink(b):
        yield "links to another target"
    if kind in (stat.S_IFCHR, stat.S_IFBLK) and status_a.st_rdev != status_b.st_rdev:
        yield "is another device"
    if kind == stat.S_IFREG:
        if status_a.st_size != status_b.st_size:
            yield f"size {status_a.st_size} and {status_b.st_size}"
        elif not _same_content(a, b):
            yield "content differs"
    if sorted(read_xattrs(a)) != sorted(read_xattrs(b)):
        yield "extended attributes differ"
    if kind != stat.S_IFDIR and (status_a.st_nlink > 1 or status_b.st_nlink > 1):
        identity_a, identity_b = (status_a.st_dev, status_a.st_ino), (status_b.st_dev, status_b.st_ino)
        in_b, in_a = links[0].setdefault(identity_a, identity_b), links[1].setdefault(identity_b, identity_a)
        if in_b != identity_b or in_a != identity_a:
            yield "is not a hard link of the same file"


def _same_content(a: bytes, b: bytes) -> bool:
    with open(a, "rb", buffering=0) as file_a, open(b, "rb", buffering=0) as file_b:
        while True:
            block_a, block_b = file_a.read(BLOCK_SIZE), file_b.read(BLOCK_SIZE)
            if block_a != block_b:
                return False
            if not block_a:
                return True


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
