"""Locks: small files that say who works on a repository, so that nothing is deleted under a running backup.

Shared locks stand side by side, an exclusive one stands alone. A lock is checked before and after it is written, since a store
has no atomic step for both; refreshed every five minutes by writing a new file before the old one goes; stale after thirty,
or when its process on this host is gone. A live lock of another is never removed. Specified in restic's design document,
"Locks".
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from engine.errors import AccessDenied, Cancelled, DataDamaged, EngineError, FileMissing, LockLost, RepositoryLocked
from engine.gotime import format_time, parse_time
from engine.keys import user_name
from engine.progress import ProgressMeter
from engine.store import FileKind, UnpackedFiles

REFRESH_S = 5 * 60
STALE_AFTER = timedelta(minutes=30)
RETRY_S = 5.0
# As a phase of progress.
WAITING = "waiting for the lock"

Held = TypeVar("Held")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as its file says."""

    time: datetime
    is_exclusive: bool
    hostname: str
    username: str
    pid: int

    @classmethod
    def parse(cls, content: bytes) -> "Holder":
        try:
            raw = _decode_raw(content)
            return cls(parse_time(raw.time), raw.exclusive, raw.hostname or "", raw.username or "", raw.pid)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DataDamaged("a lock file is damaged") from error

    def is_stale(self, now: datetime) -> bool:
        """Whether nobody can still be behind this lock."""
        if now - self.time > STALE_AFTER:
            return True
        return self.hostname == platform.node() and self.pid > 0 and not _process_exists(self.pid)

    def __str__(self) -> str:
        kind = "an exclusive lock" if self.is_exclusive else "a lock"
        return f"{kind} of {self.username}@{self.hostname} (process {self.pid}, since {self.time:%Y-%m-%d %H:%M:%S} UTC)"


class _RawLock(msgspec.Struct):
    """A lock as its JSON has it."""

    time: str
    exclusive: bool
    hostname: str | None = ""
    username: str | None = ""
    pid: int = 0


_decode_raw = msgspec.json.Decoder(_RawLock).decode


class Lock:
    """A lock that is held. `renewed`: the time that its file bears."""

    def __init__(self, files: UnpackedFiles, *, is_exclusive: bool) -> None:
        self._files, self.is_exclusive = files, is_exclusive
        self._names: list[str] = []
        self.renewed = datetime.now(UTC)

    def renew(self) -> None:
        """Write a file with the time of now, then delete the one before it. Raises StoreError's family."""
        now = datetime.now(UTC)
        self._names.append(_write(self._files, self.is_exclusive, now))
        self.renewed = now
        for name in self._names[:-1]:
            # One that our keys may not delete is stale in a while; it is ours until then.
            with contextlib.suppress(AccessDenied):
                self._files.store.delete(FileKind.LOCKS, name)
                self._names.remove(name)

    def release(self) -> None:
        """Delete the lock's files. One that cannot be is stale as soon as this process is gone, and undoes nothing of its work."""
        for name in self._names:
            with contextlib.suppress(EngineError):
                self._files.store.delete(FileKind.LOCKS, name)

    def refuse_conflict(self) -> None:
        """Raise RepositoryLocked if somebody else holds a lock that excludes this one."""
        _refuse_conflict(self._files, self.is_exclusive, ours=self._names)

    def require_held(self) -> None:
        """Raise LockLost if others may have taken the lock for stale, and so deleted what it was to protect."""
        if datetime.now(UTC) - self.renewed > STALE_AFTER:
            raise LockLost(
                f"the lock on the repository at {self._files.store.location} could not be renewed since "
                f"{self.renewed:%Y-%m-%d %H:%M:%S} UTC, so that others may have changed what it protects"
            )


@contextlib.contextmanager
def hold_lock(files: UnpackedFiles, *, is_exclusive: bool = False) -> Iterator[Lock]:
    """Hold a lock for the length of the block. Raises RepositoryLocked, naming the holder that is in the way.

    Whoever makes something final under it asks the lock first, by `require_held`, whether it is still held.
    """
    remove_stale_locks(files)
    _refuse_conflict(files, is_exclusive, ours=())
    lock = Lock(files, is_exclusive=is_exclusive)
    ended = threading.Event()
    refresher = threading.Thread(target=_refresh, args=(lock, ended), name="lock refresh", daemon=True)
    try:
        lock.renew()
        # Of two who write first and look then, one at least sees the other, once the store shows what was written.
        ended.wait(files.store.settle_s)
        lock.refuse_conflict()
        refresher.start()
        yield lock
    finally:
        ended.set()
        if refresher.is_alive():
            refresher.join()
        lock.release()


@contextlib.contextmanager
def wait_for_lock(
    take: Callable[[], AbstractContextManager[Held]], limit_s: float, meter: ProgressMeter, cancel: threading.Event
) -> Iterator[Held]:
    """Hold the lock that `take` takes, once whoever is in its way has gone; for that it waits `limit_s` at most.

    Meanwhile the meter's phase is WAITING. Raises RepositoryLocked, Cancelled.
    """
    deadline = time.monotonic() + limit_s
    phase = meter.phase
    with contextlib.ExitStack() as held:
        while True:
            try:
                lock = held.enter_context(take())
                break
            except RepositoryLocked:
                if time.monotonic() >= deadline:
                    raise
            meter.phase = WAITING
            meter.report()
            if cancel.wait(RETRY_S) or cancel.is_set():
                raise Cancelled
        meter.phase = phase
        yield lock


@contextlib.contextmanager
def hold_lock_if_allowed(files: UnpackedFiles) -> Iterator[None]:
    """Hold a shared lock for the length of the block, for who only reads; none where nothing may be written.

    Raises RepositoryLocked.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(AccessDenied):
            held.enter_context(hold_lock(files))
        yield


def remove_stale_locks(files: UnpackedFiles) -> int:
    """Delete the locks that nobody can still hold; return how many. Those that our keys may not delete are in nobody's way."""
    now = datetime.now(UTC)
    removed = 0
    for name, holder in _holders(files):
        if holder.is_stale(now):
            with contextlib.suppress(AccessDenied):
                files.store.delete(FileKind.LOCKS, name)
                removed += 1
    return removed


def remove_all_locks(files: UnpackedFiles) -> int:
    """Delete all locks, even those that are held; return how many."""
    names = [name for name, _ in files.store.list(FileKind.LOCKS)]
    for name in names:
        files.store.delete(FileKind.LOCKS, name)
    return len(names)


def locks_held(files: UnpackedFiles) -> list[Holder]:
    """Return who holds locks."""
    return [holder for _, holder in _holders(files)]


def _holders(files: UnpackedFiles) -> Iterator[tuple[str, Holder]]:
    for name, _ in list(files.store.list(FileKind.LOCKS)):
        # A lock may go while it is looked at.
        with contextlib.suppress(FileMissing):
            yield name, Holder.parse(files.load_file(FileKind.LOCKS, name))


def _refuse_conflict(files: UnpackedFiles, is_exclusive: bool, ours: Collection[str]) -> None:
    now = datetime.now(UTC)
    for name, holder in _holders(files):
        if name not in ours and (is_exclusive or holder.is_exclusive) and not holder.is_stale(now):
            raise RepositoryLocked(f"the repository at {files.store.location} is locked: there is {holder}")


def _write(files: UnpackedFiles, is_exclusive: bool, time: datetime) -> str:
    content = {
        "time": format_time(time),
        "exclusive": is_exclusive,
        "hostname": platform.node(),
        "username": user_name(),
        "pid": os.getpid(),
    }
    if os.getuid():
        content |= {"uid": os.getuid(), "gid": os.getgid()}
    return files.save_file(FileKind.LOCKS, json.dumps(content).encode())


def _refresh(lock: Lock, ended: threading.Event) -> None:
    while not ended.wait(REFRESH_S):
        # A store that is away for a moment must not end a backup of hours: the next round tries again, and a lock
        # outlives five missed rounds.
        with contextlib.suppress(EngineError):
            lock.renew()


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter for a number that no process has
        return False
    except PermissionError:
        return True
    return True
