"""The agent's own child process at work for the server: it is told the job on its standard input, and ends with us.

So what the server does to a repository is done by the very program that agents use; one that goes wrong takes no worker with it.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from engine.errors import Cancelled, EngineError, RepositoryLocked

LOOK_EVERY_S = 1.0
# So long a child may take that was asked to end: it takes its lock back first.
GRACE_S = 15.0


@dataclass(slots=True)
class Done:
    """What a child did. `result`: its summary; `unreadable`: path and reason of what it could not read or write."""

    result: dict[str, Any] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def run_child(job: dict[str, Any], goes_on: Callable[[], bool] = lambda: True) -> Done:
    """Have a job done (`agent.child`) and return what came of it. `goes_on` is asked all the while; at a no the child is ended.

    Raises RepositoryLocked, Cancelled, EngineError if it came to nothing.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "agent.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=settings.BASE_DIR,
        env={name: value for name, value in os.environ.items() if not name.startswith(("BACKUPCENTER_", "DJANGO_", "OTEL_"))},
    )
    assert child.stdin is not None
    done = Done()
    is_done, error, kind = False, "", ""
    try:
        with child.stdin as pipe:
            json.dump({"derived_keys": {}, **job}, pipe)
        for line in _lines(child, goes_on):
            said = json.loads(line)
            if said["event"] == "unreadable":
                done.unreadable.append((said["path"], said["reason"]))
            elif said["event"] == "result":
                done.result, is_done = said["result"], True
            elif said["event"] == "error":
                error, kind = said["error"], said["kind"]
        child.wait()
    except BrokenPipeError:
        error = "the engine's process ended at once"
    finally:
        child.kill()
        child.wait()
    if kind == RepositoryLocked.__name__:
        raise RepositoryLocked(error)
    if not is_done and not goes_on():
        raise Cancelled
    if not is_done:
        raise EngineError(error or f"the engine's process ended without a result (exit status {child.returncode})")
    return done


def _lines(child: "subprocess.Popen[str]", goes_on: Callable[[], bool]) -> Iterator[str]:
    """Yield what a child says until it ends; one that is not to go on is made to."""
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(child, said), name="engine's child", daemon=True).start()
    asked_at: float | None = None
    while True:
        try:
            if (line := said.get(timeout=LOOK_EVERY_S)) is None:
                return
            yield line
        except queue.Empty:
            pass
        if asked_at is None and not goes_on():
            asked_at = time.monotonic()
            child.terminate()
        elif asked_at is not None and time.monotonic() - asked_at > GRACE_S:
            child.kill()


def _read(child: "subprocess.Popen[str]", said: "queue.SimpleQueue[str | None]") -> None:
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            said.put(line)
    said.put(None)
