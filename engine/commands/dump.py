"""Dump a file of a snapshot, or a directory as a tar archive, piece by piece: memory holds one blob at a time.

While the pieces are asked for, a shared lock keeps others from deleting them, if the store lets us write one.
"""

import io
import os
import tarfile
from collections.abc import Iterator

from engine.blob import BlobType
from engine.commands.ls import find_node, walk
from engine.errors import DataDamaged, PathNotFound
from engine.locks import hold_lock_if_allowed
from engine.node import Node, unix_permissions
from engine.repository import Repository
from engine.restorer.target import check_name
from engine.snapshot import Snapshot

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
    first_of_link: dict[tuple[int, int], bytes] = {}
    for found, node in walk(repository, snapshot, path):
        name = found[skipped:]
        if not name or node.type not in _KINDS:
            continue
        # Whoever unpacks the archive trusts its names.
        check_name(node.name)
        entry = _entry(name, node)
        identity = node.link_identity
        first = first_of_link.setdefault(identity, name) if identity else name
        if first != name and not node.is_dir:
            entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first.decode("utf-8", "surrogateescape"), 0
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.size:
            yield from _content(repository, node)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    # What closes an archive, as tarfile itself writes it.
    closing = io.BytesIO()
    tarfile.open(fileobj=closing, mode="w", format=tarfile.PAX_FORMAT).close()
    yield closing.getvalue()


def _entry(name: bytes, node: Node) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    entry.type = _KINDS[node.type]
    entry.mode = unix_permissions(node.mode)
    entry.uid, entry.gid, entry.uname, entry.gname = node.uid, node.gid, node.user, node.group
    entry.mtime = node.mtime_ns // 1_000_000_000
    entry.size = node.size if node.type == "file" else 0
    entry.linkname = node.linktarget.decode("utf-8", "surrogateescape")
    entry.devmajor, entry.devminor = os.major(node.device), os.minor(node.device)
    return entry


def _content(repository: Repository, node: Node) -> Iterator[bytes]:
    left = node.size
    for blob_id in node.content or ():
        # A size that lies must not shift what comes after it in an archive.
        piece = repository.load_blob(BlobType.DATA, blob_id)[:left]
        left -= len(piece)
        yield piece
    if left:
        raise DataDamaged("the content of a file is shorter than its size says")
