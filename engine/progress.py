"""Progress of a long operation: what is done, what is known to be left, and how fast it goes. Nothing here prints."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

REPORT_EVERY_S = 0.5
_RATE_WINDOW_S = 20.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of an operation. Bytes are of content, before compression, except `bytes_added` (as stored).

    Totals are None until they are known. `rate` is bytes a second over the last seconds; `eta_s` is None while unknown.
    """

    phase: str
    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_added: int = 0
    errors: int = 0
    current: str = ""
    rate: float = 0.0
    eta_s: float | None = None
    elapsed_s: float = 0.0


class ProgressMeter:
    """Counts, and calls `report` at most every half second with a Progress. One thread at a time may use it.

    A meter without `report` only counts.
    """

    def __init__(self, phase: str, report: Callable[[Progress], None] | None) -> None:
        self.phase = phase
        self.files_done = 0
        self.files_total: int | None = None
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.bytes_added = 0
        self.errors = 0
        self.current = ""
        self._report = report
        self._started = self._reported = time.monotonic()
        self._history: deque[tuple[float, int]] = deque([(self._started, 0)])

    def tick(self) -> None:
        """Report if it is time to."""
        if self._report is not None and time.monotonic() - self._reported >= REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        """Report now."""
        self._reported = time.monotonic()
        if self._report is not None:
            self._report(self.progress())

    def progress(self) -> Progress:
        now = time.monotonic()
        self._history.append((now, self.bytes_done))
        while len(self._history) > 2 and now - self._history[0][0] > _RATE_WINDOW_S:
            self._history.popleft()
        since, bytes_then = self._history[0]
        rate = (self.bytes_done - bytes_then) / (now - since) if now > since else 0.0
        left = None if self.bytes_total is None else max(self.bytes_total - self.bytes_done, 0)
        return Progress(
            phase=self.phase,
            files_done=self.files_done,
            files_total=self.files_total,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            bytes_added=self.bytes_added,
            errors=self.errors,
            current=self.current,
            rate=rate,
            eta_s=left / rate if left is not None and rate > 0 else None,
            elapsed_s=now - self._started,
        )
