"""Small files of a worker process: read whole into a reused buffer, and packed by the batch once it is known which are new."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.archiver.messages import Answer, Question
from engine.archiver.reading import has_changed, open_file
from engine.blob import ID_SIZE, BlobType
from engine.chunker import MIN_SIZE
from engine.crypto import SealingKey
from engine.index import Index
from engine.packer import PackWriter
from engine.writer import seal_blob

# What is no larger than the smallest chunk is one blob, and needs no cutting.
SMALL_FILE = MIN_SIZE
BUFFER_SIZE = 4 << 20
BLOBS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file that was read. `blob_id` is empty for an empty file, `size` the bytes read, `status` what the file was before.

    If `size` is larger than the status says, the file was not read to its end and has no blob.

    With the status before, whatever changed since makes the next backup read the file again.
    """

    blob_id: bytes
    size: int
    status: os.stat_result
    has_changed: bool


class _Batch:
    def __init__(self) -> None:
        # Mapped, so that it takes memory only once files are read into it: a run in which nothing changed reads none.
        self.buffer = memoryview(mmap.mmap(-1, BUFFER_SIZE))
        self.filled = 0
        self.blobs: list[tuple[bytes, int, int]] = []

    def clear(self) -> None:
        self.filled = 0
        self.blobs.clear()


class SmallFiles:
    """Reads small files, and packs their content. While one batch waits for its answer the next is read."""

    def __init__(
        self,
        key: SealingKey,
        version: int,
        index: Index,
        packer: PackWriter,
        ask: Callable[[Question], None],
        next_answer: Callable[[], Answer],
    ) -> None:
        self._key, self._version, self._index, self._packer = key, version, index, packer
        self._ask, self._next_answer = ask, next_answer
        self._batch = _Batch()
        self._free = deque([_Batch()])
        self._asked: deque[_Batch] = deque()

    def read(self, path: bytes, expected: os.stat_result) -> SmallFile:
        """Read a file that a listing found to be `expected`. Raises OSError.

        One that has changed since is read once more, since most files do not change all the time.
        """
        descriptor = open_file(path)
        try:
            blob_id, size = self._read(descriptor, expected.st_size)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "the file was replaced by something else")
            if not has_changed(expected, status):
                return SmallFile(blob_id, size, expected, False)
            before = status
            if before.st_size <= SMALL_FILE:
                os.lseek(descriptor, 0, os.SEEK_SET)
                blob_id, size = self._read(descriptor, before.st_size)
                status = os.fstat(descriptor)
            return SmallFile(blob_id, size, before, has_changed(before, status))
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, size: int) -> tuple[bytes, int]:
        batch = self._batch
        # One byte more than expected tells whether the file has grown.
        if len(batch.buffer) - batch.filled <= size or len(batch.blobs) == BLOBS_AT_ONCE:
            self._hand_over()
            batch = self._batch
        start, end = batch.filled, batch.filled
        while end - start <= size:
            count = os.readv(descriptor, [batch.buffer[end : start + size + 1]])
            if count == 0:
                break
            end += count
            if end - start == size:  # spares most files a second call; fstat tells whether they have grown
                break
        if end == start or end - start > size:
            return b"", end - start
        blob_id = hashlib.sha256(batch.buffer[start:end]).digest()
        if not self._index.has(BlobType.DATA, blob_id):
            batch.blobs.append((blob_id, start, end))
            batch.filled = end
        return blob_id, end - start

    def flush(self) -> None:
        """Pack everything that was read and is new."""
        self._hand_over()
        while self._asked:
            self._pack_oldest()

    def _hand_over(self) -> None:
        batch = self._batch
        if not batch.blobs:
            return
        ids = b"".join(blob_id for blob_id, _, _ in batch.blobs)
        self._ask(Question(ids, [end - start for _, start, end in batch.blobs]))
        self._asked.append(batch)
        if not self._free:
            self._pack_oldest()
        self._batch = self._free.popleft()

    def _pack_oldest(self) -> None:
        is_new = self._next_answer().is_new
        batch = self._asked.popleft()
        for (blob_id, start, end), new in zip(batch.blobs, is_new, strict=True):
            if new:
                sealed, uncompressed_length = seal_blob(self._key, batch.buffer[start:end], self._version)
                self._packer.add(blob_id, sealed, uncompressed_length)
        batch.clear()
        self._free.append(batch)


def split_ids(joined: bytes) -> list[bytes]:
    """The ids of a question."""
    return [joined[at : at + ID_SIZE] for at in range(0, len(joined), ID_SIZE)]
