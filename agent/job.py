"""A job from message to outcome: claim it, run the engine in a child process, report, finish.

The report of an outcome is written to the state directory first and delivered from there, so that it is not lost while the
server, or the agent itself, is away.
"""

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

from agent.center import Center, CenterError, CenterUnreachable, Refused
from agent.config import write_whole

log = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
# How long a cancelled child may take to end by itself, and to end after it was told again.
TERMINATE_AFTER_S = 5.0
KILL_AFTER_S = 15.0
DELIVER_EVERY_S = 5.0
OUTBOX = "outbox"

_stopping = threading.Event()
_running: dict[str, "subprocess.Popen[str]"] = {}
_running_lock = threading.Lock()


@dataclass(slots=True)
class _Observed:
    """What the child has said so far."""

    progress: dict[str, Any] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: str | None = None
    is_cancelled: bool = False


def running_jobs() -> list[str]:
    """Return the names of the jobs that this agent works on now."""
    with _running_lock:
        return sorted(_running)


def stop_children() -> None:
    """End all children, for an agent that is told to stop; their jobs will be tried again."""
    _stopping.set()
    with _running_lock:
        children = list(_running.values())
    for child in children:
        child.terminate()


def run_job(center: Center, state: Path, job: str, attempt: int) -> None:
    """Do an attempt at a job. Whatever goes wrong is reported, not raised."""
    try:
        specification = center.claim(job, attempt)
    except Refused as error:
        log.info("job=%s attempt=%d not claimed: %s", job, attempt, error)
        return
    except CenterError as error:
        # The server sends the message again as long as the job is queued.
        log.warning("job=%s attempt=%d not claimed: %s", job, attempt, error)
        return
    log.info("job=%s attempt=%d claimed", job, attempt)
    report = _Attempt(center, job, attempt).run(specification)
    if report is None:
        log.warning("job=%s attempt=%d does not count any more", job, attempt)
        return
    log.info("job=%s attempt=%d outcome=%s", job, attempt, report["outcome"])
    _post(state, job, report)
    deliver_reports(center, state)


def deliver_reports(center: Center, state: Path) -> int:
    """Deliver what waits in the outbox; return how many reports are left."""
    left = 0
    for path in sorted((state / OUTBOX).glob("*.json")):
        try:
            report = json.loads(path.read_text())
            center.finish(report.pop("job"), report)
        except CenterUnreachable as error:
            log.warning("report=%s waits: %s", path.name, error)
            left += 1
            continue
        except FileNotFoundError:
            # Another thread has delivered it.
            continue
        except (CenterError, ValueError, KeyError) as error:
            log.warning("report=%s given up: %s", path.name, error)
        path.unlink(missing_ok=True)
    return left


def deliver_for_ever(center: Center, state: Path) -> None:
    """Look into the outbox now and then; for a thread."""
    while True:
        deliver_reports(center, state)
        time.sleep(DELIVER_EVERY_S)


def _post(state: Path, job: str, report: dict[str, Any]) -> None:
    outbox = state / OUTBOX
    outbox.mkdir(mode=0o700, exist_ok=True)
    write_whole(outbox / f"{job}.{report['attempt']}.json", json.dumps({"job": job, **report}))


class _Attempt:
    """One child process, watched."""

    def __init__(self, center: Center, job: str, attempt: int) -> None:
        self._center, self._job, self._attempt = center, job, attempt
        self._observed = _Observed()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._cancelled_at: float | None = None

    def run(self, specification: dict[str, Any]) -> dict[str, Any] | None:
        """Return the report of the outcome, None if the server does not want any."""
        child = subprocess.Popen(
            [sys.executable, "-m", "agent.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with _running_lock:
            _running[self._job] = child
        try:
            assert child.stdin is not None
            try:
                with child.stdin as pipe:
                    json.dump(specification, pipe)
            except BrokenPipeError:
                log.warning("job=%s its process ended at once", self._job)
            threading.Thread(target=self._read, args=(child,), daemon=True).start()
            is_wanted = self._watch(child)
        finally:
            _end(child)
            with _running_lock:
                del _running[self._job]
        return self._report(child.returncode) if is_wanted else None

    def _read(self, child: "subprocess.Popen[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _watch(self, child: "subprocess.Popen[str]") -> bool:
        """Follow the child until it ends; False: the attempt does not count any more."""
        due = time.monotonic() + REPORT_EVERY_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + REPORT_EVERY_S
                if not self._tell_progress(child):
                    return False
                continue
            if line is None:
                child.wait()
                return True
            self._note(line)

    def _note(self, line: str) -> None:
        said = json.loads(line)
        observed = self._observed
        match said["event"]:
            case "progress":
                observed.progress = said["progress"]
            case "unreadable":
                observed.unreadable.append({"path": said["path"], "reason": said["reason"]})
            case "result":
                observed.result = said["result"]
            case "error":
                observed.error = said["error"]
            case "cancelled":
                observed.is_cancelled = True

    def _tell_progress(self, child: "subprocess.Popen[str]") -> bool:
        try:
            cancel = self._center.report_progress(self._job, self._attempt, self._observed.progress)
        except Refused:
            return False
        except CenterError as error:
            # The work goes on: if the server is back before the lease is over, nothing was lost.
            log.warning("job=%s progress not reported: %s", self._job, error)
            cancel = False
        if cancel or self._cancelled_at is not None:
            self._press(child)
        return True

    def _press(self, child: "subprocess.Popen[str]") -> None:
        """Have a cancelled child end, ever more firmly."""
        now = time.monotonic()
        if self._cancelled_at is None:
            self._cancelled_at = now
            log.info("job=%s is being cancelled", self._job)
            child.terminate()
        elif now - self._cancelled_at > KILL_AFTER_S:
            os.killpg(child.pid, signal.SIGKILL)
        elif now - self._cancelled_at > TERMINATE_AFTER_S:
            child.terminate()

    def _report(self, exit_code: int) -> dict[str, Any]:
        observed = self._observed
        outcome, error = self._outcome(exit_code)
        return {
            "attempt": self._attempt,
            "outcome": outcome,
            "error": error,
            "result": observed.result or {},
            "unreadable": observed.unreadable,
        }

    def _outcome(self, exit_code: int) -> tuple[str, str]:
        observed = self._observed
        if observed.result is not None:
            return ("warnings" if observed.result.get("errors") else "success"), ""
        if self._cancelled_at is not None:
            return "cancelled", ""
        if observed.error is not None:
            return "failed", observed.error
        if _stopping.is_set():
            return "crashed", "the agent was stopped"
        if exit_code < 0:
            return "crashed", f"the engine's process was ended by signal {-exit_code}"
        return "crashed", f"the engine's process ended without a result (exit status {exit_code})"


def _end(child: "subprocess.Popen[str]") -> None:
    """Make sure that neither the child nor a worker of its is left."""
    if child.poll() is None:
        child.kill()
    child.wait()
