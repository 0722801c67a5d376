"""The paths of a backup, arranged as the snapshot's tree has them: from the root, each below its directories."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from engine.archiver.streams import InvalidStream, Stream
from engine.errors import EngineError


class NothingToBackUp(EngineError):
    """None of the paths of a backup can be read."""


@dataclass(slots=True)
class TargetDirectory:
    """A directory above targets: of its entries only `targets` and the way to further ones (`below`) are backed up.

    `is_whole`: the directory itself is a target (only the root can be one, any other is an entry of the one above it). `listed`
    are entries of a directory that was one, until a stream came to lie in it. `streams` are by their names.
    """

    path: bytes
    targets: set[bytes] = field(default_factory=set)
    below: dict[bytes, TargetDirectory] = field(default_factory=dict)
    is_whole: bool = False
    listed: set[bytes] = field(default_factory=set)
    streams: dict[bytes, Stream] = field(default_factory=dict)

    @property
    def names(self) -> list[bytes]:
        """All entries that the snapshot is to have, in their order."""
        return sorted({*self.targets, *self.below, *self.listed, *self.streams})

    @property
    def leads_to_streams(self) -> bool:
        """Whether there is such a directory in the snapshot even if the machine has none."""
        return bool(self.streams) or any(below.leads_to_streams for below in self.below.values())


def absolute_path(path: bytes | str) -> bytes:
    """The path from the root, without dots and doubled slashes, and without following links."""
    return os.path.normpath(os.path.abspath(os.fsencode(path))).replace(b"//", b"/", 1)


def arrange_targets(
    paths: Iterable[bytes], streams: Sequence[Stream] = (), on_unlisted: Callable[[bytes, OSError], None] = lambda path, error: None
) -> TargetDirectory:
    """The tree of absolute paths; what lies below another target comes with it.

    `on_unlisted` is told of a directory around a stream that cannot be listed. Raises InvalidStream.
    """
    root = TargetDirectory(b"/")
    for path in sorted(paths):  # a directory comes before what is below it
        parts = path.split(b"/")[1:] if path != b"/" else []
        if not parts:
            root.is_whole = True
        directory = root
        for depth, part in enumerate(parts):
            if directory.is_whole or part in directory.targets:
                break
            if depth == len(parts) - 1:
                directory.targets.add(part)
                directory.below.pop(part, None)
                break
            below = TargetDirectory(b"/" + b"/".join(parts[: depth + 1]))
            directory = directory.below.setdefault(part, below)
    for stream in streams:
        _place_stream(root, stream, on_unlisted)
    return root


def _place_stream(root: TargetDirectory, stream: Stream, on_unlisted: Callable[[bytes, OSError], None]) -> None:
    """Make room for a stream, also inside of a target: a stream takes the place of a file, never that of a directory."""
    shown = os.fsdecode(stream.path)
    if stream.path != absolute_path(stream.path) or stream.path == b"/":
        raise InvalidStream(f"{shown} is no path for a stream: it must be an absolute one, without dots")
    directory = root
    *above, name = stream.path.split(b"/")[1:]
    for depth, part in enumerate(above):
        _spread(directory, on_unlisted)
        path = b"/" + b"/".join(above[: depth + 1])
        is_target = part in directory.targets or part in directory.listed
        if part in directory.streams or (is_target and not os.path.isdir(path)):
            raise InvalidStream(f"there is no place for {shown}: {os.fsdecode(path)} is no directory")
        directory.targets.discard(part)
        directory.listed.discard(part)
        directory = directory.below.setdefault(part, TargetDirectory(path, is_whole=is_target))
    _spread(directory, on_unlisted)
    is_target = name in directory.targets or name in directory.listed
    if name in directory.below or (is_target and os.path.isdir(stream.path)):
        raise InvalidStream(f"there is no place for {shown}: it is a directory")
    if name in directory.streams:
        raise InvalidStream(f"two streams are to become {shown}")
    directory.targets.discard(name)
    directory.listed.discard(name)
    directory.streams[name] = stream


def _spread(directory: TargetDirectory, on_unlisted: Callable[[bytes, OSError], None]) -> None:
    """Take the entries of a whole directory for itself, so that others can be put among them."""
    if not directory.is_whole:
        return
    directory.is_whole = False
    try:
        directory.listed = set(os.listdir(directory.path))
    except OSError as error:
        on_unlisted(directory.path, error)
