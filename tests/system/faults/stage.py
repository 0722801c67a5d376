"""An installation whose parts can be made to fail: each behind links, on a disk of its own, and started again if it ends."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from engine.backends import Credentials, open_store
from tests.services.ceph import CEPH_ENVIRONMENT, CephGateway
from tests.services.ports import accepts, free_port, wait_until
from tests.services.postgres import PostgresFiles
from tests.system.faults.disks import Disk, may_mount
from tests.system.faults.network import Network
from tests.system.operating import Operator
from tests.system.processes import Installation, Process

SERVERS = ("web", "beat", "control", "maintenance")
# As a service manager has it.
RESTART_AFTER_S = 1.0
# Of each disk, in MiB.
DISKS = {"postgres": 512, "redis": 64, "agent": 8, "restored": 128, **{f"logs-{name}": 32 for name in (*SERVERS, "agent")}}

Row = tuple[Any, ...]


class LinkedInstallation(Installation):
    """An installation on PostgreSQL whose programs reach each other by links alone; each logs to a disk of its own."""

    def __init__(self, directory: Path, network: Network, **settings: str) -> None:
        self.postgres_port = free_port()
        super().__init__(directory, f"postgres://backupcenter@127.0.0.1:{self.postgres_port}/backupcenter", **settings)
        self.network = network
        for name in SERVERS:
            network.link(name, "redis", target=self.redis_port)
            network.link(name, "postgres", target=self.postgres_port)
        self.broker = network.link("agent", "redis", target=self.redis_port)
        self.entrance = network.link("agent", "web", target=self.port)
        self.agents_url = f"http://127.0.0.1:{self.entrance.port}"

    def log_path(self, name: str) -> Path:
        directory = self.directory / f"logs-{name}"
        directory.mkdir(exist_ok=True)
        return directory / "log"

    def environment_of(self, name: str) -> dict[str, str]:
        if name not in SERVERS:
            return self.environment
        redis, postgres = (self.network.find(name, service).port for service in ("redis", "postgres"))
        return {
            **self.environment,
            "BACKUPCENTER_REDIS_URL": self.redis_address(redis),
            "BACKUPCENTER_DATABASE_URL": f"postgres://backupcenter@127.0.0.1:{postgres}/backupcenter",
            "BACKUPCENTER_AGENT_BROKER_URL": self.redis_address(self.broker.port),
            "BACKUPCENTER_PUBLIC_URL": self.agents_url,
        }

    def redis_address(self, port: int) -> str:
        return f"redis://:{self.redis_password}@127.0.0.1:{port}/0"


class Stage:
    """A running installation with a Ceph gateway as its store. `processes`: by name; another takes the place of one that ends."""

    def __init__(self, center: LinkedInstallation, gateway: CephGateway) -> None:
        self.center, self.gateway, self.network = center, gateway, center.network
        self.disks: dict[str, Disk] = {}
        self.processes: dict[str, Process] = {}
        self.owner = f"faults-{center.port}"
        self.store = self.network.link("store", "agent", "maintenance", target=int(gateway.url.rpartition(":")[2]))
        self._starts: dict[str, Callable[[], Process]] = {}
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="service manager", daemon=True)

    def begin(self, *, is_gateway_ours: bool) -> None:
        """Start everything, join the agent, and have the service manager watch over it."""
        center = self.center
        # The programs of other users look into it.
        center.directory.chmod(0o711)
        if os.geteuid() == 0 and may_mount(center.directory):
            for name, size in DISKS.items():
                self.disks[name] = Disk(center.directory / name, size)
        for name in ("postgres", "restored"):
            (center.directory / name).mkdir(exist_ok=True)
        files = PostgresFiles(center.directory / "postgres", center.postgres_port)
        self.run("postgres", lambda: center.start("postgres", *files.command, ready=lambda: accepts(files.port)))
        files.make_database()
        center.migrate()
        self.run("redis", center.redis)
        if is_gateway_ours:
            listens = lambda: accepts(self.store.target)  # noqa: E731
            command = self.gateway.command
            self.run("store", lambda: center.start("store", *command, ready=listens, environment=CEPH_ENVIRONMENT))
        keys = self.gateway.make_user(self.owner)
        # A new gateway makes its pools with the first bucket, for which no request of the server waits.
        open_store(f"s3:{self.gateway.url}/{self.owner}", credentials=Credentials(*keys)).create()
        self.run("web", center.web)
        self.operator = Operator(center)
        self.operator.use_ceph(f"127.0.0.1:{self.store.port}", *keys)
        self.operator.register()
        for name in ("control", "maintenance", "beat", "agent"):
            self.run(name, getattr(center, name))
        self._watcher.start()

    def run(self, name: str, start: Callable[[], Process]) -> None:
        self._starts[name] = start
        self.processes[name] = start()

    def end(self) -> None:
        self._is_over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self.center.stop()
        for disk in self.disks.values():
            disk.unmount()

    def query(self, statement: str, *values: object) -> list[Row]:
        """Return what a statement says of the database. Raises psycopg.OperationalError while it is away."""
        # As long as PostgreSQL is stopped it takes connections and says nothing.
        with psycopg.connect(self.center.environment["BACKUPCENTER_DATABASE_URL"], connect_timeout=2) as connection:
            return connection.execute(statement, values).fetchall()

    def logs(self) -> str:
        """Return what the programs said last."""
        return "\n".join(f"--- {name}\n{process.tail(30)}" for name, process in self.processes.items())

    def wait_for_restart(self, name: str, before: Process) -> None:
        """Return once the service manager has started another process in the place of `before`."""
        wait_until(lambda: self.processes[name] is not before, f"{name} to be started again", timeout_s=90)

    def _watch(self) -> None:
        ended: dict[str, float] = {}
        while not self._is_over.wait(0.1):
            for name, process in list(self.processes.items()):
                if process.is_running:
                    continue
                if time.monotonic() - ended.setdefault(name, time.monotonic()) < RESTART_AFTER_S:
                    continue
                # One that cannot start, its disk being full, is started again until it can.
                with contextlib.suppress(AssertionError, TimeoutError, OSError):
                    self.processes[name] = self._starts[name]()
                ended.pop(name)


@contextmanager
def stage(gateway: CephGateway, *, is_gateway_ours: bool, **settings: str) -> Iterator[Stage]:
    """Run an installation for the length of the block. `is_gateway_ours`: the stage starts the gateway, and so may end it."""
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    with Network() as network:
        made = Stage(LinkedInstallation(directory, network, **settings), gateway)
        try:
            made.begin(is_gateway_ours=is_gateway_ours)
            yield made
        finally:
            made.end()
            shutil.rmtree(directory, ignore_errors=True)
