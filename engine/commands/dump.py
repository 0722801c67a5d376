"""Dump a file of a snapshot, or a directory as a tar archive, piece by piece: memory holds one blob at a time.

While the pieces are asked for, a shared lock keeps others from deleting them, if the store lets us write one.
"""

import io
import os
import tarfile
from collections.abc import Iterator

from engine.blob import BlobType
from engine.commands.ls import find_node, walk
from engine.errors import DataDamaged, PathNotFound, TooLarge
from engine.locks import hold_lock_if_allowed
from engine.node import Node, unix_permissions
from engine.repository import Repository
from engine.restorer.target import check_name
from engine.snapshot import Snapshot
from engine.walking import UniqueNames

# About three hundred bytes each.
LINKS_LIMIT = 500_000
# Seven octal digits.
DEVICE_LIMIT = 0o7777777
_KINDS = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "fifo": tarfile.FIFOTYPE,
    "chardev": tarfile.CHRTYPE,
    "dev": tarfile.BLKTYPE,
}


def dump_file(repository: Repository, snapshot: Snapshot | str, path: bytes) -> Iterator[bytes]:
    """Yield the content of a file. Raises PathNotFound (at the call, not later) if there is no file at `path`."""
    node = find_node(repository, snapshot, path)
    if node.type != "file":
        raise PathNotFound(f"{path.decode(errors='replace')} is no file")
    return _locked(repository, _content(repository, node))


def dump_tar(repository: Repository, snapshot: Snapshot | str, path: bytes) -> Iterator[bytes]:
    """Yield a tar archive (PAX) of the directory at `path`, with names relative to it.

    Raises PathNotFound (at the call, not later) if there is no directory at `path`; UnsafePath, on the way, for a name in the
    snapshot that could lead out of where the archive is unpacked.
    """
    node = find_node(repository, snapshot, path)
    if not node.is_dir:
        raise PathNotFound(f"{path.decode(errors='replace')} is no directory")
    return _locked(repository, _tar(repository, snapshot, path))


def _locked(repository: Repository, pieces: Iterator[bytes]) -> Iterator[bytes]:
    with hold_lock_if_allowed(repository):
        yield from pieces


def _tar(repository: Repository, snapshot: Snapshot | str, path: bytes) -> Iterator[bytes]:
    top = b"/" + b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
    skipped = len(top.rstrip(b"/")) + 1
    links = _Links()
    last_directory, names = b"", UniqueNames()
    entries = walk(repository, snapshot, path)
    if top != b"/":
        next(entries)  # the directory itself
    for found, node in entries:
        name = found[skipped:]
        if node.type not in _KINDS:
            continue
        # Whoever unpacks the archive trusts its names.
        check_name(node.name)
        directory = name.rpartition(b"/")[0]
        if directory != last_directory:
            last_directory, names = directory, UniqueNames()
        names.require_new(node.name)
        entry = _entry(name, node)
        first = links.first_of(node, name)
        if first != name:
            entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first.decode("utf-8", "surrogateescape"), 0
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.type == tarfile.REGTYPE:
            yield from _content(repository, node)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    # What closes an archive, as tarfile itself writes it.
    closing = io.BytesIO()
    tarfile.open(fileobj=closing, mode="w", format=tarfile.PAX_FORMAT).close()
    yield closing.getvalue()


class _Links:
    """The first name of each file that has several, as long as others of them are still to come."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int, str], tuple[bytes, int]] = {}

    def first_of(self, node: Node, name: bytes) -> bytes:
        """Return the name under which the file stands in the archive. Raises TooLarge if very many are remembered."""
        identity = node.link_identity
        if identity is None or node.is_dir:
            return name
        # A link to a link would lead where that leads.
        key = *identity, node.type
        first, left = self._first.get(key, (name, node.links))
        # Of a fifo's names nobody knows which is the last.
        if left == 1:
            del self._first[key]
        else:
            self._first[key] = first, left - 1
        if len(self._first) > LINKS_LIMIT:
            raise TooLarge(f"more than {LINKS_LIMIT} files have several names; dump parts of the directory, or restore it")
        return first


def _entry(name: bytes, node: Node) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    entry.type = _KINDS[node.type]
    entry.mode = unix_permissions(node.mode)
    entry.uid, entry.gid, entry.uname, entry.gname = node.uid, node.gid, node.user, node.group
    entry.mtime = node.mtime_ns // 1_000_000_000
    entry.size = node.size if node.type == "file" else 0
    entry.linkname = node.linktarget.decode("utf-8", "surrogateescape")
    entry.devmajor, entry.devminor = os.major(node.device), os.minor(node.device)
    if max(entry.devmajor, entry.devminor) > DEVICE_LIMIT:
        raise DataDamaged("a device has a number that no archive can hold")
    return entry


def _content(repository: Repository, node: Node) -> Iterator[bytes]:
    left = node.size
    for blob_id in node.content or ():
        piece = repository.load_blob(BlobType.DATA, blob_id)
        # A size that lies must not shift what comes after it in an archive.
        yield piece[:left]
        left -= len(piece)
        if left < 0:
            break
    if left:
        raise DataDamaged(f"the content of a file is {'shorter' if left > 0 else 'longer'} than its size says")
