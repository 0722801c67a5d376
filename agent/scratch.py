"""The scratch directory of a restore drill on this host: made and removed by the agent, around the engine's process that fills it.

What an agent left that was killed goes when it starts again (`sweep_left`) or drills again.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import EngineError

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
