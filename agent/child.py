"""`python -m agent.child`: the engine at work on one job, in a process of its own.

The specification comes on standard input, since arguments and the environment can be seen by others; what happens goes out on
standard output as JSON lines: `{"event": "derived" | "progress" | "unreadable" | "warning" | "command" | "result" | "error" |
"cancelled", …}`.
SIGTERM cancels. The process ends when its agent does.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.drilling import drill
from agent.hooks import command_record
from engine.archiver.streams import Stream
from engine.backends import Credentials, open_store
from engine.backends.admission import admitting
from engine.commands.backup import AUTO_PARENT, backup
from engine.commands.restore import restore
from engine.commands.restore_preview import ACTIONS, PlannedChange, preview_restore
from engine.errors import Cancelled, EngineError
from engine.keys import DerivedKeys
from engine.lifeline import collect_seldom, end_with_parent
from engine.locks import STALE_AFTER
from engine.progress import Progress
from engine.repository import Repository
from engine.store import Store

UNREADABLE_REPORTED = 1000
# Longer than the lock of a prune that died holding it is in the way.
LOCK_WAIT_S = (STALE_AFTER + timedelta(minutes=10)).total_seconds()
ERROR_LENGTH = 2000
WARNING_LENGTH = 500
# Of a dry run, of each kind; all are counted.
CHANGES_REPORTED = 250


class _Out:
    """Writes JSON lines; callbacks of the engine may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unreadable = 0

    def say(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields})
        with self._lock:
            print(line, flush=True)

    def progress(self, progress: Progress) -> None:
        shown = asdict(progress)
        self.say("progress", progress=shown)

    def error(self, sentence: str, kind: str) -> None:
        # What names a path may hold bytes that are no text, and list very many.
        self.say("error", error=sentence.encode("utf-8", "replace").decode()[:ERROR_LENGTH], kind=kind)

    def unreadable(self, path: bytes, reason: str) -> None:
        self._unreadable += 1
        if self._unreadable <= UNREADABLE_REPORTED:
            self.say("unreadable", path=path.decode("utf-8", "replace"), reason=reason)


class _Warnings(logging.Handler):
    """Says what the engine warns of, such as another try at a store that does not answer."""

    def __init__(self, out: _Out) -> None:
        super().__init__(logging.WARNING)
        self._out, self._process = out, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        # A forked worker's line could get into the middle of one of ours.
        if os.getpid() == self._process:
            self._out.say("warning", text=record.getMessage().encode("utf-8", "replace").decode()[:WARNING_LENGTH])


def main() -> int:
    end_with_parent(int(sys.argv[1]))
    collect_seldom()
    cancel = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: cancel.set())
    # The agent decides what a Ctrl-C at its terminal means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = _Out()
    logging.getLogger("engine").addHandler(_Warnings(out))
    specification = json.load(sys.stdin)
    try:
        result = run(specification, out, cancel)
    except Cancelled:
        out.say("cancelled")
        return 0
    except EngineError as error:
        out.error(str(error), type(error).__name__)
        return 0
    except OSError as error:
        sentence = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)
        out.error(sentence, type(error).__name__)
        return 0
    out.say("result", result=result)
    return 0


def run(specification: dict[str, Any], out: _Out, cancel: threading.Event) -> dict[str, Any]:
    """Do the job and return its summary. Raises EngineError."""
    place = specification["repository"]
    credentials = Credentials(place["access_key"], place["secret_key"]) if place.get("access_key") else None
    known: DerivedKeys = specification["derived_keys"]
    derived = known.copy()
    repository = Repository.open(_store(place, credentials), place["password"], derived)
    if new := derived.keys() - known.keys():
        out.say("derived", keys={origin: derived[origin] for origin in new})
    try:
        if specification["kind"] == "backup":
            with ExitStack() as files:
                streams = [_stream(each, out, files) for each in specification.get("sources", [])]
                return _back_up(repository, specification["backup"], streams, out, cancel)
        return _recover(repository, specification["recovery"], out, cancel)
    finally:
        repository.close()


def _store(place: dict[str, Any], credentials: Credentials | None) -> Store:
    if not place["location"].startswith("s3:"):
        return open_store(place["location"])
    from engine.backends.connections import Trust  # imports boto3, which a directory needs none of

    # Older servers do not say what they make exceptions for.
    allowed = place.get("allowed_addresses")
    trust = Trust(place.get("authorities") or "", None if allowed is None else admitting(allowed))
    return open_store(place["location"], credentials=credentials, trust=trust)


def _stream(source: dict[str, Any], out: _Out, files: ExitStack) -> Stream:
    """Return what the agent has found to be allowed (`agent.sources.StreamSource`), as the engine takes it.

    The server has `content` instead of a command, a text that is kept in one of `files` for as long as it is read.
    """
    if "content" in source:
        file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- `files` closes it
        file.write(source["content"].encode())
        file.seek(0)
        return Stream(os.fsencode(source["path"]), descriptor=file.fileno())

    def tell(status: int, duration_s: float, output: str) -> None:
        out.say("command", record=command_record("stream", source["label"], status, duration_s, output))

    return Stream(
        os.fsencode(source["path"]),
        tuple(source["arguments"]),
        timeout_s=source["timeout_s"],
        environment=source["environment"],
        label=f"“{source['label']}”",
        on_ended=tell,
    )


def _back_up(
    repository: Repository, wanted: dict[str, Any], streams: list[Stream], out: _Out, cancel: threading.Event
) -> dict[str, Any]:
    summary = backup(
        repository,
        wanted["include"],
        streams=streams,
        excludes=wanted["exclude"],
        host=wanted["host"],
        tags=wanted["tags"],
        time=datetime.fromtimestamp(wanted["time"], UTC),
        parent=wanted.get("parent", AUTO_PARENT),
        on_progress=out.progress,
        on_unreadable=out.unreadable,
        cancel=cancel,
        retry_lock_s=wanted.get("lock_wait_s", LOCK_WAIT_S),
    )
    return asdict(summary)


def _recover(repository: Repository, wanted: dict[str, Any], out: _Out, cancel: threading.Event) -> dict[str, Any]:
    if wanted.get("dry_run"):
        return _preview(repository, wanted, out, cancel)
    if wanted.get("drill"):
        noting: Any = {"on_progress": out.progress, "on_error": out.unreadable}
        return drill(repository, wanted, **noting, cancel=cancel, retry_lock_s=LOCK_WAIT_S)
    summary = restore(
        repository,
        wanted["snapshot"],
        os.fsencode(wanted["destination"]),
        include=wanted["include"],
        overwrite=wanted["overwrite"],
        verify=wanted["verify"],
        on_progress=out.progress,
        on_error=out.unreadable,
        cancel=cancel,
        retry_lock_s=wanted.get("lock_wait_s", LOCK_WAIT_S),
    )
    return asdict(summary)


def _preview(repository: Repository, wanted: dict[str, Any], out: _Out, cancel: threading.Event) -> dict[str, Any]:
    changes: dict[str, list[list[Any]]] = {action: [] for action in ACTIONS}

    def note(change: PlannedChange) -> None:
        listed = changes[change.action]
        if len(listed) < CHANGES_REPORTED:
            listed.append([change.path.decode("utf-8", "replace"), change.size])

    told = preview_restore(
        repository,
        wanted["snapshot"],
        os.fsencode(wanted["destination"]),
        include=wanted["include"],
        overwrite=wanted["overwrite"],
        on_change=note,
        on_progress=out.progress,
        on_error=out.unreadable,
        cancel=cancel,
        retry_lock_s=wanted.get("lock_wait_s", LOCK_WAIT_S),
    )
    counts = told.counts()
    return {"duration_s": told.duration_s, "errors": told.errors, "preview": {**counts, "changes": changes}}


if __name__ == "__main__":
    sys.exit(main())
