"""The course of an attempt at a job: its phases, how fast it went, and what was to be told of it, small enough for every report.

Nothing in it grows with the job. Of the curve every second sample goes once there are `SAMPLES`, and those that follow are twice as
far apart; of the lines the latest stay. A course is told as a whole, so that a report that is lost is made good by the next, and
only when it has something new: the longer a job runs, the seldomer that is.
"""

import time
from typing import Any

SAMPLES = 120
FIRST_SPACING_S = 0.5
LINES = 100
LINE_LENGTH = 300
PHASES = 50
# Of the curve so many samples more are worth telling, and a tenth of what was told.
WORTH_TELLING = 3


class Course:
    """Times are in seconds since it was begun. For one thread at a time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phases: list[tuple[str, float]] = []
        self._samples: list[tuple[float, int, int, int]] = []
        self._spacing_s = FIRST_SPACING_S
        self._lines: list[tuple[float, str, str]] = []
        self._left_out = 0
        self._has_news = False
        self._told_samples = 0
        self.error_kind = ""

    def enter(self, phase: str) -> None:
        """Note that a phase has begun, and so that the one before it has ended; of very many the first are kept."""
        if (not self._phases or self._phases[-1][0] != phase) and len(self._phases) < PHASES:
            self._phases.append((phase, self._now()))
            self._has_news = True

    def follow(self, progress: dict[str, Any]) -> None:
        """Note what the engine said of its progress (`engine.progress.Progress`)."""
        self.enter(str(progress.get("phase") or ""))
        now = self._now()
        if self._samples and now - self._samples[-1][0] < self._spacing_s:
            return
        figures = (int(progress.get(name) or 0) for name in ("bytes_done", "bytes_added", "files_done"))
        self._samples.append((now, *figures))  # type: ignore[arg-type]
        if len(self._samples) >= SAMPLES:
            # From the back, so that the latest stays.
            self._samples = self._samples[::-2][::-1]
            self._told_samples //= 2
            self._spacing_s *= 2

    def say(self, level: str, text: str) -> None:
        """Add a line. `level`: info, warning or error."""
        if len(self._lines) >= LINES:
            del self._lines[0]
            self._left_out += 1
        self._lines.append((self._now(), level, text[:LINE_LENGTH]))
        self._has_news = True

    def say_command(self, record: dict[str, Any]) -> None:
        """Add how a command has ended (`agent.hooks.command_record`), with the last line that it wrote."""
        last = record["output"].strip().rpartition("\n")[2]
        how = f"{record['error'] or 'done'} – {last}" if last else record["error"] or "done"
        self.say("warning" if record["error"] else "info", f"{record['command']} ({record['stage']}): {how}")

    @property
    def is_worth_telling(self) -> bool:
        """Whether there is more than what `tell` was last heard of."""
        return self._has_news or len(self._samples) - self._told_samples >= max(WORTH_TELLING, self._told_samples / 10)

    def note_told(self, told: dict[str, Any]) -> None:
        """Note that the server has heard this."""
        self._told_samples = len(told["samples"])
        self._has_news = False

    def tell(self) -> dict[str, Any]:
        """Return all of it, as JSON takes it."""
        return {
            "elapsed_s": self._now(),
            "phases": list(self._phases),
            "samples": list(self._samples),
            "log": list(self._lines),
            "log_left_out": self._left_out,
            "error_kind": self.error_kind,
        }

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 1)
