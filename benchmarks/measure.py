"""Running a command and measuring it with all processes it starts: wall and CPU seconds, and the peak of their memory together."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Measurement:
    """`peak_bytes`: proportional set size, in which a page that several processes share counts once."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, log: Path) -> Measurement:
    """Run to the end. Raises RuntimeError with the end of its output when the command fails."""
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.ended.set()
        sampler.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
    return Measurement(wall, usage.ru_utime + usage.ru_stime, max(sampler.peak, 0))


class _Sampler(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.peak = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_EVERY_S):
            self.peak = max(self.peak, sum(map(memory_of, _family(self._pid))))


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{member}/task"):
                children = Path(f"/proc/{member}/task/{task}/children").read_text().split()
                found.extend(int(child) for child in children)
    return found


def memory_of(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
