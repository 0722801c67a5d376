"""Watching an installation at work: its processes as anybody on the machine sees them, its Redis, its event stream."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
import requests

from tests.system.processes import Installation

INTERVAL_S = 0.02


class Watcher:
    """Gathers what is to be seen while the block runs. `arguments`, `environments`: of processes that work for the installation.

    `environments` leaves out the server's own processes, which are given their settings there.
    """

    def __init__(self, center: Installation) -> None:
        self._center = center
        self._over = threading.Event()
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()
        self.redis: list[str] = []
        self.frames: list[bytes] = []

    @contextlib.contextmanager
    def watch(self, token: str) -> Iterator[None]:
        """`token`: of the API, with which to listen to events."""
        # A program may start for longer than the client would wait for the next command.
        connection = redis.Redis.from_url(self._center.redis_url, socket_timeout=None)
        with connection.monitor() as monitor, self._listen(token) as stream:
            threads = [
                threading.Thread(target=target, args=arguments, daemon=True)
                for target, arguments in (
                    (self._watch_processes, ()),
                    (self._watch_redis, (monitor,)),
                    (self._watch_events, (stream,)),
                )
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._over.set()
                # Ends both of the loops that wait for more.
                monitor.connection.disconnect()
                stream.close()
                for thread in threads:
                    thread.join(10)

    def _watch_processes(self) -> None:
        while not self._over.wait(INTERVAL_S):
            for process in list(self._center.processes):
                # Its password is an argument of the test's own Redis; the quick start's reads it from its input.
                if process.name != "redis" and process.is_running:
                    self._look_at(process.pid, is_server=not process.name.startswith("agent"))

    def _look_at(self, process_id: int, *, is_server: bool) -> None:
        place = Path(f"/proc/{process_id}")
        with contextlib.suppress(OSError):
            self.arguments.add((place / "cmdline").read_bytes())
            if not is_server:
                self.environments.add((place / "environ").read_bytes())
            for task in os.listdir(place / "task"):
                for child in (place / "task" / task / "children").read_text().split():
                    self._look_at(int(child), is_server=is_server)

    def _watch_redis(self, monitor: Any) -> None:
        with contextlib.suppress(redis.RedisError, OSError, ValueError, AttributeError):
            for command in monitor.listen():
                self.redis.append(command["command"])

    def _listen(self, token: str) -> requests.Response:
        return requests.get(f"{self._center.url}/api/event", params={"token": token}, stream=True, timeout=60)

    def _watch_events(self, stream: requests.Response) -> None:
        with contextlib.suppress(requests.RequestException, AttributeError, ValueError, OSError):
            self.frames.extend(stream.iter_content(None))


def redis_content(url: str) -> str:
    """Return everything that a Redis holds."""
    connection = redis.Redis.from_url(url)
    read = {
        b"string": connection.get,
        b"list": lambda key: connection.lrange(key, 0, -1),
        b"hash": connection.hgetall,
        b"set": connection.smembers,
        b"zset": lambda key: connection.zrange(key, 0, -1, withscores=True),
    }
    users = connection.execute_command("ACL", "LIST")
    return f"{users!r}\n" + "\n".join(f"{key!r} {read[connection.type(key)](key)!r}" for key in connection.keys("*"))
