"""Reports of outcomes on their way to the server: written to the state directory first, and delivered from there.

So an outcome is not lost while the server, or the agent itself, is away. Where nothing can be written (a restore may have
filled the disk) a report waits in memory.
"""

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

from agent.center import Center, CenterError, CenterUnreachable
from agent.config import write_whole

log = logging.getLogger(__name__)

DELIVER_EVERY_S = 5.0
OUTBOX = "outbox"

_unwritten: list[dict[str, Any]] = []
_unwritten_lock = threading.Lock()


def post_report(center: Center, state: Path, job: str, report: dict[str, Any]) -> None:
    """Keep a report of an attempt at `job` and try to deliver it. Never raises."""
    kept = {"job": job, **report}
    outbox = state / OUTBOX
    try:
        outbox.mkdir(mode=0o700, exist_ok=True)
        write_whole(outbox / f"{job}.{report['attempt']}.json", json.dumps(kept))
    except OSError as error:
        log.warning("job=%s its report stays in memory: %s", job, error.strerror)
        with _unwritten_lock:
            _unwritten.append(kept)
    deliver_reports(center, state)


def deliver_reports(center: Center, state: Path, job: str = "") -> int:
    """Deliver what waits, of one job if it is named; return how many reports are left."""
    left = 0
    for path in sorted((state / OUTBOX).glob(f"{job or '*'}.*.json")):
        try:
            report = json.loads(path.read_text())
        except FileNotFoundError:
            # Another thread has delivered it.
            continue
        except ValueError:
            log.error("report=%s given up: it cannot be read", path.name)
            report = None
        if report is not None and not _deliver(center, report):
            left += 1
            continue
        path.unlink(missing_ok=True)
    with _unwritten_lock:
        waiting = [report for report in _unwritten if job in ("", report["job"])]
    for report in waiting:
        if not _deliver(center, report):
            left += 1
            continue
        with _unwritten_lock:
            if report in _unwritten:
                _unwritten.remove(report)
    return left


def deliver_for_ever(center: Center, state: Path) -> None:
    """Look for waiting reports now and then; for a thread."""
    while True:
        try:
            deliver_reports(center, state)
        except Exception:
            # A thread that ends would leave every later report undelivered.
            log.exception("reports could not be delivered")
        time.sleep(DELIVER_EVERY_S)


def _deliver(center: Center, report: dict[str, Any]) -> bool:
    """Whether the report need not be kept any more."""
    said = dict(report)
    job = said.pop("job")
    try:
        center.finish(job, said)
    except CenterUnreachable as error:
        log.warning("job=%s its report waits: %s", job, error)
        return False
    except CenterError as error:
        log.warning("job=%s its report was refused: %s", job, error)
    return True
