"""Limits of bandwidth: a token bucket for each direction, and a store that keeps to them.

The buckets count for all threads of a process and for the processes that are forked after they were made. The libraries for this
count within one process (s3transfer), keep one entry a token (pyrate-limiter) or need a Redis (limits).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Lock, RawValue

from engine.store import Buffer, FileKind, PackUpload, Store

# What an idle line has in store, and so how far a limit can be overstepped: a quarter of a second's worth.
BURST_S = 0.25
STEP_BYTES = 64 << 10
# A process that is killed between two instructions would never give the lock back.
LOCK_TIMEOUT_S = 1.0


class Bandwidth:
    """So many bytes a second, and no more. `step`: how many to ask for at once, so that others get their turn between."""

    def __init__(
        self, bytes_s: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._bytes_s, self._clock, self._sleep = bytes_s, clock, sleep
        self.step = max(1, min(STEP_BYTES, int(bytes_s * BURST_S)))
        # The time by which all that was let pass so far is through; a bucket's level, as an instant that need not be refilled.
        self._through = RawValue("d", 0.0)
        self._lock = Lock()
        self._is_unlimited = RawValue("b", False)

    def take(self, count: int) -> None:
        """Return when `count` bytes may pass."""
        for begin in range(0, count, self.step):
            wait = self._reserve(min(self.step, count - begin))
            if wait > 0 and not self._is_unlimited.value:
                self._sleep(wait)

    def paced(self, data: Buffer) -> Iterator[memoryview]:
        """Yield the data in pieces, each when it may pass."""
        view = memoryview(data)
        for begin in range(0, len(view), self.step):
            piece = view[begin : begin + self.step]
            self.take(len(piece))
            yield piece

    def lift(self) -> None:
        """Let everything pass from now on."""
        self._is_unlimited.value = True

    def _reserve(self, count: int) -> float:
        """Return in how many seconds `count` bytes, which nobody else gets any more, may pass."""
        is_locked = self._lock.acquire(timeout=LOCK_TIMEOUT_S)
        try:
            now = self._clock()
            through: float = max(self._through.value, now - BURST_S) + count / self._bytes_s
            self._through.value = through
            return through - now
        finally:
            if is_locked:
                self._lock.release()


@dataclass(frozen=True, slots=True)
class Limits:
    """A bandwidth for each direction; None: as fast as it goes."""

    upload: Bandwidth | None = None
    download: Bandwidth | None = None

    @classmethod
    def of(cls, upload_kib_s: int, download_kib_s: int) -> "Limits":
        """Return the limits in KiB per second; 0: none."""
        return cls(*(Bandwidth(kib_s * 1024) if kib_s else None for kib_s in (upload_kib_s, download_kib_s)))

    def lift(self) -> None:
        for bandwidth in (self.upload, self.download):
            if bandwidth is not None:
                bandwidth.lift()


class LimitedStore:
    """Any store, within limits. A file passes as a whole: written once it may pass, returned once it may have come."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits

    @property
    def location(self) -> str:
        return self._store.location

    @property
    def parallel_uploads(self) -> int:
        return self._store.parallel_uploads

    @property
    def packs_ahead(self) -> int:
        return self._store.packs_ahead

    @property
    def settle_s(self) -> float:
        return self._store.settle_s

    def get(self, kind: FileKind, name: str) -> bytes:
        return self._received(self._store.get(kind, name))

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self._received(self._store.get_range(kind, name, offset, length))

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        if self._limits.upload is not None:
            self._limits.upload.take(len(data))
        self._store.put(kind, name, data)

    def begin_pack(self) -> PackUpload:
        upload = self._store.begin_pack()
        return upload if self._limits.upload is None else _LimitedUpload(upload, self._limits.upload)

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        return self._store.list(kind)

    def delete(self, kind: FileKind, name: str) -> None:
        self._store.delete(kind, name)

    def exists(self, kind: FileKind, name: str) -> bool:
        return self._store.exists(kind, name)

    def delete_remains(self) -> None:
        self._store.delete_remains()

    def create(self) -> None:
        self._store.create()

    def reopened(self) -> "LimitedStore":
        return LimitedStore(self._store.reopened(), self._limits)

    def hurry(self) -> None:
        self._limits.lift()
        self._store.hurry()

    def close(self) -> None:
        self._store.close()

    def _received(self, content: bytes) -> bytes:
        if self._limits.download is not None:
            self._limits.download.take(len(content))
        return content


class _LimitedUpload:
    """A pack whose pieces are written once they may pass."""

    def __init__(self, upload: PackUpload, limit: Bandwidth) -> None:
        self._upload, self._limit = upload, limit

    def write(self, piece: Buffer) -> None:
        self._limit.take(len(piece))
        self._upload.write(piece)

    def finish(self, name: str) -> None:
        self._upload.finish(name)

    def abandon(self) -> None:
        self._upload.abandon()
