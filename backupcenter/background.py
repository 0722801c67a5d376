"""Work that a request asks for and is not to wait for: done by a thread of the process, once for all who ask meanwhile.

Only web processes have such threads. What a thread has not done when its process ends is left to the watchdog, so that only work
that somebody looks for again belongs here.
"""

import logging
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, connection

log = logging.getLogger(__name__)

_is_on = threading.Event()


def work_in_background() -> None:
    """Have this process do in the background, from now on, what it otherwise does at once."""
    _is_on.set()


class Background:
    """One kind of work. `pause_s`: between one turn and the next, so that a turn serves many who ask."""

    def __init__(self, name: str, work: Callable[[], object], pause_s: float) -> None:
        self.name = name
        self._work, self._pause_s = work, pause_s
        self._is_asked_for = threading.Event()
        self._beginning = threading.Lock()

    def ask(self) -> None:
        """Have the work begun after this call; where nothing is done in the background it has ended when this returns."""
        if not _is_on.is_set():
            self._work()
            return
        self._is_asked_for.set()
        with self._beginning:
            if not any(thread.name == self.name for thread in threading.enumerate()):
                threading.Thread(target=self._keep_working, name=self.name, daemon=True).start()

    def _keep_working(self) -> None:
        while True:
            self._is_asked_for.wait()
            self._is_asked_for.clear()
            try:
                self._work()
            except DatabaseError:
                log.exception("%s failed; the watchdog will do it", self.name)
            finally:
                connection.close()
            time.sleep(self._pause_s)
