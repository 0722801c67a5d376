"""Looking into a backup: its directories, its files, a directory as a tar archive.

Everything is read from the repository as it is asked for; nothing is restored first, and memory holds one piece at a time.
"""

import posixpath
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backupcenter.api.exceptions import Conflict
from engine.commands.dump import dump_file, dump_tar
from engine.commands.ls import find_node, list_directory
from engine.node import Node, unix_permissions
from records.models import BackupRecord
from storage.repositories import open_repository

GONE = gettext_lazy("The snapshot of this backup is no longer in its repository: somebody removed it there.")
# Of a file that is shown and not sent: enough to see which version it is.
TEXT_SHOWN = 64 << 10
IMAGE_SHOWN = 4 << 20
# What browsers show as images, and what such files begin with. No SVG: it may hold scripts.
_IMAGES = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of a file. `text`: None if it is none; `image_type`: of an image, of which `content` is the whole."""

    name: str
    size: int
    text: str | None
    image_type: str
    content: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A file to send. `size`: bytes, None if it is not known before."""

    name: str
    content_type: str
    size: int | None
    content: Iterator[bytes]


def list_files(record: BackupRecord, path: bytes) -> list[dict[str, Any]]:
    """Return the entries of a directory in the record's snapshot. Raises PathNotFound, Conflict, EngineError."""
    _refuse_unfinished(record)
    entries = list_directory(open_repository(record.repository), record.snapshot, path)
    return [_describe(path, node) for node in entries]


def open_download(record: BackupRecord, path: bytes) -> Download:
    """Return a file of the record's snapshot, or a directory as a tar. Raises PathNotFound, Conflict, EngineError."""
    _refuse_unfinished(record)
    repository = open_repository(record.repository)
    node = find_node(repository, record.snapshot, path)
    name = _sendable(posixpath.basename(path.rstrip(b"/"))) or f"backup-{record.pk}"
    if node.is_dir:
        content = dump_tar(repository, record.snapshot, path)
        return Download(f"{name}.tar", "application/x-tar", None, content)
    return Download(name, "application/octet-stream", node.size, dump_file(repository, record.snapshot, path))


def preview(record: BackupRecord, path: bytes) -> Preview:
    """Return the beginning of a file of the record's snapshot. Raises PathNotFound, Conflict, EngineError."""
    _refuse_unfinished(record)
    repository = open_repository(record.repository)
    node = find_node(repository, record.snapshot, path)
    name = _sendable(posixpath.basename(path))
    if node.type != "file":
        raise Conflict(_("%(name)s is no file.") % {"name": name})
    content = bytearray()
    kind = ""
    limit = TEXT_SHOWN
    for piece in dump_file(repository, record.snapshot, path):
        content += piece
        if not kind:
            kind = next((image for magic, image in _IMAGES.items() if content.startswith(magic)), "")
            limit = IMAGE_SHOWN if kind and node.size <= IMAGE_SHOWN else TEXT_SHOWN
        if len(content) >= limit:
            break
    is_whole = len(content) >= node.size
    if kind and is_whole:
        return Preview(name, node.size, None, kind, bytes(content), is_whole)
    return Preview(name, node.size, _text(bytes(content[:TEXT_SHOWN])), "", b"", node.size <= TEXT_SHOWN)


async def stream(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Hand the pieces on one by one, each read in a thread, so that neither memory nor the event loop is filled."""
    read = sync_to_async(lambda: next(content, None), thread_sensitive=False)
    while (piece := await read()) is not None:
        yield piece


def describe_path(path: bytes) -> dict[str, str]:
    """Return a path as text to read, and percent-encoded to ask with: it may be no UTF-8."""
    return {"path": path.decode("utf-8", "replace"), "path_raw": quote(path)}


def _refuse_unfinished(record: BackupRecord) -> None:
    if record.vanished_at is not None:
        raise Conflict(GONE)
    if not record.is_restorable:
        raise Conflict(_("This backup did not succeed, so there is nothing to look into."))


def _sendable(name: bytes) -> str:
    """Return a file's name as a header can carry it."""
    return "".join(letter if letter.isprintable() else "_" for letter in name.decode("utf-8", "replace"))


def _text(content: bytes) -> str | None:
    """Return the text that a file begins with, None if it is no text. The end may have cut a letter in two."""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        return content[: error.start].decode("utf-8") if error.start > len(content) - 4 else None


def _describe(directory: bytes, node: Node) -> dict[str, Any]:
    return {
        "name": node.name.decode("utf-8", "replace"),
        **describe_path(posixpath.join(b"/", directory, node.name)),
        "type": node.type,
        "size": node.size,
        "mtime": datetime.fromtimestamp(min(max(node.mtime_ns // 10**9, 0), 253402128000), UTC),
        "mode": unix_permissions(node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "user": node.user,
        "group": node.group,
        "linktarget": node.linktarget.decode("utf-8", "replace"),
    }
