"""Large files and streams: read into reused buffers, cut into chunks, and each chunk hashed, compressed and sealed by threads.

All of that releases the interpreter lock on buffers of this size, so threads are as good as processes here.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from msgspec.structs import replace

from engine.archiver.reading import has_changed, open_file
from engine.archiver.streams import Fill, Stream
from engine.blob import BlobType
from engine.chunker import MAX_SIZE, Cut
from engine.errors import Cancelled
from engine.metadata import read_node
from engine.node import Node
from engine.writer import RepositoryWriter

READERS = 2
BUFFERS = 4
BUFFER_SIZE = MAX_SIZE + (2 << 20)


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file that was read: its node, whether it changed meanwhile, and why its extended attributes could not be read."""

    node: Node
    has_changed: bool
    lost_xattrs: tuple[OSError, ...] = ()


class _Buffer:
    """A buffer that returns to its queue when the last chunk in it is done with."""

    def __init__(self, free: SimpleQueue[_Buffer]) -> None:
        self.view = memoryview(bytearray(BUFFER_SIZE))
        self._free = free
        self._users = 0
        self._lock = threading.Lock()

    def acquire(self) -> None:
        with self._lock:
            self._users += 1

    def release(self, _: object = None) -> None:
        with self._lock:
            self._users -= 1
            is_free = self._users == 0
        if is_free:
            self._free.put(self)


class LargeFiles:
    """Reads large files into a repository, a few at a time."""

    def __init__(self, writer: RepositoryWriter, threads: int, cut: Cut) -> None:
        self._writer = writer
        self._cut = cut
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")
        # One after the other, beside the files: a host that dumps two databases at once does both slowly, and a silent stream
        # holds a buffer.
        self._streams = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._sealers = ThreadPoolExecutor(threads, thread_name_prefix="seal")
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        self._unmade = BUFFERS
        self._making = threading.Lock()
        self._stopped = threading.Event()
        self._counting = threading.Lock()
        self.bytes_read = 0
        self.blobs_added = 0
        self.bytes_added = 0

    def submit(self, path: bytes, name: bytes) -> Future[ArchivedFile]:
        """Read a file in the background. The future raises OSError when it cannot be read."""
        return self._readers.submit(self._archive, path, name)

    def submit_stream(self, stream: Stream) -> Future[Node]:
        """Read a stream in the background. The future raises StreamFailed, Cancelled."""
        return self._streams.submit(stream.read, self._store_all, self._stopped.is_set)

    def stop(self) -> None:
        """Give up what is being read, and return when nothing is any more."""
        self._stopped.set()
        self._streams.shutdown(wait=True, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._sealers.shutdown(wait=True, cancel_futures=True)

    def _archive(self, path: bytes, name: bytes) -> ArchivedFile:
        lost: list[OSError] = []
        descriptor = open_file(path)
        try:
            before = os.fstat(descriptor)
            content, size = self._read(descriptor)
            after = os.fstat(descriptor)
            # With the status before, whatever changed since makes the next backup read the file again.
            node = read_node(path, name, before, descriptor=descriptor, on_lost_xattrs=lost.append)
        finally:
            os.close(descriptor)
        if node is None or node.type != "file":
            raise FileNotFoundError(0, "the file was replaced by something else")
        return ArchivedFile(
            replace(node, size=size, content=content),
            has_changed(before, after),
            tuple(lost),
        )

    def _read(self, descriptor: int) -> tuple[tuple[bytes, ...], int]:
        return self._store_all(lambda view: os.readv(descriptor, [view]))

    def _store_all(self, fill: Fill) -> tuple[tuple[bytes, ...], int]:
        """Store all that `fill` puts into buffers, until it puts nothing; return the blobs' ids and how many bytes there were."""
        content: list[bytes] = []
        chunks: deque[Future[bytes]] = deque()
        buffer, carried, size = self._take_buffer(), 0, 0
        is_last = False
        try:
            while not is_last:
                filled = carried
                while filled < BUFFER_SIZE and not is_last:
                    count = fill(buffer.view[filled:])
                    filled += count
                    size += count
                    is_last = count == 0
                at = 0
                for length in self._cut(buffer.view[:filled], is_last):
                    buffer.acquire()
                    chunk = self._sealers.submit(self._store, buffer.view[at : at + length])
                    chunk.add_done_callback(buffer.release)
                    chunks.append(chunk)
                    at += length
                if not is_last:
                    following = self._take_buffer()
                    carried = filled - at
                    following.view[:carried] = buffer.view[at:filled]
                    buffer.release()
                    buffer = following
                while chunks and chunks[0].done():
                    content.append(chunks.popleft().result())
                with self._counting:
                    self.bytes_read += at
        finally:
            buffer.release()
        content.extend(chunk.result() for chunk in chunks)
        return tuple(content), size

    def _store(self, chunk: memoryview) -> bytes:
        if self._stopped.is_set():
            raise Cancelled
        blob_id = hashlib.sha256(chunk).digest()
        if self._writer.claim(BlobType.DATA, blob_id):
            self._writer.add_claimed(BlobType.DATA, blob_id, chunk)
            with self._counting:
                self.blobs_added += 1
                self.bytes_added += len(chunk)
        return blob_id

    def _take_buffer(self) -> _Buffer:
        """A buffer with one user, who must release it."""
        with self._making:
            make = self._free.empty() and self._unmade > 0
            self._unmade -= make
        buffer = _Buffer(self._free) if make else self._free.get()
        buffer.acquire()
        return buffer
