"""Restoring as an agent does: by the agent's own child process, which is told the job on its standard input.

So a drill tries the very program that a recovery would use, a restore that goes wrong takes no worker with it, and it ends with us.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from engine.errors import EngineError, RepositoryLocked
from storage.models import Repository
from storage.repositories import repository_access

METADATA = "metadata: "


@dataclass(slots=True)
class Restored:
    """What a restore did. `failures` and `warnings`: path and reason; warnings are about owners and the like, not content."""

    files: int = 0
    compared: int = 0
    size: int = 0
    duration_s: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def restore(repository: Repository, snapshot: str, destination: Path, include: Sequence[str]) -> Restored:
    """Restore and compare everything with the hashes that the snapshot names; the time is all that it takes.

    Raises EngineError if nothing could be restored.
    """
    job = {
        "kind": "recovery",
        "derived_keys": {},
        "repository": repository_access(repository, repository.tenant.credentials),
        "recovery": {
            "snapshot": snapshot,
            "destination": str(destination),
            "include": list(include),
            "overwrite": "always",
            "verify": True,
            # The run waits instead, so that a worker does not, and no wait is measured.
            "lock_wait_s": 0,
        },
    }
    began = time.monotonic()
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
    found = Restored()
    summary: dict[str, Any] | None = None
    error = kind = ""
    try:
        with child.stdin as pipe:
            json.dump(job, pipe)
        for line in child.stdout:
            said = json.loads(line)
            if said["event"] == "unreadable":
                of_kind = found.warnings if said["reason"].startswith(METADATA) else found.failures
                of_kind.append((said["path"], said["reason"]))
            elif said["event"] == "result":
                summary = said["result"]
            elif said["event"] == "error":
                error, kind = said["error"], said["kind"]
        child.wait()
    except BrokenPipeError:
        error = "the restore's process ended at once"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    if kind == RepositoryLocked.__name__:
        raise RepositoryLocked(error)
    if summary is None:
        raise EngineError(error or f"the restore's process ended without a result (exit status {child.returncode})")
    found.duration_s = time.monotonic() - began
    found.files, found.compared = summary["files_restored"], summary["files_verified"]
    found.size = summary["bytes_restored"]
    return found
