"""How often agents report the jobs that they run: the seldomer, the more jobs there are, so that reports never fill the server."""

import time

from django.conf import settings

from records.lifecycle import KINDS
from records.models import State

# Of all agents together, so long as the lease lets them.
REPORTS_PER_S = 100
SHORTEST_S = 2.0
COUNTED_FOR_S = 5.0

_counted: tuple[float, int] | None = None


def report_interval() -> float:
    """Return how many seconds an agent is to wait before it reports a job again: at most a third of the lease."""
    longest = settings.JOB_LEASE_S / 3
    return round(min(max(SHORTEST_S, _running_jobs() / REPORTS_PER_S), longest), 1)


def _running_jobs() -> int:
    """Count the jobs that run, every few seconds."""
    global _counted
    now = time.monotonic()
    if _counted is None or now - _counted[0] > COUNTED_FOR_S:
        _counted = now, sum(model._default_manager.filter(state=State.RUNNING).count() for model in KINDS.values())
    return _counted[1]
