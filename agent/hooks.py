"""The commands before and after a backup, run by the agent itself, so that what was prepared is undone also when the engine dies.

    before ─┬─ presets prepare ── the engine ─┐
            └───────── failed, cancelled ─────┴─ presets clear up, the last first ── on_success | on_failure ── after

Jobs with such commands come one after the other on a host: two of them may mean the same snapshot of a volume.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from agent.allowed import Command
from agent.sources import Sources
from engine.program import OUTPUT_BYTES, Program, ending_text

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
# How long an agent that was told to stop still clears up.
STOPPING_S = 20.0
# Of all outputs of a job together, as characters; the latest have the first claim.
OUTPUTS_LENGTH = 4 * OUTPUT_BYTES
GOOD_OUTCOMES = ("success", "warnings")

# The stages of what comes before the engine; what its process has run stands between these and the others.
BEFORE = ("before", "prepare")

_turn = threading.Lock()


def command_record(stage: str, label: str, status: int | None, duration_s: float, output: str, error: str = "") -> dict[str, Any]:
    """Return what the job's record keeps of a command. `status`: None if it was ended before its end."""
    return {
        "stage": stage,
        "command": label,
        "status": status,
        "duration_s": round(duration_s, 3),
        "output": output[-OUTPUT_BYTES:],
        "error": error,
    }


def bounded(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records with no more output than is kept of a job."""
    left = OUTPUTS_LENGTH
    kept = []
    for record in reversed(records):
        output = record["output"][-left:] if left else ""
        left -= len(output)
        kept.append({**record, "output": output})
    return kept[::-1]


class Hooks:
    """The commands around one attempt at a job.

    `about`: BACKUPCENTER_* variables, without what is known only later. `goes_on` is asked now and then, and says whether the
    attempt is to go on; `is_stopping`, whether the agent is to end; `on_ended` is told the record of each command that has ended.
    """

    def __init__(
        self,
        sources: Sources,
        about: dict[str, str],
        goes_on: Callable[[], bool],
        is_stopping: Callable[[], bool],
        on_ended: Callable[[dict[str, Any]], None],
    ) -> None:
        self._sources, self._about, self._goes_on, self._is_stopping = sources, about, goes_on, is_stopping
        self._on_ended = on_ended
        self.records: list[dict[str, Any]] = []
        self._prepared = 0
        self._has_turn = False
        self._until = float("inf")

    def begin(self) -> str | None:
        """Wait for the turn and run what comes before the backup; return why that is not to be, None if it is.

        An attempt that is not to go on any more returns a reason too. `end` is to follow in any case.
        """
        if not self._sources.has_hooks:
            return None
        while not _turn.acquire(timeout=LOOK_EVERY_S):
            if not self._goes_on():
                return "it was ended while it waited for another job's commands"
        self._has_turn = True
        variables = {**self._about, "BACKUPCENTER_STATE": "running"}
        if (problem := self._each("before", self._sources.before, variables, self._goes_on)) is not None:
            return problem
        for preset in self._sources.presets:
            self._prepared += 1
            if (problem := self._each("prepare", preset.before, variables, self._goes_on)) is not None:
                return problem
        return None

    def check(self, restored: str) -> str | None:
        """Have the commands look at what a drill restored; return what is wrong with it, None if nothing is."""
        variables = {**self._about, "BACKUPCENTER_STATE": "running", "BACKUPCENTER_RESTORED": restored}
        return self._each("check", self._sources.checks, variables, self._goes_on)

    def end(self, outcome: str, snapshot: str, error: str) -> str | None:
        """Run what comes after an attempt that has ended so; return what went wrong with that, None if nothing did."""
        if not self._has_turn:
            return None
        try:
            variables = {
                **self._about,
                "BACKUPCENTER_STATE": outcome,
                "BACKUPCENTER_SNAPSHOT": snapshot,
                # What an environment cannot hold, or a program may not expect to.
                "BACKUPCENTER_ERROR": error.replace("\0", " ")[:4096],
            }
            stages: list[tuple[str, Iterable[Command]]] = [
                ("clear up", preset.after) for preset in reversed(self._sources.presets[: self._prepared])
            ]
            is_good = outcome in GOOD_OUTCOMES
            stages.append(("on_success", self._sources.on_success) if is_good else ("on_failure", self._sources.on_failure))
            stages.append(("after", self._sources.after))
            problems = [self._all(stage, commands, variables) for stage, commands in stages]
            return next(filter(None, problems), None)
        finally:
            _turn.release()

    def _each(
        self, stage: str, commands: Iterable[Command], variables: dict[str, str], goes_on: Callable[[], bool]
    ) -> str | None:
        """Run commands until one fails that may not; return why."""
        for command in commands:
            problem = self._run(stage, command, variables, goes_on)
            if problem is not None and (not command.may_fail or not goes_on()):
                return problem
        return None

    def _all(self, stage: str, commands: Iterable[Command], variables: dict[str, str]) -> str | None:
        """Run commands, also after one that failed; return the first one's reason."""
        problems = [(self._run(stage, command, variables, self._may_clear_up), command.may_fail) for command in commands]
        return next((problem for problem, may_fail in problems if problem and not may_fail), None)

    def _may_clear_up(self) -> bool:
        # What it says of the attempt is no matter any more, but the lease is renewed by asking.
        self._goes_on()
        if self._is_stopping() and self._until == float("inf"):
            self._until = time.monotonic() + STOPPING_S
        return time.monotonic() < self._until

    def _run(self, stage: str, command: Command, variables: dict[str, str], goes_on: Callable[[], bool]) -> str | None:
        """Run a command and note how it went; return what went wrong, None if nothing did."""
        started = time.monotonic()
        problem = None
        with Program(command.arguments, timeout_s=command.timeout_s, environment=environment_of(command, variables)) as program:
            while (status := program.wait(LOOK_EVERY_S)) is None:
                if program.is_overdue:
                    problem = f"took longer than {command.timeout_s:g} s and was ended"
                elif not goes_on():
                    problem = "was ended, since the job is not to go on"
                if problem is not None:
                    program.end()
                    break
            output = program.output
        if status:
            problem = ending_text(status, output)
        named = f"the command “{command.label}” ({stage}) {problem}" if problem else None
        self.records.append(command_record(stage, command.label, status, time.monotonic() - started, output, problem or ""))
        self._on_ended(self.records[-1])
        log.info("stage=%s command=%s status=%s %s", stage, command.label, status, problem or "")
        return named


def environment_of(command: Command, variables: dict[str, str]) -> dict[str, str]:
    """Return a command's whole environment: little, so that nothing of the agent's own comes along."""
    import pwd  # of Unix alone

    known = {"LANG": "C.UTF-8"}
    try:
        user = pwd.getpwuid(os.geteuid())
        known |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    except KeyError:
        known["HOME"] = "/"
    return {**known, **variables, **command.environment}
