"""How often agents report the jobs that they run: the seldomer, the more jobs there are, so that reports never fill the server.

A lease lasts three reports. So it grows with the number of jobs too, and when hundreds run an agent that is gone is noticed later.
"""

import time
from datetime import datetime, timedelta

from django.conf import settings

from records.models import BackupRecord, RecoveryRecord, State

# Of all agents together, so long as leases may grow.
REPORTS_PER_S = 60
SHORTEST_S = 2.0
REPORTS_IN_A_LEASE = 3
# Leases grow to so many times what the settings say.
LONGEST_LEASE = 10
COUNTED_FOR_S = 5.0

_counted: tuple[float, int] | None = None


def report_interval() -> float:
    """Return how many seconds an agent is to wait before it reports a job again: at most a third of the lease."""
    usual = settings.JOB_LEASE_S / REPORTS_IN_A_LEASE
    return round(min(max(min(SHORTEST_S, usual), _running_jobs() / REPORTS_PER_S), usual * LONGEST_LEASE), 1)


def lease_s() -> int:
    """Return how many seconds a job stays its agent's after a report that is made now."""
    return max(settings.JOB_LEASE_S, round(report_interval() * REPORTS_IN_A_LEASE))


def lease_end(now: datetime) -> datetime:
    """Return until when a job stays its agent's that reports `now`."""
    return now + timedelta(seconds=lease_s())


def _running_jobs() -> int:
    """Count the jobs that run, every few seconds."""
    global _counted
    now = time.monotonic()
    if _counted is None or now - _counted[0] > COUNTED_FOR_S:
        rows = (model._default_manager.filter(state=State.RUNNING) for model in (BackupRecord, RecoveryRecord))
        _counted = now, sum(each.count() for each in rows)
    return _counted[1]
