"""Free TCP ports for services that a test starts."""

import contextlib
import socket
import time
from collections.abc import Callable


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something accepts connections on `port`."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def wait_until(question: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Return once `question` answers true; raise TimeoutError, naming `what`, if it does not in time."""
    end = time.monotonic() + timeout_s
    while not question():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)
