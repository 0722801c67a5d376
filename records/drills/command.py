"""The user's own command, which looks at what was restored: does the dump load, does the database start?

It has a shell, a time limit, a process group that ends with it, and an environment without anything of the server's. If the server
is root it runs as another user, to whom all that was restored is given first.
"""

import contextlib
import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine import guard
from engine.drills.scratch import disarm
from engine.errors import Cancelled, EngineError

CONFINED = Path(__file__).with_name("confined.py")
OUTPUT_KEPT = 4096
# Between being asked to end and being ended.
GRACE_S = 2
LOOK_EVERY_S = 1.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status`: its exit status, 128 more than a signal; None: it took too long. `output`: the end of what was said."""

    status: int | None
    output: str


def run_command(
    command: str,
    restored: Path,
    *,
    user: str,
    limit_s: float,
    named: dict[str, str],
    goes_on: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Run it in the restored directory, whose parent is its home. `named`: variables that it is given besides.

    `goes_on` is asked all the while. Raises EngineError if there is no such user, Cancelled if it is not to go on.
    """
    who = ["-", "-"]
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(user)
        except KeyError as error:
            raise EngineError(f"there is no user {user} to run a drill's command as: see BACKUPCENTER_DRILL_USER") from error
        disarm(restored.parent, entry.pw_uid, entry.pw_gid)
        who = [str(entry.pw_uid), str(entry.pw_gid)]
    lifeline, ours = os.pipe()
    python = [sys.executable, "-I", "-S"]
    try:
        process = subprocess.Popen(
            [*python, guard.__file__, str(lifeline), str(GRACE_S), *python, str(CONFINED), *who, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=restored,
            env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(restored.parent), "TMPDIR": str(restored.parent), **named},
            pass_fds=[lifeline],
            umask=0o077,
        )
        assert process.stdout is not None
        tail = _Tail(process.stdout)
        tail.start()
        status: int | None = None
        until = time.monotonic() + limit_s
        while status is None and (left_s := until - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(min(left_s, LOOK_EVERY_S))
            if not goes_on():
                raise Cancelled
    finally:
        os.close(lifeline)
        os.close(ours)
    process.wait()
    # What left the group may still hold the pipe.
    tail.join(1)
    return Outcome(status, tail.text())


class _Tail(threading.Thread):
    """Reads all there is and keeps the end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(name="drill command", daemon=True)
        self._pipe = pipe
        self._kept = b""

    def run(self) -> None:
        with self._pipe:
            while block := os.read(self._pipe.fileno(), 1 << 16):
                self._kept = (self._kept + block)[-OUTPUT_KEPT:]

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace").strip()
