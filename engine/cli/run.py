"""One call of the command: its options, the repository it is about, and how it speaks to people and machines."""

import argparse
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.errors import Cancelled, EngineError
from engine.progress import Progress
from engine.repository import Repository
from engine.snapshot import Snapshot
from engine.store import Store
from engine.terminal import ProgressLine

if TYPE_CHECKING:
    from engine.backends.connections import Trust

DONE, FAILED, WRONG_USAGE, INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD, INTERRUPTED = 0, 1, 2, 3, 10, 11, 12, 130


class Run:
    """What a verb is given."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cancel = threading.Event()
        self.line = ProgressLine(is_json=options.json, is_quiet=options.quiet)
        self._stores: list[Store] = []

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Ask the verb to stop; one that cannot be asked, or is asked twice, ends where it stands."""
        if self.cancel.is_set() or not self.options.verb.can_cancel:
            raise Cancelled
        self.cancel.set()
        for store in self._stores:
            store.hurry()

    @property
    def on_progress(self) -> Callable[[Progress], None] | None:
        return self.line.progress if self.line.is_shown else None

    def open(self) -> Repository:
        return Repository.open(self.store(), self.password())

    @contextlib.contextmanager
    def opening(self) -> "Iterator[Future[Repository]]":
        """Open the repository beside what the block does, such as importing: deriving the key from the password takes a tenth of a
        second that needs no interpreter. The thread is gone after the block, so that a fork is safe.
        """
        store, password = self.store(), self.password()
        with ThreadPoolExecutor(1, thread_name_prefix="open") as other:
            yield other.submit(Repository.open, store, password)

    def open_from(self) -> Repository:
        """Open the repository that is copied from, named by the options and variables of its own that restic has."""
        return Repository.open(self.store("from_"), self.password("from_"))

    def store(self, prefix: str = "") -> Store:
        from engine.backends import open_store

        variable = f"RESTIC_{prefix.upper()}REPOSITORY"
        location = getattr(self.options, f"{prefix}repo") or os.environ.get(variable)
        if not location:
            raise EngineError(f"which repository? name it with {'--from-repo' if prefix else '-r'} or {variable}")
        options = self.options
        store = open_store(location, trust=self.trust(), limit_upload=options.limit_upload, limit_download=options.limit_download)
        self._stores.append(store)
        return store

    def trust(self) -> "Trust | None":
        file = self.options.cacert or os.environ.get("RESTIC_CACERT")
        if not file:
            return None
        from engine.backends.connections import Trust

        # What stands between certificates for people to read may be in any encoding.
        with open(file, encoding="ascii", errors="ignore") as lines:
            return Trust(lines.read())

    def password(self, prefix: str = "") -> str:
        variable = f"RESTIC_{prefix.upper()}PASSWORD"
        file = getattr(self.options, f"{prefix}password_file") or os.environ.get(f"{variable}_FILE")
        password = read_password(file) if file else os.environ.get(variable, "")
        if not password:
            raise EngineError(f"a password is needed: give --{prefix.replace('_', '-')}password-file or {variable}")
        return password

    def show(self, message: dict[str, Any] | list[dict[str, Any]], text: str) -> None:
        """Print the outcome: `message` for machines, `text` for people."""
        self.line.clear()
        if self.options.json:
            print(json.dumps(message))
        elif not self.options.quiet:
            print(text)

    def write(self, line: dict[str, Any] | bytes) -> None:
        """Print a line of a list, which is the outcome itself: JSON, or text that may hold any bytes (names of files)."""
        encoded = line if isinstance(line, bytes) else json.dumps(line).encode()
        sys.stdout.buffer.write(encoded + b"\n")
        if sys.stdout.line_buffering:
            sys.stdout.flush()

    def tell(self, message: dict[str, Any], text: str) -> None:
        """Print something beside the outcome, on standard error."""
        self.line.clear()
        print(json.dumps(message) if self.options.json else text, file=sys.stderr)

    def tell_unreadable(self, path: bytes, reason: str) -> None:
        item = path.decode(errors="replace")
        message = {"message_type": "error", "error": {"message": reason}, "during": self.options.verb.name, "item": item}
        self.tell(message, f"{item}: {reason}")

    def fail(self, sentence: str, status: int = FAILED) -> int:
        """Tell why the verb failed, and return the exit status."""
        self.tell({"message_type": "exit_error", "code": status, "message": sentence}, f"engine: {sentence}")
        return status


@dataclass(frozen=True, slots=True)
class Verb:
    """A word of the command line, or two. `act` returns the exit status; `can_cancel`: it looks at the run's `cancel`."""

    name: str
    about: str
    act: Callable[[Run], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    can_cancel: bool = False


def snapshot_message(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as restic shows it in JSON: its file, and its id in full and short."""
    return {**json.loads(snapshot.encode()), "id": snapshot.id, "short_id": snapshot.short_id}


def read_password(file: str) -> str:
    """Return a password file's content without the white space around it, as restic does. Raises EngineError, OSError."""
    try:
        with open(file, encoding="utf-8") as lines:
            return lines.read().strip()
    except UnicodeDecodeError as error:
        raise EngineError(f"the password file {file} is not text in UTF-8") from error
