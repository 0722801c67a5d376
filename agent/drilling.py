"""A restore drill as the engine's process does it: chosen files are restored to a scratch directory, and compared with the hashes.

The directory is the agent's (`agent.scratch`), which removes it, whatever happens.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.commands.restore import restore
from engine.drills import METADATA
from engine.drills.choosing import choose_sample, choose_whole
from engine.progress import Progress
from engine.repository import Repository


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
