"""What a tree was, to be compared with when the tree itself is no more: of a directory that changes between two backups.

It tells apart what `engine.compare` tells apart, and says only whether something differs, not what.
"""

import hashlib
import os
import stat
from collections.abc import Iterator

from engine.metadata import read_xattrs


def fingerprint(root: str | os.PathLike[str]) -> str:
    """Return a hash over all that is to be restored of the entries at and below `root`, in hexadecimal."""
    links: dict[int, bytes] = {}
    digest = hashlib.sha256()
    for name in _names(os.fsencode(root)):
        digest.update(repr((name, *_entry(os.path.join(os.fsencode(root), name), name, links))).encode())
    return digest.hexdigest()


def _names(root: bytes) -> Iterator[bytes]:
    """Yield the names of all entries, relative to `root` and in an order that they alone decide."""
    yield b""
    for directory, names, files in os.walk(root):
        names.sort()
        yield from (os.path.relpath(os.path.join(directory, name), root) for name in sorted(names + files))


def _entry(path: bytes, name: bytes, links: dict[int, bytes]) -> Iterator[object]:
    status = os.lstat(path)
    yield status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, sorted(read_xattrs(path))
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()
    if stat.S_ISLNK(status.st_mode):
        yield os.readlink(path)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        yield status.st_rdev
    if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
        yield links.setdefault(status.st_ino, name)
