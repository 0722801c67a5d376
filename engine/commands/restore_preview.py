"""What a restore would do, told without doing it: nothing is made, changed or removed below the target.

It walks the snapshot as `engine.commands.restore` does and looks at what stands in the target, so it costs the trees and one look
at each entry, and reads no content. What it says is of the moment at which it looked.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal

from engine.commands.restore import find_wanted, selection_of
from engine.errors import Cancelled, EngineError, PathNotFound
from engine.locks import hold_lock_if_allowed, wait_for_lock
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.restorer.existing import Overwrite, keeps_existing
from engine.restorer.plan import Outline, Selection, pieces_of, walk
from engine.restorer.target import Path, Target, shown
from engine.snapshot import Snapshot

Action = Literal["created", "overwritten", "kept", "removed"]
ACTIONS: tuple[Action, ...] = ("created", "overwritten", "kept", "removed")
KIND_OF_MODE = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFBLK: "dev",
    stat.S_IFCHR: "chardev",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What would happen to an entry. `size`: bytes of content, 0 of what is no file."""

    action: Action
    path: bytes
    type: str
    size: int


@dataclass(slots=True)
class RestorePreview:
    """Entries that are no directories, by what would happen to them, and their bytes of content.

    `removed` is what is of another kind than the entry that comes in its place, which then counts as created. A restore removes
    nothing else. `directories`: those that would be made.
    """

    created: int = 0
    overwritten: int = 0
    kept: int = 0
    removed: int = 0
    bytes_created: int = 0
    bytes_overwritten: int = 0
    bytes_kept: int = 0
    bytes_removed: int = 0
    directories: int = 0
    errors: int = 0
    duration_s: float = 0.0

    def counts(self) -> dict[str, float]:
        return asdict(self)


def preview_restore(
    repository: Repository,
    snapshot: Snapshot | str,
    target: bytes | str,
    *,
    include: Sequence[str] = (),
    include_patterns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    overwrite: Overwrite = "always",
    on_change: Callable[[PlannedChange], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_error: Callable[[bytes, str], None] | None = None,
    cancel: threading.Event | None = None,
    retry_lock_s: float = 0,
) -> RestorePreview:
    """Tell what `engine.commands.restore.restore` would do with the same arguments; it raises the same.

    `on_change` is told of each entry that is no directory, and of what would be removed; `on_error` path and reason of what
    could not be restored.
    """
    began = time.monotonic()
    selection = selection_of(include, include_patterns, exclude, overwrite)
    meter = ProgressMeter("looking what would change", on_progress)
    cancel = cancel or threading.Event()
    with wait_for_lock(partial(hold_lock_if_allowed, repository), retry_lock_s, meter, cancel):
        found, damaged = find_wanted(repository, snapshot, include)
        look = _Look(repository, os.fsencode(target), overwrite, meter, on_change, on_error, cancel)
        for name, error in damaged:
            look.report(f"snapshots/{name}".encode(), str(error))
        look.run(found.tree, selection)
    look.told.errors, look.told.duration_s = meter.errors, time.monotonic() - began
    return look.told


@dataclass(slots=True)
class _Look:
    repository: Repository
    directory: bytes
    overwrite: Overwrite
    meter: ProgressMeter
    on_change: Callable[[PlannedChange], None] | None
    on_error: Callable[[bytes, str], None] | None
    cancel: threading.Event
    told: RestorePreview = field(default_factory=RestorePreview)

    def run(self, tree: bytes, selection: Selection) -> None:
        target = Target(self.directory) if os.path.lexists(self.directory) else None
        has_found_any = False
        # Directories of which nothing is there, and those that cannot be made.
        absent: set[Path] = set() if target else {()}
        unusable: set[Path] = set()
        seen_links: set[tuple[int, int]] = set()
        try:
            for path, entry in walk(self.repository, tree, selection, self.report):
                if self.cancel.is_set():
                    raise Cancelled
                has_found_any = True
                if path[:-1] in unusable:
                    unusable.add(path)
                    continue
                try:
                    status = None if target is None or path[:-1] in absent else target.status(path)
                    if entry.is_dir:
                        self.look_at_directory(path, status, absent)
                    elif entry.type != "socket":
                        self.look_at(path, entry, status, seen_links)
                except (EngineError, OSError) as error:
                    self.report(shown(path), (error.strerror or str(error)) if isinstance(error, OSError) else str(error))
                    unusable.add(path)
            if selection.patterns is not None and not has_found_any and not self.meter.errors:
                raise PathNotFound("the snapshot has nothing that matches the patterns of what to include")
            self.meter.report()
        finally:
            if target is not None:
                target.close()

    def look_at_directory(self, path: Path, status: os.stat_result | None, absent: set[Path]) -> None:
        if status is not None and stat.S_ISDIR(status.st_mode):
            return
        if status is not None:
            if self.overwrite == "never":
                raise EngineError("something else stands in the place of the directory")
            self.remove(path, status)
        absent.add(path)
        self.told.directories += 1

    def look_at(self, path: Path, entry: Outline, status: os.stat_result | None, seen_links: set[tuple[int, int]]) -> None:
        identity = entry.link_identity
        is_further_link = identity in seen_links
        if identity:
            seen_links.add(identity)
        size = entry.size if entry.type == "file" else 0
        if keeps_existing(self.overwrite, status, entry):
            self.tell("kept", path, entry.type, size)
            return
        if entry.type == "file" and not is_further_link:
            for _piece in pieces_of(self.repository, path, entry):
                pass
        # The other names of a file are links to it.
        size = 0 if is_further_link else size
        if status is None:
            self.tell("created", path, entry.type, size)
        elif KIND_OF_MODE.get(stat.S_IFMT(status.st_mode)) == entry.type:
            self.tell("overwritten", path, entry.type, size)
        else:
            self.remove(path, status)
            self.tell("created", path, entry.type, size)

    def remove(self, path: Path, status: os.stat_result) -> None:
        """Note that what stands there would make place. Raises EngineError if it cannot."""
        kind = KIND_OF_MODE.get(stat.S_IFMT(status.st_mode), "socket")
        if kind == "dir" and os.listdir(os.path.join(self.directory, *path)):
            raise EngineError("a directory with something in it stands in its place")
        self.tell("removed", path, kind, status.st_size if kind == "file" else 0)

    def tell(self, action: Action, path: Path, kind: str, size: int) -> None:
        setattr(self.told, action, getattr(self.told, action) + 1)
        setattr(self.told, f"bytes_{action}", getattr(self.told, f"bytes_{action}") + size)
        self.meter.files_done += 1
        self.meter.tick()
        if self.on_change is not None:
            self.on_change(PlannedChange(action, shown(path), kind, size))

    def report(self, path: bytes, reason: str) -> None:
        self.meter.errors += 1
        if self.on_error is not None:
            self.on_error(path, reason)
