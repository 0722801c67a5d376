"""How many connections were made to a port of this machine, whoever made them: by looking at the kernel's list again and again.

The list keeps a connection that ended in order for a minute more (TIME_WAIT), so that short ones are seen too. One that is cut off
is missed if it lives for less than the time between two looks.
"""

from __future__ import annotations

import threading
from pathlib import Path

LOOK_EVERY_S = 0.2
_LISTENING = "0A"


class ConnectionCounter:
    """Counts connections to a port of IPv4 between `begin` and `end`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._before: set[int] = set()
        self._seen: set[int] = set()
        self._ended = threading.Event()
        self._looker: threading.Thread | None = None

    def begin(self) -> None:
        self._before, self._seen = client_ports(self._port), set()
        self._ended.clear()
        self._looker = threading.Thread(target=self._look, daemon=True)
        self._looker.start()

    def end(self) -> int:
        """Return how many there were since `begin`."""
        self._ended.set()
        if self._looker:
            self._looker.join()
        return len((self._seen | client_ports(self._port)) - self._before)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self._seen |= client_ports(self._port)


def client_ports(port: int) -> set[int]:
    """Return the clients' ports of all connections to the port that are open or ended not long ago."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        ends = [int(end.rpartition(":")[2], 16) for end in (local, remote)]
        if port in ends and state != _LISTENING:
            found.add(ends[0] if ends[1] == port else ends[1])
    return found
