"""backup: take a snapshot of paths of this machine, and of streams, which become files beside them.

What cannot be read is reported and left out, and the snapshot is written all the same; `errors` in the summary, also in that of
the snapshot itself, says how often.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial

from engine import __version__
from engine.allocation import keep_freed_buffers
from engine.archiver.archiver import Archiver
from engine.archiver.estimate import Estimate
from engine.archiver.large import LargeFiles
from engine.archiver.reading import reason
from engine.archiver.streams import Stream, StreamFailed
from engine.archiver.targets import NothingToBackUp, absolute_path, arrange_targets
from engine.archiver.worker import WorkerSettings
from engine.archiver.workers import end_workers, start_workers, usable_processors
from engine.chunker import ChunkerName, Cut
from engine.chunker import cut as fastcdc_cut
from engine.errors import Cancelled, DataDamaged, PathNotFound, StoreError
from engine.filter import compile_patterns
from engine.keys import user_name
from engine.locks import wait_for_lock
from engine.progress import Progress, ProgressMeter
from engine.repository import Repository
from engine.snapshot import (
    Snapshot,
    SnapshotFilter,
    SnapshotSummary,
    find_snapshot,
    iter_snapshots,
    latest_snapshot,
    save_snapshot,
)

AUTO_PARENT = "auto"
PROGRAM_VERSION = f"backupcenter {__version__}"


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup did. `bytes_total`: content of all files; `bytes_added`: new content and trees; `bytes_stored`: as packed."""

    snapshot_id: str
    files_new: int
    files_changed: int
    files_unmodified: int
    dirs_new: int
    dirs_changed: int
    dirs_unmodified: int
    files_total: int
    bytes_total: int
    bytes_added: int
    bytes_stored: int
    errors: int
    duration_s: float


def backup(
    repository: Repository,
    paths: Sequence[bytes | str],
    *,
    host: str,
    streams: Sequence[Stream] = (),
    excludes: Sequence[str] = (),
    tags: Sequence[str] = (),
    time: datetime | None = None,
    parent: str | None = AUTO_PARENT,
    chunker: ChunkerName = "fastcdc",
    on_progress: Callable[[Progress], None] | None = None,
    on_unreadable: Callable[[bytes, str], None] | None = None,
    cancel: threading.Event | None = None,
    retry_lock_s: float = 0,
) -> BackupSummary:
    """Take a snapshot of `paths` and return what was done.

    `streams` are read one after the other, and become files at paths of their own, also where `paths` has nothing; one that
    does not end well ends the backup, without a snapshot. `excludes`: restic's patterns. `parent`: a snapshot whose unchanged
    files are not read again; "auto" is the newest one of this host and these paths, None reads everything. `chunker`: "rabin"
    cuts the files that are read where restic does, so that neither stores what the other has; it needs numba. `on_unreadable`
    is called with a path and the reason, of a damaged snapshot too. `retry_lock_s`: how long to wait for who is deleting. Forks
    worker processes, so it is to be called from a process that can be forked. Raises NothingToBackUp, StreamFailed,
    InvalidStream, Cancelled, InvalidPattern, ChunkerUnavailable, RepositoryLocked, LockLost and StoreError's family; nothing
    that was written by then does harm.
    """
    started = clock.monotonic()
    begun = datetime.now(UTC).astimezone()
    taken = time or begun
    meter = ProgressMeter("backup", on_progress)
    unreadable = on_unreadable or (lambda path, why: None)
    patterns = compile_patterns(excludes)
    cut = _choose_cut(repository, chunker)
    targets = _readable_targets(paths, meter, unreadable, is_alone=not streams)
    arranged = arrange_targets(targets, streams, partial(_tell_unlisted, meter, unreadable))
    # As restic has it: a stream is one of the paths that the snapshot is of.
    named = [*targets, *(stream.path for stream in streams)]
    keep_freed_buffers()
    cancel = cancel or threading.Event()
    with wait_for_lock(repository.lock, retry_lock_s, meter, cancel) as lock:
        repository.unload_index()
        repository.load_index()
        older = _choose_parent(repository, parent, host, named, taken, unreadable)
        if older is not None and older.summary is not None:
            meter.bytes_total = older.summary.total_bytes_processed
            meter.files_total = older.summary.total_files_processed
        threads = max(usable_processors(), 2)
        # Before any other thread is started: what a fork copies of those is of no use to it.
        trusts_attributes = older is not None and older.uid == os.getuid()
        workers = start_workers(WorkerSettings(repository, patterns, trusts_attributes), threads)
        # How much a stream will bring, nobody knows.
        can_estimate = on_progress and meter.bytes_total is None and not streams
        estimate = Estimate(targets, patterns, meter) if can_estimate else None
        meter.report()
        try:
            with repository.writer() as writer:
                large_files = LargeFiles(writer, threads, cut)
                archiver = Archiver(repository, writer, workers, large_files, meter, unreadable, cancel)
                try:
                    tree = archiver.run(arranged, older.tree if older else None)
                except (Cancelled, StreamFailed) as error:
                    if isinstance(error, Cancelled):
                        repository.store.hurry()
                    large_files.stop()
                    with contextlib.suppress(StoreError):
                        writer.indexing.flush()  # what was uploaded need not be uploaded again
                    raise
                finally:
                    large_files.stop()
        finally:
            if estimate is not None:
                estimate.stop()
            end_workers(workers)
        if meter.errors and not archiver.counts.files_total:
            _refuse_empty(repository, tree, targets, taken)
        meter.phase = "saving the snapshot"
        meter.report()
        counts = archiver.counts
        stored = writer.bytes_stored
        summary = SnapshotSummary(
            begun,
            datetime.now(UTC).astimezone(),
            files_new=counts.files_new,
            files_changed=counts.files_changed,
            files_unmodified=counts.files_unmodified,
            dirs_new=counts.dirs_new,
            dirs_changed=counts.dirs_changed,
            dirs_unmodified=counts.dirs_unmodified,
            data_blobs=archiver.data_blobs + large_files.blobs_added,
            tree_blobs=archiver.tree_blobs,
            data_added=archiver.bytes_added + large_files.bytes_added,
            data_added_packed=stored,
            total_files_processed=counts.files_total,
            total_bytes_processed=counts.bytes_total,
            errors=meter.errors,
        )
        snapshot = Snapshot(
            time=taken,
            tree=tree,
            paths=tuple(map(os.fsdecode, named)),
            hostname=host,
            username=user_name(),
            uid=os.getuid(),
            gid=os.getgid(),
            excludes=tuple(excludes),
            tags=tuple(tags),
            parent=older.id if older else None,
            program_version=PROGRAM_VERSION,
            summary=summary,
        )
        lock.require_held()
        snapshot_id = save_snapshot(repository, snapshot)
    meter.report()
    return BackupSummary(
        snapshot_id=snapshot_id,
        **asdict(counts),
        files_total=counts.files_total,
        bytes_added=summary.data_added,
        bytes_stored=stored,
        errors=meter.errors,
        duration_s=clock.monotonic() - started,
    )


def _choose_cut(repository: Repository, chunker: ChunkerName) -> Cut:
    if chunker == "fastcdc":
        return fastcdc_cut
    from engine.rabin import RabinChunker  # seldom wanted

    return RabinChunker(repository.config.chunker_polynomial).cut


def _readable_targets(
    paths: Sequence[bytes | str], meter: ProgressMeter, on_unreadable: Callable[[bytes, str], None], *, is_alone: bool
) -> list[bytes]:
    """Those of the paths that are there. Raises NothingToBackUp if none is, and there is nothing beside them (`is_alone`)."""
    targets = []
    for path in dict.fromkeys(map(absolute_path, paths)):
        try:
            os.lstat(path)
        except OSError as error:
            meter.errors += 1
            on_unreadable(path, (error.strerror or str(error)).lower())
        else:
            targets.append(path)
    if not targets and is_alone:
        raise _nothing_readable(paths) if paths else NothingToBackUp("no path to back up")
    return targets


def _tell_unlisted(meter: ProgressMeter, on_unreadable: Callable[[bytes, str], None], path: bytes, error: OSError) -> None:
    meter.errors += 1
    on_unreadable(path, reason(error))


def _refuse_empty(repository: Repository, tree: bytes, targets: list[bytes], taken: datetime) -> None:
    """Raise NothingToBackUp if the tree has none of the targets: it would pass for a backup, and be the next one's parent."""
    # What walks trees is seldom needed here, and takes a while to load.
    from engine.commands.ls import find_node

    written = Snapshot(taken, tree, ())
    for target in targets:
        with contextlib.suppress(PathNotFound):
            find_node(repository, written, target)
            return
    raise _nothing_readable(targets)


def _nothing_readable(paths: Sequence[bytes | str]) -> NothingToBackUp:
    return NothingToBackUp(f"none of the paths to back up can be read: {', '.join(map(os.fsdecode, map(os.fsencode, paths)))}")


def _choose_parent(
    repository: Repository,
    parent: str | None,
    host: str,
    targets: list[bytes],
    taken: datetime,
    on_unreadable: Callable[[bytes, str], None],
) -> Snapshot | None:
    if parent is None:
        return None
    if parent != AUTO_PARENT:
        return find_snapshot(repository, parent)
    paths = tuple(map(os.fsdecode, targets))

    def tell(name: str, error: DataDamaged) -> None:
        # No error of this backup: it misses nothing.
        on_unreadable(f"snapshots/{name}".encode(), str(error))

    return latest_snapshot(iter_snapshots(repository, tell), SnapshotFilter((host,), paths=paths), not_after=taken)
