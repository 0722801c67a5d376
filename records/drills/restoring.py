"""Restoring as an agent does: a drill tries the very program that a recovery would use."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.drills import METADATA
from records.enginechild import run_child
from storage.models import Repository
from storage.repositories import repository_access


@dataclass(slots=True)
class Restored:
    """What a restore did. `failures` and `warnings`: path and reason; warnings are about owners and the like, not content."""

    files: int = 0
    compared: int = 0
    size: int = 0
    duration_s: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def restore(
    repository: Repository, snapshot: str, destination: Path, include: Sequence[str], goes_on: Callable[[], bool]
) -> Restored:
    """Restore and compare everything with the hashes that the snapshot names; the time is all that it takes.

    `goes_on` is asked all the while. Raises EngineError if nothing could be restored, Cancelled if it is not to go on.
    """
    recovery = {
        "snapshot": snapshot,
        "destination": str(destination),
        "include": list(include),
        "overwrite": "always",
        "verify": True,
        # The run waits instead, so that a worker does not, and no wait is measured.
        "lock_wait_s": 0,
    }
    access = repository_access(repository, repository.tenant.credentials)
    began = time.monotonic()
    done = run_child({"kind": "recovery", "repository": access, "recovery": recovery}, goes_on)
    duration_s = time.monotonic() - began
    return Restored(
        files=done.result["files_restored"],
        compared=done.result["files_verified"],
        size=done.result["bytes_restored"],
        duration_s=duration_s,
        failures=[said for said in done.unreadable if not said[1].startswith(METADATA)],
        warnings=[said for said in done.unreadable if said[1].startswith(METADATA)],
    )
