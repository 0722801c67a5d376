"""Restore a snapshot, or a part of it, below a directory of this machine.

    walk trees ── make directories ──┬── write files (tasks, in pack order) ── links, special files ── directories' metadata
                                     └── verify (if asked)

Many small files are written by processes, since Python's share of the work weighs there; few or large ones by threads. What
cannot be restored is told by path and reason, everything else is.
"""

import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal

from engine.errors import Cancelled, EngineError
from engine.filter import compile_patterns
from engine.lifeline import end_with_parent
from engine.node import Node
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.restorer.pieces import TaskResult, verify_pieces, write_pieces
from engine.restorer.plan import Piece, Selection, in_pack_order, pieces_of, tasks, walk
from engine.restorer.target import Path, Target, shown
from engine.snapshot import Snapshot, find_snapshot

Overwrite = Literal["always", "if-changed", "if-newer", "never"]
OVERWRITE_MODES: tuple[Overwrite, ...] = ("always", "if-changed", "if-newer", "never")

WORKERS = max(2, min(8, os.cpu_count() or 2))
PROCESSES_FROM_FILES = 500
TASKS_AHEAD = 2


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
    exclude: Sequence[str] = (),
    overwrite: Overwrite = "always",
    verify: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_error: Callable[[bytes, str], None] | None = None,
    cancel: threading.Event | None = None,
) -> RestoreSummary:
    """Restore below `target`, which is made if it is not there; entries keep their absolute paths below it, as with restic.

    `include`: absolute paths inside the snapshot (all if empty); `exclude`: patterns. `overwrite` says what happens to files
    that are there: `if-changed` leaves those of same size and modification time, `if-newer` those that are newer. `verify`
    reads everything back and compares hashes. `on_error` is told path and reason of what could not be restored.
    Raises SnapshotNotFound, Cancelled, EngineError if nothing at all can be done.
    """
    if overwrite not in OVERWRITE_MODES:
        raise EngineError(f"overwrite must be one of {', '.join(OVERWRITE_MODES)}")
    if not len(repository.index):
        repository.load_index()
    found = find_snapshot(repository, snapshot) if isinstance(snapshot, str) else snapshot
    selection = Selection(tuple(_inside_path(path) for path in include), compile_patterns(exclude) if exclude else None)
    run = _Restore(repository, os.fsencode(target), overwrite, on_progress, on_error, cancel or threading.Event())
    return run.run(found.tree, selection, verify)


class _Restore:
    def __init__(
        self,
        repository: Repository,
        directory: bytes,
        overwrite: Overwrite,
        on_progress: Callable[[Progress], None] | None,
        on_error: Callable[[bytes, str], None] | None,
        cancel: threading.Event,
    ) -> None:
        self.repository, self.overwrite, self.cancel = repository, overwrite, cancel
        self.target = Target(directory, create=True)
        self.meter = ProgressMeter("planning", on_progress)
        self._on_error = on_error
        self._failed: set[bytes] = set()
        self.directories: list[tuple[Path, Node]] = []
        self.files: list[tuple[Path, Node]] = []
        self.specials: list[tuple[Path, Node]] = []
        self.links: list[tuple[Path, Path, Node]] = []
        self.skipped = self.verified = 0

    def run(self, tree: bytes, selection: Selection, verify: bool) -> RestoreSummary:
        began = time.monotonic()
        try:
            self.plan(tree, selection)
            pieces = self.pieces()
            self.begin("restoring", pieces)
            self.make_large_files(pieces)
            self.work(write_pieces, pieces)
            self.finish_large_files(pieces)
            self.make_specials_and_links()
            written = self.meter.bytes_done
            restored = len(self.files) + len(self.specials) + len(self.links)
            if verify:
                checked = [piece for piece in pieces if shown(piece.path) not in self._failed]
                self.begin("verifying", checked)
                self.work(verify_pieces, checked)
                self.verified = self.meter.files_done
            self.finish_directories()
            self.meter.report()
        finally:
            self.target.close()
        failed = len(self._failed)
        return RestoreSummary(max(0, restored - failed), self.skipped, written, self.verified, failed, time.monotonic() - began)

    def report(self, path: bytes, reason: str) -> None:
        self._failed.add(path)
        self.meter.errors += 1
        if self._on_error is not None:
            self._on_error(path, reason)

    def plan(self, tree: bytes, selection: Selection) -> None:
        """Make all directories and sort everything else by what has to be done for it."""
        first_of_link: dict[tuple[int, int], Path] = {}
        unusable: set[Path] = set()
        for path, node in walk(self.repository, tree, selection, self.report):
            self.check_cancelled()
            if path[:-1] in unusable:
                unusable.add(path)
                continue
            try:
                if node.is_dir:
                    self.target.make_directory(path)
                    if selection.takes(path):
                        self.directories.append((path, node))
                    continue
                if self.keeps_existing(path, node):
                    self.skipped += 1
                    continue
            except (EngineError, OSError) as error:
                self.report(shown(path), str(error) if isinstance(error, EngineError) else error.strerror or str(error))
                unusable.add(path)
                continue
            first = first_of_link.setdefault((node.device_id, node.inode), path) if node.links > 1 else path
            if first != path:
                self.links.append((path, first, node))
            elif node.type == "file":
                self.files.append((path, node))
            else:
                self.specials.append((path, node))

    def keeps_existing(self, path: Path, node: Node) -> bool:
        """Whether what stands there already is to be left as it is."""
        if self.overwrite == "always":
            return False
        status = self.target.status(path)
        if status is None:
            return False
        if self.overwrite == "never":
            return True
        if self.overwrite == "if-newer":
            return status.st_mtime_ns >= node.mtime_ns
        is_same_kind = stat.S_ISREG(status.st_mode) == (node.type == "file")
        return is_same_kind and node.type == "file" and (status.st_size, status.st_mtime_ns) == (node.size, node.mtime_ns)

    def pieces(self) -> list[Piece]:
        pieces: list[Piece] = []
        for path, node in self.files:
            try:
                pieces += pieces_of(self.repository, path, node)
            except EngineError as error:
                self.report(shown(path), str(error))
        return in_pack_order(self.repository, pieces)

    def begin(self, phase: str, pieces: Sequence[Piece]) -> None:
        meter = self.meter
        meter.phase, meter.files_done, meter.bytes_done = phase, 0, 0
        meter.files_total = sum(piece.offset == 0 for piece in pieces)
        meter.bytes_total = sum(piece.size for piece in pieces)
        meter.report()

    def make_large_files(self, pieces: Sequence[Piece]) -> None:
        """Make the files that several tasks write to, as one hole each."""
        for path, node in _parts(pieces):
            try:
                descriptor = self.target.make_file(path)
            except OSError as error:
                self.report(shown(path), error.strerror or str(error))
                continue
            try:
                os.truncate(descriptor, node.size)
            except (OSError, OverflowError) as error:
                self.report(shown(path), f"its size cannot be set ({error})")
            finally:
                os.close(descriptor)

    def finish_large_files(self, pieces: Sequence[Piece]) -> None:
        sizes: dict[Path, int] = {}
        for piece in pieces:
            sizes[piece.path] = sizes.get(piece.path, 0) + piece.size
        for path, node in _parts(pieces):
            if shown(path) in self._failed:
                continue
            if sizes[path] != node.size:
                self.report(shown(path), "the content has another size than the snapshot says")
            self.meter.files_done += 1
            try:
                descriptor = self.target.open_file(path, os.O_RDWR)
            except (EngineError, OSError) as error:
                self.report(shown(path), str(error))
                continue
            try:
                self.apply_metadata(path, node, descriptor)
            finally:
                os.close(descriptor)

    def make_specials_and_links(self) -> None:
        for path, node in self.specials:
            self.check_cancelled()
            try:
                self.target.make_special(path, node)
            except (EngineError, OSError) as error:
                self.report(shown(path), str(error) if isinstance(error, EngineError) else error.strerror or str(error))
                continue
            self.apply_metadata(path, node)
        for path, first, _ in self.links:
            if shown(first) in self._failed:
                self.report(shown(path), "the file that it is a hard link of could not be restored")
                continue
            try:
                self.target.link(first, path)
            except OSError as error:
                self.report(shown(path), error.strerror or str(error))

    def finish_directories(self) -> None:
        """Give directories their metadata, the deepest first, since whatever is made in one changes its times."""
        for path, node in reversed(self.directories):
            self.apply_metadata(path, node)

    def apply_metadata(self, path: Path, node: Node, descriptor: int | None = None) -> None:
        try:
            failures = self.target.apply_metadata(path, node, descriptor)
        except OSError as error:
            failures = [error]
        for failure in failures:
            self.report(shown(path), f"metadata: {failure.strerror}")

    def check_cancelled(self) -> None:
        if self.cancel.is_set():
            raise Cancelled

    def work(self, act: "_Act", pieces: Sequence[Piece]) -> None:
        """Let `act` work on all pieces, in tasks, and count what it did."""
        if not pieces:
            return
        with _workers(self.repository, self.target.directory, act, len(pieces)) as submit:
            waiting = tasks(pieces)
            running: set[Future[TaskResult]] = set()
            while True:
                while len(running) < WORKERS + TASKS_AHEAD and (task := next(waiting, None)) is not None:
                    running.add(submit(task))
                if not running:
                    return
                done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
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
        self.meter.bytes_done += result.bytes_written
        for path, reason in result.failures + result.warnings:
            self.report(path, reason)


_Act = Callable[[Repository, Target, Sequence[Piece]], TaskResult]


class _workers:
    """Threads or processes that do `act` on tasks. Each has a target of its own, each process a store of its own."""

    def __init__(self, repository: Repository, directory: bytes, act: _Act, pieces: int) -> None:
        self._act = act
        self._executor: Executor
        if pieces >= PROCESSES_FROM_FILES and threading.current_thread() is threading.main_thread():
            context = multiprocessing.get_context("fork")
            self._executor = ProcessPoolExecutor(
                WORKERS, mp_context=context, initializer=_begin_process, initargs=(repository, directory, act, os.getpid())
            )
            self._submit = self._to_process
        else:
            self._local = threading.local()
            self._repository, self._directory = repository, directory
            self._targets: list[Target] = []
            self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="restore")
            self._submit = self._to_thread

    def __enter__(self) -> Callable[[list[Piece]], "Future[TaskResult]"]:
        return self._submit

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        for target in getattr(self, "_targets", ()):
            target.close()

    def _to_process(self, task: list[Piece]) -> "Future[TaskResult]":
        return self._executor.submit(_work_in_process, task)

    def _to_thread(self, task: list[Piece]) -> "Future[TaskResult]":
        return self._executor.submit(self._work_in_thread, task)

    def _work_in_thread(self, task: list[Piece]) -> TaskResult:
        target = getattr(self._local, "target", None)
        if target is None:
            target = self._local.target = Target(self._directory)
            self._targets.append(target)
        return self._act(self._repository, target, task)


_in_process: tuple[Repository, Target, _Act] | None = None


def _begin_process(repository: Repository, directory: bytes, act: _Act, parent: int) -> None:
    global _in_process
    end_with_parent(parent)
    # A Ctrl-C at the terminal reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    repository.store = repository.store.reopened()
    _in_process = repository, Target(directory), act


def _work_in_process(task: list[Piece]) -> TaskResult:
    assert _in_process is not None
    repository, target, act = _in_process
    return act(repository, target, task)


def _parts(pieces: Sequence[Piece]) -> Iterator[tuple[Path, Node]]:
    """Yield each file that is cut into several pieces, once."""
    return ((piece.path, piece.node) for piece in pieces if not piece.is_whole and piece.offset == 0)


def _inside_path(path: str) -> Path:
    """Return an absolute path inside a snapshot as its components."""
    return tuple(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))
