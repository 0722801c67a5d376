"""Listing one directory: which entries are unchanged since the parent snapshot, which are read here, which are work for others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from msgspec.structs import replace

from engine.archiver.batch import SMALL_FILE, SmallFiles
from engine.archiver.messages import DirectoryJob, LargeFile, Listing, Split, Subdirectory
from engine.archiver.reading import CHANGED, LOST_XATTRS, reason
from engine.blob import BlobType
from engine.errors import DataDamaged, EngineError
from engine.filter import PathFilter
from engine.metadata import Tell, read_head, read_node, stat_head
from engine.node import Node, content_json
from engine.repository import Repository
from engine.tree import RawNode, iter_raw_nodes, join_nodes

# Larger directories are shared among the workers.
ENTRIES_AT_ONCE = 2000

Previous = dict[bytes, RawNode]


class DirectoryLister:
    """Lists directories of one backup.

    Without `trusts_attributes` the extended attributes of what is unchanged are read again: another user may have seen fewer.
    """

    def __init__(
        self, excludes: PathFilter, repository: Repository, small_files: SmallFiles, trusts_attributes: bool
    ) -> None:
        self._excludes, self._repository, self._small_files = excludes, repository, small_files
        self._trusts_attributes = trusts_attributes

    def list(self, job: DirectoryJob) -> Listing | Split:
        """List a directory; what cannot be read is in the listing's `unreadable`."""
        listing = Listing(job.number)
        names = job.names
        if names is None:
            try:
                names = tuple(sorted(os.listdir(job.path)))
            except OSError as error:
                listing.unreadable.append((job.path, reason(error)))
                return listing
        previous = self._previous_entries(job)
        if len(names) > ENTRIES_AT_ONCE * 2:
            return Split(job.number, _split(job, names, previous))
        root = job.path if job.path.endswith(b"/") else job.path + b"/"
        for name in names:
            path = root + name
            if self._excludes and self._excludes.matches(path):
                continue
            status = None
            try:
                status = os.lstat(path)
                entry = self._entry(path, name, status, previous.get(name), listing)
            except OSError as error:
                # What went between the listing and now was not there when it was looked at.
                is_gone = status is None and isinstance(error, FileNotFoundError)
                if not is_gone or job.are_targets:
                    listing.unreadable.append((path, reason(error)))
                continue
            if entry is not None:
                listing.entries.append(entry)
        if job.names is None and previous and _is_unchanged(listing, previous):
            return Listing(job.number, is_unchanged=True, counts=listing.counts)
        return listing

    def _previous_entries(self, job: DirectoryJob) -> Previous:
        """What the parent snapshot has of a directory; nothing if its tree cannot be had, for then all is read anew."""
        try:
            if job.previous_tree is not None:
                content = self._repository.load_blob(BlobType.TREE, job.previous_tree)
            elif job.previous is not None:
                content = job.previous
            else:
                return {}
            return {entry.name: entry for entry in iter_raw_nodes(content)}
        except EngineError:
            return {}

    def _entry(
        self, path: bytes, name: bytes, status: os.stat_result, previous: RawNode | None, listing: Listing
    ) -> str | Subdirectory | LargeFile | None:
        if previous is not None and self._trusts_attributes:
            start = stat_head(name, status)
            if start and previous.text.startswith(start):
                entry = self._same_entry(status, previous, listing)
                if entry is not None:
                    return entry
        older = _decode(previous)
        is_file = stat.S_ISREG(status.st_mode)
        is_current = is_file and older is not None and is_unchanged(older, status) and self._has_all(older.content or ())
        if is_file and status.st_size > SMALL_FILE and not is_current:
            return LargeFile(name, older)

        def tell(error: OSError) -> None:
            told = path, f"{LOST_XATTRS} ({reason(error)})"
            if told not in listing.unreadable[-1:]:
                listing.unreadable.append(told)

        head = read_head(path, name, status, tell)
        if not head:
            return None
        node = None if older is None else read_node(path, name, status, on_lost_xattrs=tell)
        if stat.S_ISDIR(status.st_mode):
            known = older is not None and older.is_dir
            is_same = older is not None and replace(older, content=None, subtree=None) == node
            return Subdirectory(name, head, is_same, older.subtree if older is not None and known else None)
        if not is_file:
            return head + "null}"
        if is_current and older is not None and node is not None:
            listing.counts.count_file(older, replace(node, content=older.content))
            return f"{head}{content_json(older.content)}}}"
        return self._small_file(path, name, head, status, older, listing, tell)

    def _same_entry(self, status: os.stat_result, previous: RawNode, listing: Listing) -> str | Subdirectory | None:
        """The entry of what has not changed but perhaps for its content; None if that must be read again."""
        if stat.S_ISDIR(status.st_mode):
            head, found, _ = previous.text.rpartition('"content":null,"subtree":')
            if not found or previous.subtree is None:
                return None
            return Subdirectory(previous.name, head + '"content":', True, _decode_id(previous.subtree) or None)
        if stat.S_ISREG(status.st_mode):
            if previous.content is None or not self._has_all(map(_decode_id, previous.content)):
                return None
            listing.counts.files_unmodified += 1
            listing.counts.bytes_total += status.st_size
        return previous.text

    def _small_file(
        self, path: bytes, name: bytes, head: str, listed: os.stat_result, older: Node | None, listing: Listing, tell: Tell
    ) -> str | LargeFile:
        file = self._small_files.read(path, listed)
        # It has grown since it was listed, or it is one of those whose size says nothing (/proc).
        if file.status.st_size > SMALL_FILE or file.size > file.status.st_size:
            return LargeFile(name, older)
        content = (file.blob_id,) if file.blob_id else ()
        if older is not None or file.status is not listed or file.size != listed.st_size:
            node = read_node(path, name, file.status, on_lost_xattrs=tell) or Node(name, "file")
            node = replace(node, size=file.size, content=content)
            head = node.head_json()
            listing.counts.count_file(older, node)
        else:
            listing.counts.files_new += 1
            listing.counts.bytes_total += file.size
        if file.has_changed:
            listing.unreadable.append((path, CHANGED))
        return f"{head}{content_json(content)}}}"

    def _has_all(self, content: Iterable[bytes]) -> bool:
        return self._repository.index.has_all(BlobType.DATA, content)


def is_unchanged(older: Node, status: os.stat_result) -> bool:
    """Whether a file need not be read again: restic's rule is modification and change time, size and inode."""
    return (
        older.type == "file"
        and older.size == status.st_size
        and older.mtime_ns == status.st_mtime_ns
        and older.ctime_ns == status.st_ctime_ns
        and older.inode == status.st_ino
    )


def _is_unchanged(listing: Listing, previous: Previous) -> bool:
    """Whether a listing of a whole directory says, entry by entry, what the older tree says, without directories in it."""
    return (
        not listing.unreadable
        and len(listing.entries) == len(previous)
        and all(entry == older.text for entry, older in zip(listing.entries, previous.values(), strict=True))
        and not any(older.subtree for older in previous.values())
    )


def _decode(previous: RawNode | None) -> Node | None:
    if previous is None:
        return None
    try:
        return Node.from_json(previous.text)
    except DataDamaged:
        return None


def _decode_id(text: str) -> bytes:
    """The id, or nothing, which no blob has for its id, if it is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _split(job: DirectoryJob, names: tuple[bytes, ...], previous: Previous) -> list[DirectoryJob]:
    parts = []
    for at in range(0, len(names), ENTRIES_AT_ONCE):
        part = names[at : at + ENTRIES_AT_ONCE]
        texts = [previous[name].text for name in part if name in previous]
        tree = join_nodes(texts) if texts else None
        parts.append(DirectoryJob(job.number, job.path, names=part, previous=tree))
    return parts
