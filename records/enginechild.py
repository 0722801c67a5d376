"""The agent's own child process at work for the server: it is told the job on its standard input, and ends with us.

So what the server does to a repository is done by the very program that agents use; one that goes wrong takes no worker with it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from engine.errors import EngineError, RepositoryLocked


@dataclass(slots=True)
class Done:
    """What a child did. `result`: its summary; `unreadable`: path and reason of what it could not read or write."""

    result: dict[str, Any] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def run_child(job: dict[str, Any]) -> Done:
    """Have a job done (`agent.child`) and return what came of it. Raises RepositoryLocked, EngineError if it came to nothing."""
    child = subprocess.Popen(
        [sys.executable, "-m", "agent.child", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=settings.BASE_DIR,
        env={name: value for name, value in os.environ.items() if not name.startswith(("BACKUPCENTER_", "DJANGO_"))},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    done = Done()
    is_done, error, kind = False, "", ""
    try:
        with child.stdin as pipe:
            json.dump({"derived_keys": {}, **job}, pipe)
        for line in child.stdout:
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
        child.stdout.close()
    if kind == RepositoryLocked.__name__:
        raise RepositoryLocked(error)
    if not is_done:
        raise EngineError(error or f"the engine's process ended without a result (exit status {child.returncode})")
    return done
