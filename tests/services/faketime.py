"""A wall clock for a test's programs that can be set while they run, by libfaketime. The monotonic clock stays the machine's."""

import os
import time
from datetime import datetime
from pathlib import Path


def faketime_library() -> Path | None:
    """Return libfaketime for programs with threads, None if the machine lacks it."""
    places = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return next(places, None)


class FakeClock:
    """A clock that `environment` gives to programs. `file`: where its offset is kept."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset_s = 0.0
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def now(self) -> float:
        """Return its Unix time."""
        return time.time() + self._offset_s

    def set(self, moment: datetime) -> None:
        self.step(moment.timestamp() - self.now())

    def step(self, seconds: float) -> None:
        """Put it forward by so many seconds, or back."""
        self._offset_s += seconds
        whole = self._file.with_suffix(".new")
        whole.write_text(f"{self._offset_s:+.3f}\n")
        os.replace(whole, self._file)
