"""One service for all processes of a test session: the first that asks starts it, and ends it once none of them needs it."""

import fcntl
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

Service = TypeVar("Service")


@contextmanager
def shared(place: Path, service: Callable[[], AbstractContextManager[Service]]) -> Iterator[Service]:
    """Run `service` once for all processes that name the directory `place`, and yield what it yields, pickled for the others."""
    place.mkdir(exist_ok=True)
    description = place / "description"
    with (place / "starting").open("w") as starting, (place / "using").open("w") as using:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(using, fcntl.LOCK_SH)
        if description.exists():
            fcntl.flock(starting, fcntl.LOCK_UN)
            try:
                yield pickle.loads(description.read_bytes())
            finally:
                # Not left to the file's end, since a process that a test forked may have it open.
                fcntl.flock(using, fcntl.LOCK_UN)
            return
        with service() as running:
            description.write_bytes(pickle.dumps(running))
            fcntl.flock(starting, fcntl.LOCK_UN)
            try:
                yield running
            finally:
                # Waits for the others, whose locks are shared.
                fcntl.flock(using, fcntl.LOCK_EX)
                description.unlink()
        fcntl.flock(using, fcntl.LOCK_UN)
