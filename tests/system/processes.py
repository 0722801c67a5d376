"""The programs of an installation as a test runs them: real ones, on free ports, in a directory of their own.

Each logs into that directory, is the leader of its own process group, and is killed at the end of the test.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services.ports import accepts, free_port, wait_until
from tests.services.redis import redis_program

TOP = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Process:
    """A program that runs. `log`: what it prints."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """End this process alone with SIGKILL, as a crash would; its children are left to themselves."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, timeout_s: float = 10) -> None:
        """Ask it to end; kill its whole group if it does not."""
        if self.is_running:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout_s)
        self.kill_group()

    def kill_group(self) -> None:
        """End the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def children(self) -> list[int]:
        """Return the ids of its child processes."""
        tasks = Path(f"/proc/{self.pid}/task")
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def engine_processes(agent: Process) -> list[int]:
    """Return the agent's child processes that run the engine."""
    found = []
    for child in agent.children():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"agent.child" in command:
            found.append(child)
    return found


def send(number: signal.Signals, process_id: int) -> None:
    """Signal a process and those it started."""
    for child in descendants(process_id):
        with suppress(ProcessLookupError):
            os.kill(child, number)


def descendants(process_id: int) -> list[int]:
    children = Path(f"/proc/{process_id}/task").glob("*/children")
    return [process_id, *(each for path in children for child in path.read_text().split() for each in descendants(int(child)))]


class Installation:
    """A server's programs over one database and one Redis. Use as `with installation() as center`."""

    def __init__(self, directory: Path, database_url: str | None = None, **settings: str) -> None:
        """`settings`: further variables of the server without their prefix, such as `JOB_LEASE="6"`."""
        self.directory = directory
        self.port, self.redis_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis_password = secrets.token_urlsafe(12)
        self.database_url = database_url or f"sqlite://{directory / 'center.sqlite3'}"
        self.redis_url = f"redis://:{self.redis_password}@127.0.0.1:{self.redis_port}/0"
        # The server's address as agents are told it.
        self.agents_url = self.url
        self.processes: list[Process] = []
        named = {
            "SECRET_KEY": secrets.token_urlsafe(32),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "PUBLIC_URL": self.url,
            # Which plans' time comes during a test is chance.
            "DRILLS": "0",
            "DRILL_DIRECTORY": str(directory / "drills"),
            **settings,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKUPCENTER_", "DJANGO_"))}
        self.agent_environment = {**kept, "PYTHONUNBUFFERED": "1"}
        self.environment = {
            **self.agent_environment,
            "DJANGO_SETTINGS_MODULE": "backupcenter.settings",
            **{f"BACKUPCENTER_{name}": value for name, value in named.items()},
        }

    def start(
        self,
        name: str,
        *command: str,
        ready: Callable[[], bool] | None = None,
        says: bytes = b"",
        environment: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> Process:
        """Start a program; return once `ready` is true or its log has `says`. Raises AssertionError with its log if it ends."""
        log = self.log_path(name)
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                cwd=TOP,
                # Names the process in PostgreSQL's list of connections.
                env={**(environment or self.environment_of(name)), "PGAPPNAME": name},
                stdin=stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self.processes.append(process)
        is_ready = ready or (lambda: says in log.read_bytes()[before:])
        wait_until(lambda: is_ready() or not process.is_running, name)
        assert process.is_running, f"{name} ended:\n{process.tail()}"
        return process

    def log_path(self, name: str) -> Path:
        """Return where the program of this name logs to."""
        return self.directory / f"{name}.log"

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment of a server's program."""
        return self.environment

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it prints. Raises AssertionError with its errors if it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=TOP, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"manage.py {arguments[0]}: {done.stderr[-4000:]}"
        return done.stdout

    def run_python(self, code: str) -> str:
        """Run Python statements inside Django, in a process of their own, and return what they print."""
        return self.manage("shell", "--no-imports", "-v", "0", "-c", code)

    def migrate(self) -> None:
        self.manage("migrate", "-v", "0")

    def redis(self) -> Process:
        """Start Redis; what it acknowledged survives a kill, as the append-only file has it."""
        data = self.directory / "redis"
        data.mkdir(exist_ok=True)
        options = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
        safety = ["--appendonly", "yes", "--appendfsync", "always", "--requirepass", self.redis_password]
        ready = lambda: accepts(self.redis_port)  # noqa: E731
        return self.start("redis", redis_program(), *options, *safety, ready=ready)

    def web(self, application: str = "backupcenter.asgi:application", workers: int = 1) -> Process:
        command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(self.port)]
        options = ["--lifespan", "off", "--timeout-graceful-shutdown", "3"]
        if workers > 1:
            options += ["--workers", str(workers)]
        return self.start("web", *command, *options, ready=lambda: accepts(self.port))

    def beat(self, name: str = "beat") -> Process:
        command = [sys.executable, "-m", "celery", "-A", "backupcenter", "beat", "-l", "INFO", "--pidfile="]
        return self.start(name, *command, says=b"Schedule changed")

    def control(self, name: str = "control") -> Process:
        command = [sys.executable, "-m", "celery", "-A", "backupcenter", "worker", "-l", "INFO", "-Q"]
        options = ["control", "-n", f"{name}@%h", "--pool", "threads", "-c", "4"]
        return self.start(name, *command, *options, "--without-gossip", "--without-mingle", says=b"ready.")

    def maintenance(self, name: str = "maintenance") -> Process:
        command = [sys.executable, "-m", "celery", "-A", "backupcenter", "worker", "-l", "INFO", "-Q"]
        options = ["maintenance", "-n", f"{name}@%h", "--pool", "threads", "-c", "1"]
        return self.start(name, *command, *options, "--without-gossip", "--without-mingle", says=b"ready.")

    def join(self, token: str) -> None:
        """Let this machine's agent join with a one-time token."""
        command = [sys.executable, "-m", "agent", "join", "--center", self.agents_url, "--token", "-"]
        done = subprocess.run(
            [*command, "--state", str(self.directory / "agent")],
            cwd=TOP,
            env=self.agent_environment,
            input=token,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"agent join: {done.stdout}{done.stderr}"

    def agent(self, name: str = "agent") -> Process:
        command = [sys.executable, "-m", "agent", "run", "--state", str(self.directory / "agent")]
        return self.start(name, *command, environment=self.agent_environment, says=b"ready.")

    def stop(self) -> None:
        """End all programs, the last started first."""
        for process in reversed(self.processes):
            process.kill_group()


@contextmanager
def installation(database_url: str | None = None, **settings: str) -> Iterator[Installation]:
    """Make an installation with a migrated database and nothing running; all it starts ends with the block."""
    directory = Path(tempfile.mkdtemp(prefix="center-"))
    center = Installation(directory, database_url, **settings)
    try:
        center.migrate()
        yield center
    finally:
        center.stop()
        shutil.rmtree(directory, ignore_errors=True)
