"""Commands of other programs: run in a session of their own, within a time, and ended as a whole with whoever wanted them.

The guard (`engine.guard`) sees to the ending, also when this process is killed. A command is a list of arguments, which
no shell reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from engine import guard

# How long a command may take to end that was asked to, before it is killed.
GRACE_S = 10.0
# How much is kept of what a command writes for people: the end of it.
OUTPUT_BYTES = 64 << 10
# What the guard may take longer than its command.
_GUARD_S = 5.0


class Program:
    """A command at work; a context, at whose end it is ended.

    What it writes to standard error is kept (`output`, the last 64 KiB), what it writes to standard output as well, unless `pipes`:
    then it is read from `stdout`. Its standard input is empty. `timeout_s`: None is for ever.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self.timeout_s = timeout_s
        lifeline_end, self._lifeline = os.pipe()
        starting = [sys.executable, "-I", "-S", guard.__file__, str(lifeline_end), str(GRACE_S), *command]
        try:
            self._guard = subprocess.Popen(
                starting,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if pipes else subprocess.STDOUT,
                pass_fds=[lifeline_end],
                start_new_session=True,
                env=None if environment is None else dict(environment),
                cwd="/",
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline_end)
        told = self._guard.stderr if pipes else self._guard.stdout
        assert told is not None
        self.stdout = self._guard.stdout if pipes else None
        self._tail = bytearray()
        self._reader = threading.Thread(target=self._keep, args=(told,), name="output", daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def output(self) -> str:
        """What it has written for people so far, the end of it."""
        return bytes(self._tail).decode("utf-8", "replace")

    @property
    def is_overdue(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def poll(self) -> int | None:
        """Return how it has ended, None if it has not: its exit status, or the negative number of the signal that ended it."""
        status = self._guard.poll()
        if status is None:
            return None
        self._reader.join(_GUARD_S)
        if guard.SIGNALLED < status < guard.SIGNALLED + signal.NSIG:
            return guard.SIGNALLED - status
        return status

    def wait(self, timeout_s: float) -> int | None:
        """Wait for it to end, but no longer than that; return what `poll` does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_s)
        return self.poll()

    def read_into(self, view: memoryview, timeout_s: float) -> int | None:
        """Read of what it pipes; return how many bytes, 0 at the end, None if nothing came for so long."""
        assert self.stdout is not None
        descriptor = self.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        return os.readv(descriptor, [view]) if ready else None

    def ask_to_end(self) -> None:
        """Have the guard end it: SIGTERM, and SIGKILL if it does not listen. Does not wait."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def end(self) -> int:
        """End it, if it has not ended, and return how it ended."""
        self.ask_to_end()
        try:
            self._guard.wait(GRACE_S + _GUARD_S)
        except subprocess.TimeoutExpired:
            # Whoever holds up the guard (SIGSTOP, say) does not hold up us.
            with contextlib.suppress(ProcessLookupError):
                self._guard.kill()
            self._guard.wait()
        status = self.poll()
        assert status is not None
        for pipe in (self._guard.stdout, self._guard.stderr):
            if pipe is not None and (pipe is self.stdout or not self._reader.is_alive()):
                pipe.close()
        return status

    def _keep(self, pipe: IO[bytes]) -> None:
        while content := os.read(pipe.fileno(), 1 << 16):
            self._tail += content
            del self._tail[:-OUTPUT_BYTES]


def ending_text(status: int, output: str = "") -> str:
    """Return how a command ended as a clause, with the last line it wrote for people, which mostly says why."""
    how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
    lines = output.strip().splitlines()
    return f"{how}: {lines[-1].strip()[:500]}" if lines else how
