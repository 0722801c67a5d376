"""Restore a snapshot, or a part of it, below a directory of this machine.

    walk trees ── make directories ── gather files in windows ── write them (tasks, in pack order)
        ── links, special files ── verify (if asked) ── directories' metadata

Writing begins with the first window, while the rest of the trees is still being read. It is done by processes, but for a restore
too small to be worth starting any. What cannot be restored is told by path and reason, everything else is.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial

from engine.allocation import keep_freed_buffers
from engine.blob import BlobType
from engine.commands.ls import find_node
from engine.errors import Cancelled, DataDamaged, EngineError, PathNotFound
from engine.filter import compile_patterns
from engine.locks import hold_lock_if_allowed, wait_for_lock
from engine.metadata import OwnerNotSet
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.restorer.existing import OVERWRITE_MODES, Overwrite, keeps_existing
from engine.restorer.pieces import TaskResult, verify_pieces, write_pieces
from engine.restorer.plan import Metadata, Outline, Piece, Selection, pieces_of, tasks, walk
from engine.restorer.target import Path, Target, shown
from engine.restorer.workers import WORKERS, Workers
from engine.snapshot import Snapshot, find_snapshot

# Enough to keep the workers busy while the next window is planned; a waiting task holds no content.
TASKS_AHEAD = WORKERS
# A window's pieces are sorted by where they lie in the packs; it also bounds what is planned ahead. Each piece counts, and each of
# its blobs. The first is small, so that the workers begin soon.
FIRST_WINDOW = 1 << 10
WINDOW = 16 << 10
WINDOW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class RestoreSummary:
    """What a restore did. `files_*` count entries that are no directories; sizes in bytes of content."""

    files_restored: int
    files_skipped: int
    bytes_restored: int
    files_verified: int
    errors: int
    duration_s: float


def restore(
    repository: Repository,
    snapshot: Snapshot | str,
    target: bytes | str,
    *,
    include: Sequence[str] = (),
    include_patterns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    overwrite: Overwrite = "always",
    verify: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_error: Callable[[bytes, str], None] | None = None,
    cancel: threading.Event | None = None,
    retry_lock_s: float = 0,
) -> RestoreSummary:
    """Restore below `target`, which is made if it is not there; entries keep their absolute paths below it, as with restic.

    `include`: absolute paths inside the snapshot; `include_patterns`: patterns of what is restored besides; all is if both are
    empty. `exclude`: patterns of what is not. `overwrite` says what happens to files that are there: `if-changed` leaves those
    of same size and modification time, `if-newer` those that are newer. `verify` reads everything back and compares hashes.
    `on_error` is told path and reason of what could not be restored, and of a damaged snapshot, which `latest` leaves out.
    A shared lock keeps others from deleting what is being read, if the store lets us write one; `retry_lock_s`: how long to wait
    for who is deleting.
    Raises SnapshotNotFound, PathNotFound if something to include is not there, InvalidPattern, RepositoryLocked, Cancelled,
    EngineError if nothing at all can be done.
    """
    selection = selection_of(include, include_patterns, exclude, overwrite)
    keep_freed_buffers()
    meter = ProgressMeter("restoring", on_progress)
    cancel = cancel or threading.Event()
    with wait_for_lock(partial(hold_lock_if_allowed, repository), retry_lock_s, meter, cancel):
        found, damaged = find_wanted(repository, snapshot, include)
        run = _Restore(repository, os.fsencode(target), overwrite, meter, on_error, cancel)
        meter.report()
        for name, error in damaged:
            run.warn(f"snapshots/{name}".encode(), str(error))
        return run.run(found.tree, selection, verify)


def selection_of(
    include: Sequence[str], include_patterns: Sequence[str], exclude: Sequence[str], overwrite: Overwrite
) -> Selection:
    """Return which part of a snapshot is meant by the arguments of a restore. Raises InvalidPattern, EngineError."""
    if overwrite not in OVERWRITE_MODES:
        raise EngineError(f"overwrite must be one of {', '.join(OVERWRITE_MODES)}")
    return Selection(
        tuple(map(_inside_path, include)),
        compile_patterns(exclude) if exclude else None,
        compile_patterns(include_patterns) if include_patterns else None,
    )


def find_wanted(
    repository: Repository, snapshot: Snapshot | str, include: Sequence[str]
) -> tuple[Snapshot, list[tuple[str, DataDamaged]]]:
    """Return the snapshot, with its index read, and the damaged ones that `latest` leaves out. Raises as `restore` does."""
    damaged: list[tuple[str, DataDamaged]] = []
    found = snapshot
    if isinstance(found, str):
        found = find_snapshot(repository, found, on_damaged=lambda name, error: damaged.append((name, error)))
    # Afterwards, since a snapshot that has just been saved is in no index that was read before.
    if not repository.index.has(BlobType.TREE, found.tree):
        repository.load_index()
    _refuse_missing(repository, found, include)
    return found, damaged


class _Restore:
    def __init__(
        self,
        repository: Repository,
        directory: bytes,
        overwrite: Overwrite,
        meter: ProgressMeter,
        on_error: Callable[[bytes, str], None] | None,
        cancel: threading.Event,
    ) -> None:
        self.repository, self.overwrite, self.meter, self.cancel = repository, overwrite, meter, cancel
        self.target = Target(directory, create=True)
        self._on_error = on_error
        self._failed: set[bytes] = set()
        # Of these, what was not counted among the files.
        self._never_begun: set[bytes] = set()
        self.directories: list[tuple[Path, Metadata]] = []
        self.specials: list[tuple[Path, Outline]] = []
        self.links: list[tuple[Path, Path]] = []
        self.files = self.bytes_planned = self.skipped = self.verified = self.owners_not_set = 0
        self._large: list[tuple[Path, Metadata]] = []
        self._unfinished: set[Path] = set()
        self._working: set[Future[TaskResult]] = set()
        self._has_found_any = False

    def run(self, tree: bytes, selection: Selection, verify: bool) -> RestoreSummary:
        began = time.monotonic()
        written: list[Piece] = []
        try:
            with Workers(self.repository, self.target.directory, write_pieces) as workers:
                for window in self.windows(tree, selection):
                    self.work(workers, window)
                    if verify:
                        written += window
                if selection.patterns is not None and not self._has_found_any and not self._failed:
                    raise PathNotFound("the snapshot has nothing that matches the patterns of what to include")
                self.drain()
            self.finish_large_files()
            self.make_specials_and_links()
            bytes_restored = self.meter.bytes_done
            if verify:
                self.verify([piece for piece in written if shown(piece.path) not in self._failed])
            self.finish_directories()
            self.tell_owners()
            self.meter.report()
        finally:
            self.remove_unfinished()
            self.target.close()
        failed = len(self._failed) - len(self._never_begun)
        restored = max(0, self.files + len(self.specials) + len(self.links) - failed)
        return RestoreSummary(restored, self.skipped, bytes_restored, self.verified, self.meter.errors, time.monotonic() - began)

    def verify(self, pieces: Sequence[Piece]) -> None:
        """Read everything back that was written."""
        meter = self.meter
        meter.phase, meter.files_done, meter.bytes_done = "verifying", 0, 0
        meter.report()
        meter.files_total = sum(piece.offset == 0 for piece in pieces)
        meter.bytes_total = sum(piece.size for piece in pieces)
        with Workers(self.repository, self.target.directory, verify_pieces) as workers:
            self.work(workers, pieces)
            self.drain()
        self.verified = meter.files_done

    def report(self, path: bytes, reason: str) -> None:
        """Tell that an entry could not be restored."""
        self._failed.add(path)
        self.warn(path, reason)

    def leave_out(self, path: bytes, reason: str) -> None:
        """Tell that an entry could not even be begun."""
        self._never_begun.add(path)
        self.report(path, reason)

    def warn(self, path: bytes, reason: str) -> None:
        """Tell that an entry is there, but not all as it was."""
        self.meter.errors += 1
        if self._on_error is not None:
            self._on_error(path, reason)

    def windows(self, tree: bytes, selection: Selection) -> Iterator[list[Piece]]:
        """Walk the trees, make the directories, and yield the contents to write, window by window."""
        window: list[Piece] = []
        size, weight, limit = 0, 0, FIRST_WINDOW
        for path, file in self.entries(tree, selection):
            try:
                pieces = pieces_of(self.repository, path, file)
            except EngineError as error:
                self.report(shown(path), str(error))
                continue
            for piece in pieces:
                if piece.offset == 0 and not piece.is_whole:
                    self.make_large_file(path, file)
                window.append(piece)
                size += piece.size
                weight += 1 + len(piece.blobs)
                if weight >= limit or size >= WINDOW_BYTES:
                    yield window
                    window, size, weight, limit = [], 0, 0, WINDOW
        if window:
            yield window
        self.meter.files_total, self.meter.bytes_total = self.files, self.bytes_planned

    def entries(self, tree: bytes, selection: Selection) -> Iterator[tuple[Path, Outline]]:
        """Make all directories, remember links and special files for later, and yield the files to write."""
        first_of_link: dict[tuple[int, int], Path] = {}
        unusable: set[Path] = set()
        for path, entry in walk(self.repository, tree, selection, self.leave_out):
            self.check_cancelled()
            self._has_found_any = True
            if path[:-1] in unusable:
                unusable.add(path)
                continue
            try:
                if entry.is_dir:
                    # What only leads to the selection is left as it stands, if it does.
                    is_made = self.target.make_directory(path, may_replace=self.overwrite != "never")
                    is_taken = selection.takes(path)
                    if is_taken and not is_made:
                        self.target.open_up(path)
                    if is_taken or is_made:
                        self.directories.append((path, entry.metadata))
                    continue
                if entry.type == "socket":  # it is nothing without who listens; restic makes none either
                    continue
                # Before what is kept is left out: the other names of a kept file become links to it.
                identity = entry.link_identity
                first = first_of_link.setdefault(identity, path) if identity else path
                if self.overwrite != "always" and keeps_existing(self.overwrite, self.target.status(path), entry):
                    self.skipped += 1
                    continue
            except (EngineError, OSError) as error:
                self.leave_out(shown(path), _reason(error))
                unusable.add(path)
                continue
            if first != path:
                self.links.append((path, first))
            elif entry.type == "file":
                self.files += 1
                self.bytes_planned += entry.size
                yield path, entry
            else:
                self.specials.append((path, entry))

    def make_large_file(self, path: Path, file: Outline) -> None:
        """Make a file that several tasks write to, as one hole."""
        self._large.append((path, file.metadata))
        try:
            descriptor = self.target.make_file(path)
        except OSError as error:
            self.report(shown(path), _reason(error))
            return
        self._unfinished.add(path)
        try:
            os.truncate(descriptor, file.size)
        except (OSError, OverflowError) as error:
            self.report(shown(path), f"its size cannot be set ({error})")
        finally:
            os.close(descriptor)

    def finish_large_files(self) -> None:
        for path, metadata in self._large:
            if shown(path) in self._failed:
                continue
            self._unfinished.discard(path)
            self.meter.files_done += 1
            try:
                descriptor = self.target.open_file(path, os.O_RDWR)
            except (EngineError, OSError) as error:
                self.report(shown(path), _reason(error))
                continue
            try:
                self.apply_metadata(path, metadata, descriptor)
            finally:
                os.close(descriptor)
        self.remove_unfinished()

    def remove_unfinished(self) -> None:
        """Remove the large files that are not complete, which a later restore would keep as newer than the snapshot."""
        for path in self._unfinished:
            with contextlib.suppress(OSError):
                self.target.remove(path)
        self._unfinished.clear()

    def make_specials_and_links(self) -> None:
        for path, entry in self.specials:
            self.check_cancelled()
            try:
                self.target.make_special(path, entry.node())
            except (EngineError, OSError) as error:
                self.report(shown(path), _reason(error))
                continue
            self.apply_metadata(path, entry.metadata)
        for path, first in self.links:
            if shown(first) in self._failed:
                self.report(shown(path), "the file that it is a hard link of could not be restored")
                continue
            try:
                self.target.link(first, path)
            except OSError as error:
                self.report(shown(path), _reason(error))

    def finish_directories(self) -> None:
        """Give directories their metadata, the deepest first, since whatever is made in one changes its times."""
        for path, metadata in reversed(self.directories):
            self.apply_metadata(path, metadata)

    def tell_owners(self) -> None:
        """Tell once of all entries that could not be given to their owners: it is one cause, and may be all of them."""
        if self.owners_not_set:
            reason = f"{self.owners_not_set} entries belong to user {os.geteuid()}, who restored them, and not to their owners"
            self.warn(self.target.directory, f"metadata: {reason}: giving files away takes root or CAP_CHOWN")

    def apply_metadata(self, path: Path, metadata: Metadata, descriptor: int | None = None) -> None:
        try:
            for failure in self.target.apply_metadata(path, metadata.node(), descriptor):
                if isinstance(failure, OwnerNotSet):
                    self.owners_not_set += 1
                else:
                    self.warn(shown(path), f"metadata: {failure.strerror}")
        except (EngineError, OSError) as error:
            self.warn(shown(path), f"metadata: {_reason(error)}")

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            self.repository.store.hurry()
            raise Cancelled

    def work(self, workers: Workers, pieces: Sequence[Piece]) -> None:
        """Hand the pieces to the workers, as tasks, as fast as they are done with earlier ones."""
        workers.start(pieces)
        for task in tasks(pieces, self.packs_of_a_task(pieces)):
            while len(self._working) >= WORKERS + TASKS_AHEAD:
                self.collect()
            self._working.add(workers.submit(task))

    def packs_of_a_task(self, pieces: Sequence[Piece]) -> int:
        """One pack, so that all workers are busy to the end; more from a store where the next ones are asked for meanwhile."""
        ahead = self.repository.store.packs_ahead
        return min(1 + 2 * ahead, -(-len({piece.pack for piece in pieces}) // WORKERS)) if ahead else 1

    def drain(self) -> None:
        while self._working:
            self.collect()

    def collect(self) -> None:
        """Wait for a task to be done and count what it did."""
        done, self._working = wait(self._working, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            self.count(future)
        self.meter.tick()
        self.check_cancelled()

    def count(self, future: "Future[TaskResult]") -> None:
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise EngineError("a process of the restore was killed") from error
        self.meter.files_done += result.files_done
        self.owners_not_set += result.owners_not_set
        self.meter.bytes_done += result.bytes_written
        for path, reason in result.failures:
            self.report(path, reason)
        for path, reason in result.warnings:
            self.warn(path, reason)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _refuse_missing(repository: Repository, snapshot: Snapshot, paths: Iterable[str]) -> None:
    """Raise PathNotFound if the snapshot has nothing at one of the paths."""
    for path in paths:
        try:
            find_node(repository, snapshot, os.fsencode(path))
        except PathNotFound:
            raise
        except EngineError:  # told by the walk, which restores what it can
            continue


def _inside_path(path: str) -> Path:
    """Return an absolute path inside a snapshot as its components."""
    return tuple(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))
