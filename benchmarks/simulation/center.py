"""The server that is measured: its real programs over PostgreSQL and Redis, with what each has used of the processors."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
import psycopg

from tests.services.ports import accepts
from tests.services.postgres import postgres_server
from tests.services.redis import redis_program
from tests.system.processes import Installation, Process

# The same each time: a database that an earlier run has filled holds secrets under it.
SECRET_KEY = "only for measuring"
# What a server of its own would have; the tests' PostgreSQL does not wait for the disk.
POSTGRES_SETTINGS = {"fsync": "on", "shared_buffers": "1GB", "work_mem": "16MB", "max_wal_size": "4GB", "random_page_cost": "1.1"}


@dataclass(slots=True)
class Usage:
    """CPU seconds of each program between two moments. `wall_s`: what lay between them."""

    wall_s: float
    cpu_s: dict[str, float]

    def cores(self, *names: str) -> float:
        """Return how many cores these programs kept busy, all of them if none is named."""
        return sum(seconds for name, seconds in self.cpu_s.items() if not names or name in names) / self.wall_s

    def shares(self) -> dict[str, float]:
        return {name: round(seconds / self.wall_s, 3) for name, seconds in sorted(self.cpu_s.items())}


class Center(Installation):
    """An installation whose programs can be asked what they cost. `others`: processes beside it, to be told apart from it."""

    def __init__(self, directory: Path, database_url: str, **settings: str) -> None:
        super().__init__(directory, database_url, **settings)
        self.others: dict[str, int] = {}

    @cached_property
    def postmaster(self) -> int:
        """The process of which all connections of the database are children."""
        with psycopg.connect(self.database_url) as connection:
            return psutil.Process(connection.info.backend_pid).ppid()

    def redis(self) -> Process:
        """Start Redis as it is run on a server: what it holds is on the disk within a second."""
        data = self.directory / "redis"
        data.mkdir(exist_ok=True)
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(data), "--save", "", "--appendonly", "yes"]
        command = [redis_program(), *options, "--requirepass", self.redis_password, "--maxclients", "50000"]
        return self.start("redis", *command, ready=lambda: accepts(self.redis_port))

    def start_all(self, web_processes: int = 1) -> None:
        """Start what a server runs, but for the maintenance worker."""
        self.redis()
        self.web(workers=web_processes)
        self.control()
        self.beat()

    def python(self, module: str, *arguments: str, stdin: str | None = None) -> str:
        """Run a module of ours beside the server and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).resolve().parents[2],
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds that each program has used since it was started, with its children's."""
        roots = {process.name: process.pid for process in self.processes if process.is_running}
        roots |= {"postgres": self.postmaster, **self.others}
        return {name: _cpu_seconds(pid) for name, pid in roots.items()}

    @contextlib.contextmanager
    def measured(self) -> Iterator[Usage]:
        """Fill in, at the end of the block, what it cost."""
        usage, before, began = Usage(0, {}), self.cpu_seconds(), time.monotonic()
        yield usage
        after = self.cpu_seconds()
        usage.wall_s = time.monotonic() - began
        usage.cpu_s = {name: seconds - before.get(name, 0) for name, seconds in after.items()}


@contextlib.contextmanager
def center(database_url: str | None = None, **settings: str) -> Iterator[Center]:
    """Make a server with a migrated database; nothing runs yet. All that it starts ends with the block.

    `database_url`: a database on this machine; None: a new one, which ends as well.
    """
    with (
        contextlib.nullcontext(database_url) if database_url else postgres_server(**POSTGRES_SETTINGS) as url,
        tempfile.TemporaryDirectory(prefix="fleet-") as directory,
    ):
        made = Center(Path(directory), url, SECRET_KEY=SECRET_KEY, LOG_LEVEL="WARNING", **settings)
        try:
            made.migrate()
            yield made
        finally:
            made.stop()


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        # Children that have ended are in their parent's times.
        seconds = sum(root.cpu_times()[:4])
        for child in root.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds += sum(child.cpu_times()[:4])
        return seconds
    return 0.0
