"""The paths of a backup, arranged as the snapshot's tree has them: from the root, each below its directories."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.errors import EngineError


class NothingToBackUp(EngineError):
    """None of the paths of a backup can be read."""


@dataclass(slots=True)
class TargetDirectory:
    """A directory above targets: of its entries only `targets` and the way to further ones (`below`) are backed up.

    `is_whole`: the directory itself is a target (only the root can be one, any other is an entry of the one above it).
    """

    path: bytes
    targets: set[bytes] = field(default_factory=set)
    below: dict[bytes, TargetDirectory] = field(default_factory=dict)
    is_whole: bool = False


def absolute_path(path: bytes | str) -> bytes:
    """The path from the root, without dots and doubled slashes, and without following links."""
    return os.path.normpath(os.path.abspath(os.fsencode(path))).replace(b"//", b"/", 1)


def arrange_targets(paths: Iterable[bytes]) -> TargetDirectory:
    """The tree of absolute paths; what lies below another target comes with it."""
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
    return root
