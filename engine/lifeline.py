"""Worker processes end with the process that started them, even when that is killed without a word."""

import ctypes
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
