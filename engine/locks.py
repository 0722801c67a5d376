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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from engine.errors import DataDamaged, EngineError, FileMissing, RepositoryLocked
from engine.gotime import format_time, parse_time
from engine.keys import user_name
from engine.store import FileKind, Store

REFRESH_S = 5 * 60
STALE_AFTER = timedelta(minutes=30)
# How long a store may take to show what another wrote at the same moment.
SETTLE_S = 0.2


class LockFiles(Protocol):
    """What a lock needs of a repository."""

    store: Store

    def load_file(self, kind: FileKind, name: str) -> bytes: ...

    def save_file(self, kind: FileKind, payload: bytes) -> str: ...


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
            fields: dict[str, Any] = json.loads(content)
            return cls(
                parse_time(fields["time"]),
                bool(fields["exclusive"]),
                str(fields.get("hostname", "")),
                str(fields.get("username", "")),
                int(fields.get("pid", 0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataDamaged("a lock file is damaged") from error

    def is_stale(self, now: datetime) -> bool:
        """Whether nobody can still be behind this lock."""
        if now - self.time > STALE_AFTER:
            return True
        return self.hostname == platform.node() and self.pid > 0 and not _process_exists(self.pid)

    def __str__(self) -> str:
        kind = "an exclusive lock" if self.is_exclusive else "a lock"
        return f"{kind} of {self.username}@{self.hostname} (process {self.pid}, since {self.time:%Y-%m-%d %H:%M:%S} UTC)"


@contextlib.contextmanager
def hold_lock(files: LockFiles, *, is_exclusive: bool = False) -> Iterator[None]:
    """Hold a lock for the length of the block. Raises RepositoryLocked, naming the holder that is in the way."""
    remove_stale_locks(files)
    _refuse_conflict(files, is_exclusive, ours=None)
    names = [_write(files, is_exclusive)]
    ended = threading.Event()
    refresher = threading.Thread(
        target=_refresh, args=(files, is_exclusive, names, ended), name="lock refresh", daemon=True
    )
    try:
        ended.wait(SETTLE_S)
        _refuse_conflict(files, is_exclusive, ours=names[0])
        refresher.start()
        yield
    finally:
        ended.set()
        if refresher.is_alive():
            refresher.join()
        for name in names:
            files.store.delete(FileKind.LOCKS, name)


def remove_stale_locks(files: LockFiles) -> int:
    """Delete the locks that nobody can still hold; return how many."""
    now = datetime.now(UTC)
    removed = 0
    for name, holder in _holders(files):
        if holder.is_stale(now):
            files.store.delete(FileKind.LOCKS, name)
            removed += 1
    return removed


def _holders(files: LockFiles) -> Iterator[tuple[str, Holder]]:
    for name, _ in list(files.store.list(FileKind.LOCKS)):
        # A lock may go while it is looked at.
        with contextlib.suppress(FileMissing):
            yield name, Holder.parse(files.load_file(FileKind.LOCKS, name))


def _refuse_conflict(files: LockFiles, is_exclusive: bool, ours: str | None) -> None:
    now = datetime.now(UTC)
    for name, holder in _holders(files):
        if name != ours and (is_exclusive or holder.is_exclusive) and not holder.is_stale(now):
            raise RepositoryLocked(f"the repository at {files.store.location} is locked: there is {holder}")


def _write(files: LockFiles, is_exclusive: bool) -> str:
    content = {
        "time": format_time(datetime.now(UTC)),
        "exclusive": is_exclusive,
        "hostname": platform.node(),
        "username": user_name(),
        "pid": os.getpid(),
    }
    if os.getuid():
        content |= {"uid": os.getuid(), "gid": os.getgid()}
    return files.save_file(FileKind.LOCKS, json.dumps(content).encode())


def _refresh(files: LockFiles, is_exclusive: bool, names: list[str], ended: threading.Event) -> None:
    while not ended.wait(REFRESH_S):
        # A store that is away for a moment must not end a backup of hours: the next round tries again, and a lock
        # outlives five missed rounds.
        with contextlib.suppress(EngineError):
            names.append(_write(files, is_exclusive))
            files.store.delete(FileKind.LOCKS, names[0])
            del names[0]


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
