"""A restore drill on this host: restored to a scratch directory of the agent's own, compared with the hashes, and removed.

The engine's process does `drill`; around it the agent makes the scratch directory and removes it (`scratch_of`), whatever happens.
What an agent left that was killed goes when it starts again (`sweep_left`) or drills again.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.commands.restore import restore
from engine.drills import METADATA
from engine.drills.choosing import choose_sample, choose_whole
from engine.errors import EngineError
from engine.progress import Progress
from engine.repository import Repository

log = logging.getLogger(__name__)

DIRECTORY = "drills"


def is_drill(specification: dict[str, Any]) -> bool:
    """Return whether a job is to restore only to see that it can be done."""
    return bool(specification.get("recovery", {}).get("drill"))


@contextlib.contextmanager
def scratch_of(specification: dict[str, Any], state: Path) -> Iterator[dict[str, Any]]:
    """Yield a job's specification; that of a drill with a scratch directory as its destination, removed at the end of the block.

    Raises EngineError if it cannot be made, or not be removed.
    """
    if not is_drill(specification):
        yield specification
        return
    try:
        # Locks of Unix, as the directory's owner is.
        from engine.drills.scratch import scratch_directory
    except ImportError as error:
        raise EngineError("restore drills need Linux or another Unix on this host") from error
    try:
        with scratch_directory(state / DIRECTORY, f"{specification['job']}-{specification['attempt']}") as directory:
            yield {**specification, "recovery": {**specification["recovery"], "destination": str(directory / "restored")}}
    except OSError as error:
        raise EngineError(f"the scratch directory of the drill in {state / DIRECTORY}: {error.strerror}") from error


def sweep_left(state: Path) -> None:
    """Remove what drills left whose agent was killed."""
    if not (state / DIRECTORY).is_dir():
        return
    from engine.drills.scratch import sweep

    try:
        if swept := sweep(state / DIRECTORY):
            log.info("what %d drills left was removed", swept)
    except (EngineError, OSError) as error:
        log.warning("what drills left is still there: %s", error)


def drill(
    repository: Repository,
    wanted: dict[str, Any],
    *,
    on_progress: Callable[[Progress], None],
    on_error: Callable[[bytes, str], None],
    cancel: threading.Event,
    retry_lock_s: float,
) -> dict[str, Any]:
    """Choose, restore to the destination and compare; return the summary, with what was chosen. Raises EngineError.

    `on_error` is told of content alone; what is missing of owners, attributes and devices is counted (`notes`).
    """
    from engine.drills.scratch import require_space

    asked, target = wanted["drill"], Path(wanted["destination"])
    goes_on = lambda: not cancel.is_set()  # noqa: E731
    if asked["extent"] == "whole":
        choice = choose_whole(repository, wanted["snapshot"], goes_on)
    else:
        choice = choose_sample(repository, wanted["snapshot"], asked["sample_bytes"], goes_on)
    require_space(target.parent, choice.size, choice.files, asked["limit_bytes"], "let it take a sample, or drill elsewhere")
    failures = notes = 0

    def note(path: bytes, reason: str) -> None:
        nonlocal failures, notes
        if reason.startswith(METADATA) or path in choice.devices:
            notes += 1
            return
        failures += 1
        on_error(path, reason)

    summary = restore(
        repository,
        wanted["snapshot"],
        os.fsencode(target),
        include=choice.include,
        overwrite="always",
        verify=True,
        on_progress=on_progress,
        on_error=note,
        cancel=cancel,
        retry_lock_s=retry_lock_s,
    )
    told = {"files": choice.files, "of_files": choice.of_files, "failures": failures, "notes": notes}
    return {**asdict(summary), "errors": failures, "drill": told}
