"""`guard.py DESCRIPTOR GRACE_S COMMAND…`: run a command of somebody else's, and end all of it when who wanted it is gone.

Whoever starts this holds the other end of the pipe `DESCRIPTOR`. When that is closed, on purpose or by any death, the command's
process group gets SIGTERM and, `GRACE_S` seconds later, SIGKILL. What the command leaves behind in its group ends with it. The exit
status is the command's, 128 more than the signal that ended it, or 127 if it could not be started.

Run as a file, without site packages, so that it starts in some milliseconds: nothing but the standard library is imported here.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

NOT_STARTED = 127
SIGNALLED = 128


def main() -> int:
    lifeline, grace_s, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    # Written to by the signal handler below, so that one wait is for both: the end of the command and that of the lifeline.
    wake_end, wake = os.pipe()
    for descriptor in (wake_end, wake):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    try:
        child = subprocess.Popen(command, process_group=0)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    # It is the command that holds these open; a reader is to see their end when that closes them.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    if not _has_ended(child.pid, lifeline, wake_end, None):
        _signal(child.pid, signal.SIGTERM)
        _has_ended(child.pid, None, wake_end, grace_s)
    # Before the command is waited for: until then its group cannot be another's.
    _signal(child.pid, signal.SIGKILL)
    status = child.wait()
    return SIGNALLED - status if status < 0 else status


def _has_ended(pid: int, lifeline: int | None, wake_end: int, timeout_s: float | None) -> bool:
    """Wait until the command has ended; False: the lifeline, or the time, has ended before."""
    watched = [wake_end] if lifeline is None else [wake_end, lifeline]
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        ready, _, _ = select.select(watched, [], [], timeout_s)
        if not ready or lifeline in ready:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(wake_end, 512)
    return True


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main())
