"""Snapshots: the small files that name a tree, and say of what, where and when it was taken.

Reading and writing their JSON, finding one by id, prefix or ``latest``, and choosing the parent of the next one. Format:
``Snapshots`` in restic's ``doc/design.rst``; fields that are unknown here are dropped on reading.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Annotated, Any

import msgspec

from engine.blob import parse_id
from engine.bounds import FILE_BYTES, SNAPSHOTS_BYTES, unpacked_limit
from engine.errors import DataDamaged, EngineError, FileMissing, SnapshotNotFound, TooLarge
from engine.gotime import format_time, parse_zoned_time
from engine.node import go_string, replace_undecodable
from engine.readahead import map_ahead
from engine.store import FileKind, UnpackedFiles

_READERS = 4
# About what a snapshot takes in memory without its texts, and an entry of a dictionary.
_SNAPSHOT_SIZE, _ENTRY_SIZE = 2000, 100


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """What the run that made a snapshot counted; bytes of content, `data_added_packed` as stored.

    `errors`: how often something could not be read, or changed meanwhile, so that the snapshot is incomplete. That field is ours
    alone, and is not written if it is 0; restic does not heed it, and drops it from snapshots that it changes or copies.
    """

    backup_start: datetime
    backup_end: datetime
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0
    errors: int = 0


_COUNTS = tuple(SnapshotSummary.__slots__[2:])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot file. `id` is its name (64 hexadecimal digits, empty until it is saved), `tree` 32 raw bytes.

    `time` is aware and keeps the offset of the place where it was taken: a day there is what keep rules count.
    """

    time: datetime
    tree: bytes
    paths: tuple[str, ...]
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None
    original: str | None = None
    program_version: str = ""
    summary: SnapshotSummary | None = None
    id: str = ""

    @property
    def short_id(self) -> str:
        return self.id[:8]

    @property
    def is_incomplete(self) -> bool:
        """Whether the run that made it said that something is missing, or not as it was."""
        return self.summary is not None and self.summary.errors > 0

    def has_tags(self, tags: Iterable[str]) -> bool:
        """Whether it has all of these tags; the tag "" means having none, whatever follows it."""
        for tag in tags:
            if not tag and not self.tags:
                return True
            if tag not in self.tags:
                return False
        return True

    def encode(self) -> bytes:
        """The JSON that restic would write."""
        fields: list[str] = [f'"time":"{format_time(self.time)}"']
        if self.parent:
            fields.append(f'"parent":{go_string(self.parent)}')
        fields.append(f'"tree":"{self.tree.hex()}"')
        fields.append(f'"paths":{_encode_list(self.paths)}')
        for name, text in (("hostname", self.hostname), ("username", self.username)):
            if text:
                fields.append(f'"{name}":{go_string(text)}')
        for name, number in (("uid", self.uid), ("gid", self.gid)):
            if number:
                fields.append(f'"{name}":{number}')
        for name, texts in (("excludes", self.excludes), ("tags", self.tags)):
            if texts:
                fields.append(f'"{name}":{_encode_list(texts)}')
        if self.original:
            fields.append(f'"original":{go_string(self.original)}')
        if self.program_version:
            fields.append(f'"program_version":{go_string(self.program_version)}')
        if self.summary:
            counted = ((name, getattr(self.summary, name)) for name in _COUNTS)
            counts = ",".join(f'"{name}":{count}' for name, count in counted if count or name != "errors")
            start, end = format_time(self.summary.backup_start), format_time(self.summary.backup_end)
            fields.append(f'"summary":{{"backup_start":"{start}","backup_end":"{end}",{counts}}}')
        return replace_undecodable("{" + ",".join(fields) + "}").encode("utf-8", "replace")

    @classmethod
    def decode(cls, content: bytes, snapshot_id: str) -> Snapshot:
        """The snapshot in a file's plaintext. Raises DataDamaged."""
        try:
            raw = _decode_raw(content)
            tree, time = parse_id(raw.tree), parse_zoned_time(raw.time)
            if not MINYEAR < time.year < MAXYEAR:
                raise ValueError("a time that the clocks of some places cannot show")
            return cls(
                time=time,
                tree=tree,
                paths=tuple(raw.paths or ()),
                hostname=raw.hostname or "",
                username=raw.username or "",
                uid=raw.uid,
                gid=raw.gid,
                excludes=tuple(raw.excludes or ()),
                tags=tuple(raw.tags or ()),
                parent=raw.parent,
                original=raw.original,
                program_version=raw.program_version or "",
                summary=None if raw.summary is None else _summary(raw.summary),
                id=snapshot_id,
            )
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DataDamaged(f"the snapshot {snapshot_id[:8]} is damaged") from error


_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


def _summary(raw: dict[str, Any]) -> SnapshotSummary:
    start, end = msgspec.convert((raw.get("backup_start"), raw.get("backup_end")), tuple[str, str])
    counts = msgspec.convert({name: raw.get(name, 0) for name in _COUNTS}, dict[str, _Number])
    return SnapshotSummary(parse_zoned_time(start), parse_zoned_time(end), **counts)


class _RawSnapshot(msgspec.Struct):
    """A snapshot as its JSON has it."""

    time: str
    tree: str
    paths: list[str] | None
    hostname: str | None = ""
    username: str | None = ""
    uid: _Id = 0
    gid: _Id = 0
    excludes: list[str] | None = None
    tags: list[str] | None = None
    parent: str | None = None
    original: str | None = None
    program_version: str | None = ""
    summary: dict[str, Any] | None = None


_decode_raw = msgspec.json.Decoder(_RawSnapshot).decode


@dataclass(frozen=True, slots=True)
class SnapshotFilter:
    """Which snapshots are meant: of one of these hosts, with all tags of one of these lists, with all these paths."""

    hosts: tuple[str, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()
    paths: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hosts or self.tags or self.paths)

    def matches(self, snapshot: Snapshot) -> bool:
        return (
            (not self.hosts or snapshot.hostname in self.hosts)
            and (not self.tags or any(map(snapshot.has_tags, self.tags)))
            and _paths_as_stored(self.paths) <= set(snapshot.paths)
        )


EVERY_SNAPSHOT = SnapshotFilter()


def save_snapshot(files: UnpackedFiles, snapshot: Snapshot) -> str:
    """Write the snapshot and return its id."""
    return files.save_file(FileKind.SNAPSHOTS, snapshot.encode())


def change_snapshot(
    content: bytes, *, original: str, tree: bytes | None = None, tags: Sequence[str] | None = None, has_parent: bool = True
) -> bytes:
    """A snapshot file's plaintext with other values of what is given, and perhaps no parent; the rest stays byte for byte.

    A `Snapshot` has not all that restic compares of a snapshot and its copy: its times end at microseconds. Raises DataDamaged.
    """
    try:
        fields = {name: str(raw, "utf-8") for name, raw in _decode_fields(content).items() if has_parent or name != "parent"}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataDamaged("a snapshot is damaged in fields that are unknown here") from error
    fields["original"] = f'"{original}"'
    if tree is not None:
        fields["tree"] = f'"{tree.hex()}"'
    if tags is not None:
        fields["tags"] = _encode_list(tags)
    return ("{" + ",".join(f"{go_string(name)}:{value}" for name, value in fields.items()) + "}").encode()


def load_snapshot(files: UnpackedFiles, snapshot_id: str) -> Snapshot:
    """The snapshot of a full id. Raises SnapshotNotFound, DataDamaged."""
    try:
        return Snapshot.decode(files.load_file(FileKind.SNAPSHOTS, snapshot_id), snapshot_id)
    except FileMissing as error:
        raise SnapshotNotFound(f"there is no snapshot {snapshot_id}") from error


OnDamaged = Callable[[str, DataDamaged], None]


def iter_snapshots(files: UnpackedFiles, on_damaged: OnDamaged | None = None) -> Iterator[Snapshot]:
    """Every snapshot, in no particular order; one that is removed meanwhile is left out.

    `on_damaged` is told (full id, error) of those that cannot be read, which are left out. Without it raises DataDamaged.
    """
    sizes = dict(files.store.list(FileKind.SNAPSHOTS))
    texts = _Texts()

    def load(name: str) -> Snapshot | None:
        try:
            return load_snapshot(files, name)
        except SnapshotNotFound:
            return None
        except DataDamaged as error:
            if on_damaged is None:
                raise
            on_damaged(name, error)
            return None

    if len(sizes) < 2:
        yield from map(texts.share, filter(None, map(load, sizes)))
        return

    def weigh(name: str) -> int:
        return unpacked_limit(FileKind.SNAPSHOTS, sizes[name])

    with ThreadPoolExecutor(_READERS, thread_name_prefix="snapshots") as readers:
        loaded = map_ahead(readers, load, sizes, FILE_BYTES[FileKind.SNAPSHOTS], weigh)
        yield from map(texts.share, filter(None, loaded))


class _Texts:
    """Texts of snapshots, each once in memory: hosts, paths and patterns are the same in most."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._size = 0

    def share(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with texts that are shared. Raises TooLarge if all of them come to take too much memory."""
        self._size += _SNAPSHOT_SIZE
        lists = [tuple(map(self._shared, texts)) for texts in (snapshot.paths, snapshot.excludes, snapshot.tags)]
        self._size += sum(map(sys.getsizeof, lists))
        if self._size > SNAPSHOTS_BYTES:
            raise TooLarge("the snapshots of the repository name more paths, patterns and tags than any program writes")
        hostname, username = self._shared(snapshot.hostname), self._shared(snapshot.username)
        return replace(snapshot, paths=lists[0], excludes=lists[1], tags=lists[2], hostname=hostname, username=username)

    def _shared(self, text: str) -> str:
        shared = self._texts.get(text)
        if shared is None:
            shared = self._texts[text] = text
            self._size += sys.getsizeof(text) + _ENTRY_SIZE
        return shared


def find_snapshot(
    files: UnpackedFiles, name: str, only: SnapshotFilter = EVERY_SNAPSHOT, *, on_damaged: OnDamaged | None = None
) -> Snapshot:
    """The one snapshot that `name` means: an id, the beginning of one, or ``latest``.

    `only` narrows ``latest`` down, which is the newest of those that can be read if `on_damaged` is told of the others. Raises
    SnapshotNotFound when none fits, or a prefix fits several; DataDamaged.
    """
    if name == "latest":
        found = latest_snapshot(iter_snapshots(files, on_damaged), only)
        if found is None:
            raise SnapshotNotFound("there is no snapshot yet that fits")
        return found
    matching = [full for full, _ in files.store.list(FileKind.SNAPSHOTS) if full.startswith(name)]
    if not name or not matching:
        raise SnapshotNotFound(f"there is no snapshot {name!r}")
    if len(matching) > 1:
        raise SnapshotNotFound(f"the snapshot id {name!r} is ambiguous: it begins {len(matching)} ids")
    return load_snapshot(files, matching[0])


def find_snapshots(files: UnpackedFiles, names: Sequence[str], only: SnapshotFilter = EVERY_SNAPSHOT) -> list[Snapshot]:
    """The snapshots that `names` mean, each once, or without names all that `only` means; the oldest first.

    `only` narrows ``latest`` down. Raises as `find_snapshot`, and for a filter beside names that it would not be asked for.
    """
    if not names:
        found = {snapshot.id: snapshot for snapshot in iter_snapshots(files) if only.matches(snapshot)}
    else:
        refuse_idle_filter(names, only)
        found = {snapshot.id: snapshot for snapshot in (find_snapshot(files, name, only) for name in names)}
    return sorted(found.values(), key=lambda snapshot: (snapshot.time, snapshot.id))


def refuse_idle_filter(names: Sequence[str], only: SnapshotFilter) -> None:
    """Raise EngineError for a filter beside snapshots that are all named: whoever wrote it expects it to matter."""
    if names and only and "latest" not in names:
        raise EngineError("snapshots that are named are taken whatever they are: give no filter with them")


def latest_snapshot(
    snapshots: Iterable[Snapshot], only: SnapshotFilter = EVERY_SNAPSHOT, *, not_after: datetime | None = None
) -> Snapshot | None:
    """The newest of the snapshots that `only` means. Of one host and all its paths, it is the parent of the next of them."""
    fitting = (snapshot for snapshot in filter(only.matches, snapshots) if not_after is None or snapshot.time <= not_after)
    return max(fitting, key=lambda snapshot: snapshot.time, default=None)


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _paths_as_stored(paths: Iterable[str]) -> set[str]:
    return {replace_undecodable(posixpath.normpath(path)) for path in paths}


def _encode_list(texts: Iterable[str]) -> str:
    return "[" + ",".join(map(go_string, texts)) + "]"
