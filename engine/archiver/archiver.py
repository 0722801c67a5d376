"""The loop that leads a backup: hands directories to workers and large files to threads, and writes a tree when it is complete.

It runs in one thread and owns all state; workers and threads report to it. Directories are visited depth first, and the parent
snapshot's trees are read a little ahead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from msgspec.structs import replace

from engine.archiver.batch import split_ids
from engine.archiver.large import ArchivedFile, LargeFiles
from engine.archiver.messages import (
    Answer,
    Counts,
    DirectoryJob,
    Failure,
    Flush,
    LargeFile,
    Listing,
    Question,
    Results,
    Split,
    StoredPack,
    Subdirectory,
)
from engine.archiver.reading import CHANGED, LOST_XATTRS, reason
from engine.archiver.streams import Stream, made_up_directory
from engine.archiver.targets import TargetDirectory
from engine.archiver.workers import WorkerProcess
from engine.blob import BlobType, PackedBlob
from engine.errors import Cancelled, EngineError
from engine.index import IndexedPack
from engine.metadata import read_node
from engine.node import Node, content_json
from engine.progress import ProgressMeter
from engine.repository import Repository
from engine.tree import iter_nodes, join_nodes
from engine.writer import RepositoryWriter

BATCHES_AHEAD = 12
DIRECTORIES_AT_ONCE = 16
LARGE_FILES_AHEAD = 8
CANCEL_CHECK_S = 0.2

Entry = str | None


@dataclass(slots=True, eq=False)
class _Directory:
    """A directory that is being backed up. `parts` are its entries so far; `waiting` counts what is still to come."""

    path: bytes
    previous_tree: bytes | None
    head: str = ""
    is_same: bool = False
    above: _Directory | None = None
    slot: tuple[int, int] = (0, 0)
    parts: list[list[Entry]] = field(default_factory=list)
    waiting: int = 0
    is_unreadable: bool = False
    is_unchanged: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """A directory, or a part of it, to be listed by a worker."""

    directory: _Directory
    part: int = 0
    names: tuple[bytes, ...] | None = None
    previous: bytes | None = None
    are_targets: bool = False


class Archiver:
    """One backup of one set of targets."""

    def __init__(
        self,
        repository: Repository,
        writer: RepositoryWriter,
        workers: list[WorkerProcess],
        large_files: LargeFiles,
        meter: ProgressMeter,
        on_unreadable: Callable[[bytes, str], None],
        cancel: threading.Event,
    ) -> None:
        self._repository, self._writer, self._workers, self._large = repository, writer, workers, large_files
        self._meter, self._on_unreadable, self._cancel = meter, on_unreadable, cancel
        self.counts = Counts()
        self.data_blobs = 0
        self.tree_blobs = 0
        self.bytes_added = 0
        self._selector = selectors.DefaultSelector()
        # Sockets, since a thread that is late must meet a closed one and not whatever has taken a descriptor's number.
        self._wake_end, self._wake = socket.socketpair()
        self._wake_end.setblocking(False)
        self._wake.setblocking(False)
        self._finished: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stack: list[_Directory] = []
        self._ready: deque[list[_Job]] = deque()
        self._jobs: dict[int, _Job] = {}
        self._next_number = 0
        self._large_waiting: deque[tuple[_Directory, tuple[int, int], LargeFile]] = deque()
        self._large_running = 0
        self._large_bytes = 0
        self._root_tree: bytes | None = None
        self._unflushed = 0

    def run(self, targets: TargetDirectory, previous_tree: bytes | None) -> bytes:
        """Back up the targets; return the id of the snapshot's tree.

        Raises Cancelled, StreamFailed, WorkerDied, StoreError.
        """
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        for worker in self._workers:
            self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        try:
            self._begin(targets, _Directory(targets.path, previous_tree))
            while self._root_tree is None:
                self._dispatch()
                self._wait()
            self._unflushed = len(self._workers)
            for worker in self._workers:
                worker.send(Flush())
            while self._unflushed:
                self._wait()
        finally:
            self._selector.close()
            self._wake_end.close()
            self._wake.close()
        return self._root_tree

    # -- work goes out -------------------------------------------------------------------------------------------------

    def _begin(self, target: TargetDirectory, directory: _Directory) -> None:
        """Put a directory above targets to work, with those below it."""
        if target.is_whole:
            self._push(directory)
            return
        # Held open until all its parts are known.
        directory.waiting += 1
        previous = self._previous_nodes(directory.previous_tree)
        for part, name in enumerate(target.names):
            directory.parts.append([])
            older = previous.get(name)
            directory.waiting += 1
            if name in target.streams:
                directory.parts[part].append(None)
                self._read_stream(directory, part, target.streams[name], older)
                continue
            if name not in target.below:
                tree = None if older is None else join_nodes([older.to_json()])
                self._ready.append([_Job(directory, part, (name,), tree, are_targets=name in target.targets)])
                continue
            below = target.below[name]
            directory.parts[part].append(None)
            node = self._node_above(below, name)
            if node is None:
                directory.waiting -= 1
                continue
            is_same = older is not None and replace(older, subtree=None) == node
            subtree = older.subtree if older is not None else None
            self._begin(below, _Directory(below.path, subtree, node.head_json(), is_same, directory, (part, 0)))
        directory.waiting -= 1
        if directory.waiting == 0:
            self._complete(directory)

    def _node_above(self, target: TargetDirectory, name: bytes) -> Node | None:
        """The node of a directory above targets; one made up if the machine has none and a stream is to lie in it."""
        try:
            status = os.stat(target.path)
            if target.leads_to_streams and not stat.S_ISDIR(status.st_mode):
                return made_up_directory(name, time.time_ns())
            return read_node(target.path, name, status, on_lost_xattrs=partial(self._report_lost_xattrs, target.path))
        except OSError as error:
            if target.leads_to_streams:
                return made_up_directory(name, time.time_ns())
            self._report_unreadable(target.path, reason(error))
            return None

    def _previous_nodes(self, tree: bytes | None) -> dict[bytes, Node]:
        """What the parent snapshot has of a directory; nothing if its tree cannot be had, for then all is read anew."""
        if tree is None:
            return {}
        try:
            return {node.name: node for node in iter_nodes(self._repository.load_blob(BlobType.TREE, tree))}
        except EngineError:
            return {}

    def _push(self, directory: _Directory) -> None:
        directory.waiting += 1
        directory.parts.append([])
        self._stack.append(directory)

    def _dispatch(self) -> None:
        """Keep the workers, the threads and the readers of trees busy, and no more than that."""
        while self._stack and len(self._ready) < BATCHES_AHEAD:
            # Many at once save messages; few at the end leave no worker without.
            size = min(max(len(self._stack) // (8 * len(self._workers)), 1), DIRECTORIES_AT_ONCE)
            directories = [self._stack.pop() for _ in range(size)]
            self._ready.append([_Job(directory) for directory in directories])
        while self._ready:
            worker = min(self._workers, key=lambda worker: worker.jobs)
            if worker.is_busy:
                break
            messages = []
            for job in self._ready.popleft():
                self._next_number += 1
                self._jobs[self._next_number] = job
                tree = job.directory.previous_tree if job.names is None else None
                path = job.directory.path
                messages.append(DirectoryJob(self._next_number, path, tree, job.names, job.previous, job.are_targets))
            worker.send(messages)
        while self._large_waiting and self._large_running < LARGE_FILES_AHEAD:
            self._read_large(*self._large_waiting.popleft())

    def _read_large(self, directory: _Directory, slot: tuple[int, int], entry: LargeFile) -> None:
        self._large_running += 1
        path = _join(directory.path, entry.name)
        reading = self._large.submit(path, entry.name)
        reading.add_done_callback(lambda done: self._post(self._large_done, directory, slot, path, entry, done))

    def _read_stream(self, directory: _Directory, part: int, stream: Stream, previous: Node | None) -> None:
        reading = self._large.submit_stream(stream)
        reading.add_done_callback(lambda done: self._post(self._stream_done, directory, part, previous, done))

    def _post(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call something: for other threads."""
        self._finished.put(lambda: act(*arguments))
        with contextlib.suppress(OSError):  # woken already, or over
            self._wake.send(b"x")

    # -- results come in -----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        for key, _ in self._selector.select(CANCEL_CHECK_S):
            if key.data is None:
                self._wake_end.recv(4096)
            else:
                self._receive(key.data)
        while True:
            try:
                act = self._finished.get_nowait()
            except Empty:
                break
            act()
        if self._cancel.is_set():
            raise Cancelled
        self._meter.files_done = self.counts.files_total
        self._meter.bytes_done = self.counts.bytes_total - self._large_bytes + self._large.bytes_read
        self._meter.bytes_added = self._writer.bytes_stored
        self._meter.tick()

    def _receive(self, worker: WorkerProcess) -> None:
        message = worker.receive()
        if isinstance(message, Results):
            worker.jobs -= message.is_last
            for result in message.found:
                if isinstance(result, Split):
                    self._split(result)
                else:
                    self._listed(result)
        elif isinstance(message, Question):
            worker.send(self._answer(message))
        elif isinstance(message, StoredPack):
            blobs = [PackedBlob(BlobType.DATA, *blob) for blob in message.blobs]
            self._writer.indexing.add_pack(IndexedPack(message.id, blobs), message.size)
        elif isinstance(message, Failure):
            raise message.error
        else:
            self._unflushed -= 1

    def _answer(self, question: Question) -> Answer:
        answer = bytes(self._writer.claim(BlobType.DATA, blob_id) for blob_id in split_ids(question.ids))
        self.data_blobs += sum(answer)
        self.bytes_added += sum(size for size, new in zip(question.sizes, answer, strict=True) if new)
        return Answer(answer)

    def _listed(self, listing: Listing) -> None:
        job = self._jobs.pop(listing.number)
        directory, number = job.directory, job.part
        part = directory.parts[number]
        self.counts.add(listing.counts)
        self._meter.current = directory.path.decode("utf-8", "replace")
        directory.is_unchanged = listing.is_unchanged
        for path, why in listing.unreadable:
            self._report_unreadable(path, why)
            if path == directory.path:
                directory.is_unreadable = True
        for entry in listing.entries:
            slot = (number, len(part))
            if isinstance(entry, str):
                part.append(entry)
                continue
            part.append(None)
            path = _join(directory.path, entry.name)
            if isinstance(entry, Subdirectory):
                directory.waiting += 1
                self._push(_Directory(path, entry.previous_tree, entry.head, entry.is_same, directory, slot))
            else:
                directory.waiting += 1
                self._large_waiting.append((directory, slot, entry))
        self._arrived(directory)

    def _split(self, split: Split) -> None:
        job = self._jobs.pop(split.number)
        directory = job.directory
        directory.parts[:] = [[] for _ in split.parts]
        directory.waiting += len(split.parts) - 1
        self._ready.extend([_Job(directory, at, part.names, part.previous)] for at, part in enumerate(split.parts))

    def _large_done(
        self, directory: _Directory, slot: tuple[int, int], path: bytes, entry: LargeFile, done: Future[ArchivedFile]
    ) -> None:
        self._large_running -= 1
        try:
            archived = done.result()
        except OSError as error:
            self._report_unreadable(path, reason(error))
        else:
            if archived.has_changed:
                self._report_unreadable(path, CHANGED)
            for lost in archived.lost_xattrs:
                self._report_lost_xattrs(path, lost)
            self.counts.count_file(entry.previous, archived.node)
            self._large_bytes += archived.node.size
            directory.parts[slot[0]][slot[1]] = archived.node.to_json()
        self._arrived(directory)

    def _stream_done(self, directory: _Directory, part: int, previous: Node | None, done: Future[Node]) -> None:
        node = done.result()
        self.counts.count_file(previous, node)
        self._large_bytes += node.size
        directory.parts[part][0] = node.to_json()
        self._arrived(directory)

    def _arrived(self, directory: _Directory) -> None:
        """One thing less that a directory waits for."""
        directory.waiting -= 1
        if directory.waiting == 0:
            self._complete(directory)

    def _complete(self, directory: _Directory) -> None:
        """Write the tree of a directory, and of those above that waited for nothing else."""
        current: _Directory | None = directory
        while current is not None and current.waiting == 0:
            above = current.above
            if not current.is_unreadable or above is None:
                tree = self._save_tree(current)
                if above is None:
                    self._root_tree = tree
                    return
                part, at = current.slot
                above.parts[part][at] = f'{current.head}{content_json(None)},"subtree":"{tree.hex()}"}}'
                self._count_directory(current, tree)
            current.parts.clear()
            if above is not None:
                above.waiting -= 1
            current = above

    def _save_tree(self, directory: _Directory) -> bytes:
        if directory.is_unchanged and directory.previous_tree is not None:
            return directory.previous_tree
        content = join_nodes(entry for part in directory.parts for entry in part if entry is not None)
        tree = hashlib.sha256(content).digest()
        if self._writer.add_blob(BlobType.TREE, tree, content):
            self.tree_blobs += 1
            self.bytes_added += len(content)
        return tree

    def _count_directory(self, directory: _Directory, tree: bytes) -> None:
        if directory.previous_tree is None:
            self.counts.dirs_new += 1
        elif directory.is_same and directory.previous_tree == tree:
            self.counts.dirs_unmodified += 1
        else:
            self.counts.dirs_changed += 1

    def _report_unreadable(self, path: bytes, why: str) -> None:
        self._meter.errors += 1
        self._on_unreadable(path, why)

    def _report_lost_xattrs(self, path: bytes, error: OSError) -> None:
        self._report_unreadable(path, f"{LOST_XATTRS} ({reason(error)})")


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + name if directory.endswith(b"/") else directory + b"/" + name
