"""A job from message to outcome: claim it, run the engine in a child process, report, finish."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.allowed import AllowedFileBroken, NotAllowed
from agent.center import Center, CenterError, CenterUnreachable, Refused
from agent.course import Course
from agent.hooks import BEFORE, Hooks, bounded
from agent.outbox import deliver_reports, post_report
from agent.scratch import scratch_of
from agent.sources import Sources, allowed_sources
from engine.errors import EngineError

log = logging.getLogger(__name__)

PACKAGES = Path(__file__).resolve().parent.parent

# How often a job is looked after, and reported unless the server wants that more seldom.
REPORT_EVERY_S = 2.0
# No server may have an agent be silent for longer.
REPORT_SELDOM_S = 60.0
# How long a child that is not to go on may take to end by itself, and to end after it was told again.
TERMINATE_AFTER_S = 5.0
KILL_AFTER_S = 15.0

_stopping = threading.Event()
_running: dict[tuple[str, int], "_Attempt"] = {}
_running_lock = threading.Lock()
# By repository, for the next job there: the key that its password was derived to, here in memory alone.
_derived_keys: dict[str, dict[str, str]] = {}


@dataclass(slots=True)
class _Observed:
    """What the child has said so far."""

    progress: dict[str, Any] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: str | None = None
    commands: list[dict[str, Any]] = field(default_factory=list)
    course: Course = field(default_factory=Course)


def running_jobs() -> list[str]:
    """Return the names of the jobs that this agent works on now."""
    with _running_lock:
        return sorted({job for job, _attempt in _running})


def is_stopping() -> bool:
    """Return whether the agent was told to stop."""
    return _stopping.is_set()


def hand_back_jobs() -> None:
    """Take no new job and end what runs, for an agent that is told to stop; the server queues their jobs again."""
    _stopping.set()
    for running in _attempts():
        running.terminate()


def kill_children() -> None:
    """End all children at once, for an agent that was told twice to stop; the server notices by their leases."""
    for running in _attempts():
        running.kill()


def run_job(center: Center, state: Path, job: str, attempt: int) -> None:
    """Do an attempt at a job. Whatever goes wrong is reported, not raised."""
    if _stopping.is_set():
        log.info("job=%s attempt=%d left for later: the agent stops", job, attempt)
        return
    try:
        if _older_goes_on(center, state, job, attempt):
            log.info("job=%s attempt=%d not needed: the one before it goes on", job, attempt)
            return
        specification = center.claim(job, attempt)
    except Refused as error:
        log.info("job=%s attempt=%d not claimed: %s", job, attempt, error)
        return
    except CenterError as error:
        # The server sends the message again as long as the job is queued.
        log.warning("job=%s attempt=%d not claimed: %s", job, attempt, error)
        return
    log.info("job=%s attempt=%d claimed", job, attempt)
    _end_older_attempts(job, attempt)
    try:
        report = _Attempt(center, state, job, attempt).run(specification)
    except (OSError, ValueError, KeyError, TypeError) as error:
        # No process could be started, or it said what cannot be understood.
        log.exception("job=%s attempt=%d failed", job, attempt)
        reason = f"the engine could not be run ({type(error).__name__})"
        report = {"attempt": attempt, "outcome": "crashed", "error": reason, "result": {}, "unreadable": []}
    if report is None:
        log.warning("job=%s attempt=%d does not count any more", job, attempt)
        return
    log.info("job=%s attempt=%d outcome=%s", job, attempt, report["outcome"])
    post_report(center, state, job, report)


def _older_goes_on(center: Center, state: Path, job: str, attempt: int) -> bool:
    """Tell the server of the attempts that it has not heard of for so long that it asks for another; whether one counts again.

    Work that was done, or is being done, while the server was away is not to be done twice. Raises CenterError if nothing can
    be told: then the next attempt has no business to begin either.
    """
    if deliver_reports(center, state, job):
        raise CenterUnreachable("the outcome of an older attempt cannot be told now")
    for older in _older_attempts(job, attempt):
        with contextlib.suppress(Refused):
            older.tell_progress()
            return True
    return False


def _end_older_attempts(job: str, attempt: int) -> None:
    """End what an attempt that was given up as lost still does, while another thread has not noticed."""
    for older in _older_attempts(job, attempt):
        older.give_up()


def _older_attempts(job: str, attempt: int) -> "list[_Attempt]":
    with _running_lock:
        return [running for (name, number), running in _running.items() if name == job and number != attempt]


def _attempts() -> "list[_Attempt]":
    with _running_lock:
        return list(_running.values())


class _Attempt:
    """One child process, watched, and the commands around it."""

    child: "subprocess.Popen[str] | None" = None

    def __init__(self, center: Center, state: Path, job: str, attempt: int) -> None:
        self._center, self._state, self._job, self._attempt = center, state, job, attempt
        self._observed = _Observed()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._is_cancelled = False
        self._is_wanted = True
        self._due = 0.0
        self._ended = "crashed", "it was not begun"
        self._ending_since: float | None = None
        self._repository = ""
        self._report_due = 0.0

    def run(self, specification: dict[str, Any]) -> dict[str, Any] | None:
        """Return the report of the outcome, None if the server does not want any."""
        key = self._job, self._attempt
        with _running_lock:
            _running[key] = self
        try:
            self._run(specification)
        finally:
            with _running_lock:
                _running.pop(key, None)
        return self._report() if self._is_wanted else None

    def terminate(self) -> None:
        """Ask what runs to end; commands are ended by whoever waits for them."""
        if self.child is not None:
            self.child.terminate()

    def kill(self) -> None:
        """End the engine at once. Commands end with the agent, which is to follow."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)

    def give_up(self) -> None:
        """End the engine, since another attempt takes its place; what is to be cleared up still is."""
        self._is_wanted = False
        if self.child is not None:
            _end(self.child)

    def _run(self, specification: dict[str, Any]) -> None:
        try:
            sources = allowed_sources(specification.get("backup") or specification.get("recovery") or {})
        except (NotAllowed, AllowedFileBroken) as error:
            self._ended = "failed", str(error)
            return
        course = self._observed.course
        hooks = Hooks(sources, _about(specification), self._hooks_go_on, _stopping.is_set, course.say_command)
        try:
            if sources.has_hooks:
                course.enter("commands before")
            problem = hooks.begin()
            if problem is None:
                with scratch_of(specification, self._state) as placed:
                    self._run_engine(placed, sources)
                    if self._ended[0] == "success" and sources.checks:
                        course.enter("commands after")
                        problem = hooks.check(placed["recovery"]["destination"])
            if problem is not None:
                self._ended = self._outcome_of_commands(problem)
        except EngineError as error:
            self._ended = "failed", str(error)
        finally:
            outcome, why = self._ended
            if sources.has_hooks:
                course.enter("commands after")
            after = hooks.end(outcome, str((self._observed.result or {}).get("snapshot_id") or ""), why)
            self._observed.commands[:0] = [record for record in hooks.records if record["stage"] in BEFORE]
            self._observed.commands += [record for record in hooks.records if record["stage"] not in BEFORE]
            if after is not None:
                # There is a snapshot, or there is not: what comes after cannot change that, and is to be seen to.
                self._ended = ("warnings" if outcome == "success" else outcome), f"{why}; {after}" if why else after

    def _run_engine(self, specification: dict[str, Any], sources: Sources) -> None:
        self._repository = specification["repository"]["location"]
        self._observed.course.enter("opening the repository")
        child = self.child = subprocess.Popen(
            [sys.executable, "-m", "agent.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # `-m` looks there first: what lies in the directory where the agent was started is not to be run.
            cwd=PACKAGES,
        )
        if _stopping.is_set() or not self._is_wanted:
            child.terminate()
        try:
            assert child.stdin is not None
            try:
                with child.stdin as pipe:
                    json.dump(self._for_child(specification, sources), pipe)
            except BrokenPipeError:
                log.warning("job=%s its process ended at once", self._job)
            threading.Thread(target=self._read, args=(child,), daemon=True).start()
            self._watch(child)
        finally:
            _end(child)
        self._ended = self._outcome(child.returncode)

    def _for_child(self, specification: dict[str, Any], sources: Sources) -> dict[str, Any]:
        given = {**specification, "derived_keys": _derived_keys.get(self._repository, {})}
        # After what the server has said: nothing is run but what is allowed here.
        given["sources"] = [source.for_child() for source in sources.streams]
        if sources.paths:
            given["backup"] = {**given["backup"], "include": [*given["backup"]["include"], *sources.paths]}
        return given

    def _read(self, child: "subprocess.Popen[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _watch(self, child: "subprocess.Popen[str]") -> None:
        """Follow the child until it ends, or the attempt does not count any more."""
        self._due = time.monotonic() + REPORT_EVERY_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, self._due - time.monotonic()))
            except queue.Empty:
                self._look()
                if not self._is_wanted:
                    return
                if self._is_cancelled or _stopping.is_set():
                    self._press(child)
                continue
            if line is None:
                child.wait()
                return
            self._note(line)

    def _note(self, line: str) -> None:
        said = json.loads(line)
        observed = self._observed
        match said["event"]:
            case "derived":
                # Instead of what another password was derived to.
                _derived_keys[self._repository] = said["keys"]
            case "progress":
                observed.progress = said["progress"]
                observed.course.follow(said["progress"])
            case "unreadable":
                observed.unreadable.append({"path": said["path"], "reason": said["reason"]})
                observed.course.say("warning", f"{said['path']}: {said['reason']}")
            case "warning":
                observed.course.say("warning", said["text"])
            case "command":
                observed.commands.append(said["record"])
                observed.course.say_command(said["record"])
            case "result":
                observed.result = said["result"]
            case "error":
                observed.error = said["error"]
                observed.course.error_kind = said["kind"]
                observed.course.say("error", said["error"])

    def tell_progress(self) -> bool:
        """Report and return whether the job is to be cancelled. Raises Refused, CenterError."""
        course = self._observed.course
        told = course.tell() if course.is_worth_telling else None
        heard = self._center.report_progress(self._job, self._attempt, self._observed.progress, told)
        if told is not None:
            course.note_told(told)
        # A little less: looking comes in steps, of which the one that is just due is not to be missed.
        self._report_due = time.monotonic() + min(heard.every_s, REPORT_SELDOM_S) - REPORT_EVERY_S / 2
        return heard.cancel

    def _look(self) -> None:
        """Report if it is time, and note whether the attempt counts and is to go on."""
        self._due = time.monotonic() + REPORT_EVERY_S
        if not self._is_wanted:
            return
        try:
            self._is_cancelled |= time.monotonic() >= self._report_due and self.tell_progress()
        except Refused:
            self._is_wanted = False
        except CenterError as error:
            # The work goes on: if the server is back before the lease is over, nothing was lost.
            log.warning("job=%s progress not reported: %s", self._job, error)

    def _hooks_go_on(self) -> bool:
        """Whether the commands before the backup are to go on; reports when it is time to."""
        if time.monotonic() >= self._due:
            self._look()
        return self._is_wanted and not self._is_cancelled and not _stopping.is_set()

    def _press(self, child: "subprocess.Popen[str]") -> None:
        """Have a child end that is not to go on, ever more firmly."""
        now = time.monotonic()
        if self._ending_since is None:
            self._ending_since = now
            log.info("job=%s is being ended", self._job)
            child.terminate()
        elif now - self._ending_since > KILL_AFTER_S:
            os.killpg(child.pid, signal.SIGKILL)
        elif now - self._ending_since > TERMINATE_AFTER_S:
            child.terminate()

    def _report(self) -> dict[str, Any]:
        observed = self._observed
        outcome, error = self._ended
        return {
            "attempt": self._attempt,
            "outcome": outcome,
            "error": error,
            "result": observed.result or {},
            "unreadable": observed.unreadable,
            "commands": bounded(observed.commands),
            "course": observed.course.tell(),
        }

    def _outcome_of_commands(self, problem: str) -> tuple[str, str]:
        """How an attempt has ended that did not come to its engine."""
        if self._is_cancelled:
            return "cancelled", ""
        if _stopping.is_set():
            return "handed_back", "the agent was stopped"
        return "failed", problem

    def _outcome(self, exit_code: int) -> tuple[str, str]:
        observed = self._observed
        if observed.result is not None:
            if observed.result.get("drill") and (errors := observed.result["errors"]):
                return "failed", f"{errors} files were not restored, or are not what the backup names"
            return ("warnings" if observed.result.get("errors") else "success"), ""
        if self._is_cancelled:
            return "cancelled", ""
        if observed.error is not None:
            return "failed", observed.error
        if _stopping.is_set():
            return "handed_back", "the agent was stopped"
        if exit_code < 0:
            return "crashed", f"the engine's process was ended by signal {-exit_code}"
        return "crashed", f"the engine's process ended without a result (exit status {exit_code})"


def _about(specification: dict[str, Any]) -> dict[str, str]:
    """Return what commands are told of the job they belong to."""
    plan = specification.get("backup", {}).get("plan", {})
    return {
        "BACKUPCENTER_JOB": str(specification["job"]),
        "BACKUPCENTER_ATTEMPT": str(specification["attempt"]),
        "BACKUPCENTER_PLAN": str(plan.get("uuid", "")),
        "BACKUPCENTER_PLAN_NAME": str(plan.get("name", "")),
    }


def _end(child: "subprocess.Popen[str]") -> None:
    """Make sure that neither the child nor a worker of its is left."""
    if child.poll() is None:
        child.kill()
    child.wait()
