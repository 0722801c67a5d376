"""Listing one directory: which entries are unchanged since the parent snapshot, which are read here, which are work for others."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from engine.archiver.batch import SMALL_FILE, SmallFiles
from engine.archiver.messages import DirectoryJob, LargeFile, Listing, Split, Subdirectory
from engine.archiver.reading import CHANGED, reason
from engine.blob import ID_SIZE, BlobType
from engine.errors import DataDamaged
from engine.filter import PathFilter
from engine.index import Index
from engine.metadata import read_node
from engine.node import Node, content_json
from engine.tree import iter_raw_nodes, join_nodes

# Larger directories are shared among the workers.
ENTRIES_AT_ONCE = 2000

Previous = dict[bytes, tuple[dict[str, Any], str]]


class DirectoryLister:
    """Lists directories of one backup."""

    def __init__(self, excludes: PathFilter, index: Index, small_files: SmallFiles) -> None:
        self._excludes, self._index, self._small_files = excludes, index, small_files

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
        previous = _previous_entries(job.previous)
        if len(names) > ENTRIES_AT_ONCE * 2:
            return Split(job.number, _split(job, names, previous))
        root = job.path if job.path.endswith(b"/") else job.path + b"/"
        for name in names:
            path = root + name
            if self._excludes and self._excludes.matches(path):
                continue
            try:
                entry = self._entry(path, name, previous.get(name), listing)
            except OSError as error:
                listing.unreadable.append((path, reason(error)))
                continue
            if entry is not None:
                listing.entries.append(entry)
        return listing

    def _entry(
        self, path: bytes, name: bytes, previous: tuple[dict[str, Any], str] | None, listing: Listing
    ) -> str | Subdirectory | LargeFile | None:
        status = os.lstat(path)
        node = read_node(path, name, status)
        if node is None:
            return None
        head = node.head_json()
        if previous is not None and previous[1].startswith(head):
            entry = self._same_entry(node, head, *previous, listing)
            if entry is not None:
                return entry
        older = _decode(previous)
        if node.type == "dir":
            known = older is not None and older.is_dir
            is_same = older is not None and replace(older, content=None, subtree=None) == node
            return Subdirectory(name, head, is_same, older.subtree if older is not None and known else None)
        if node.type != "file":
            return head + "null}"
        if older is not None and is_unchanged(older, node) and self._has_all(older.content or ()):
            listing.counts.count_file(older, replace(node, content=older.content))
            return f"{head}{content_json(older.content)}}}"
        if status.st_size > SMALL_FILE:
            return LargeFile(name, older)
        return self._small_file(path, node, head, status, older, listing)

    def _same_entry(
        self, node: Node, head: str, raw: dict[str, Any], text: str, listing: Listing
    ) -> str | Subdirectory | None:
        """The entry whose JSON has not changed but perhaps for its content; None if that must be read again."""
        if node.type == "dir":
            return Subdirectory(node.name, head, True, _ids([raw.get("subtree")])[0] or None)
        if node.type != "file":
            return text
        if not self._has_all(_ids(raw.get("content"))):
            return None
        listing.counts.files_unmodified += 1
        listing.counts.bytes_total += node.size
        return text

    def _small_file(
        self, path: bytes, node: Node, head: str, listed: os.stat_result, older: Node | None, listing: Listing
    ) -> str | LargeFile:
        file = self._small_files.read(path, listed)
        if file.status.st_size > SMALL_FILE:  # it has grown since it was listed
            return LargeFile(node.name, older)
        if file.status.st_ctime_ns != listed.st_ctime_ns or file.status.st_ino != listed.st_ino:
            node = replace(read_node(path, node.name, file.status) or node, size=file.size)
            head = node.head_json()
        if file.has_changed:
            listing.unreadable.append((path, CHANGED))
        content = (file.blob_id,) if file.blob_id else ()
        listing.counts.count_file(older, node if older is None else replace(node, content=content))
        return f"{head}{content_json(content)}}}"

    def _has_all(self, content: tuple[bytes, ...]) -> bool:
        return all(self._index.has(BlobType.DATA, blob_id) for blob_id in content)


def is_unchanged(older: Node, node: Node) -> bool:
    """Whether a file need not be read again: restic's rule is modification and change time, size and inode."""
    return (
        older.type == "file"
        and older.size == node.size
        and older.mtime_ns == node.mtime_ns
        and older.ctime_ns == node.ctime_ns
        and older.inode == node.inode
    )


def _previous_entries(tree: bytes | None) -> Previous:
    """What the parent snapshot has of a directory; nothing if its tree is damaged, for then all is read anew."""
    if tree is None:
        return {}
    try:
        return {name: (raw, text) for name, raw, text in iter_raw_nodes(tree)}
    except DataDamaged:
        return {}


def _decode(previous: tuple[dict[str, Any], str] | None) -> Node | None:
    if previous is None:
        return None
    try:
        return Node.from_json(previous[0])
    except DataDamaged:
        return None


def _ids(encoded: Any) -> tuple[bytes, ...]:
    """The ids of a JSON list; one that no index has if it is not such a list."""
    try:
        ids = tuple(map(bytes.fromhex, encoded))
    except (TypeError, ValueError):
        return (b"",)
    return ids if all(len(blob_id) == ID_SIZE for blob_id in ids) else (b"",)


def _split(job: DirectoryJob, names: tuple[bytes, ...], previous: Previous) -> list[DirectoryJob]:
    parts = []
    for at in range(0, len(names), ENTRIES_AT_ONCE):
        part = names[at : at + ENTRIES_AT_ONCE]
        texts = [text or json.dumps(raw) for raw, text in (previous[name] for name in part if name in previous)]
        tree = join_nodes(texts) if texts else None
        parts.append(DirectoryJob(job.number, job.path, part, tree))
    return parts
