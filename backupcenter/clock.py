"""Whether this machine's wall clock was set: the monotonic clock, which nobody sets, tells.

Leases, presence and schedules count in wall time, which all processes and the database share. When it jumps, everybody seems to
have been silent for as long; whoever judges by silence waits until those who are there have had the time to say so.
"""

import threading
import time
from collections.abc import Callable

# What is corrected little by little, as time servers do it, is no step.
TOLERANCE_S = 2.0


class StepWatch:
    """Compares both clocks whenever it is asked."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._offset = wall() - monotonic()
        self._stepped_at: float | None = None

    def is_steady(self, for_s: float) -> bool:
        """Return whether the clock was not set for so many seconds, as far as looks at it can tell."""
        with self._lock:
            now = self._monotonic()
            offset = self._wall() - now
            if abs(offset - self._offset) > TOLERANCE_S:
                self._offset, self._stepped_at = offset, now
            return self._stepped_at is None or now - self._stepped_at >= for_s


clock = StepWatch()
