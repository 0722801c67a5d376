"""A PostgreSQL server for one test session, of whatever version's programs the machine has."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.ending import ending_with_us
from tests.services.ports import free_port, wait_until


def postgres_programs() -> Path | None:
    """Return the directory of `initdb` and `postgres`, the newest version's; None if there is none."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    return next((path for path in reversed(candidates) if (path / "initdb").exists()), None)


class PostgresFiles:
    """A database cluster in a directory of its own, which `command` serves at a port of loopback."""

    def __init__(self, directory: Path, port: int, base: bytes = b"", **settings: str) -> None:
        """Make a cluster in `directory`, which exists. `base`: the tar of a base backup, else it is empty.

        `settings`: PostgreSQL's own, for `command`.
        """
        programs = postgres_programs()
        assert programs is not None
        self.programs, self.directory, self.port = programs, directory, port
        self.url = f"postgres://backupcenter@127.0.0.1:{port}/backupcenter"
        self._settings = {"fsync": "off", "listen_addresses": "127.0.0.1", **settings}
        # PostgreSQL refuses to run as root; and whoever becomes another user forgets that it is to end with its parent.
        user = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]
        self._as_user = ["setpriv", *user] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(directory, "postgres", "postgres")
        if base:
            subprocess.run([*self._as_user, "mkdir", "-m", "0700", directory / "data"], check=True)
            subprocess.run([*self._as_user, "tar", "-x", "-C", directory / "data"], check=True, input=base)
            return
        options = ["-A", "trust", "-U", "backupcenter", "--no-sync", "-E", "UTF8"]
        command = [*self._as_user, programs / "initdb", "-D", directory / "data", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    @property
    def command(self) -> list[str]:
        place = ["-D", str(self.directory / "data"), "-p", str(self.port), "-k", str(self.directory)]
        settings = (f"--{name}={value}" for name, value in self._settings.items())
        return [*self._as_user, str(self.programs / "postgres"), *place, *settings]

    def make_database(self) -> None:
        """Make the database as soon as the server, which has been started, lets it be made."""
        command = [self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "backupcenter", "backupcenter"]
        made = lambda: subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0  # noqa: E731
        wait_until(made, "a PostgreSQL database", timeout_s=30)

    def await_answers(self) -> None:
        """Wait until the server, which has been started, takes connections: a base backup recovers first."""
        command = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(command).returncode == 0, "PostgreSQL", timeout_s=30)


@contextmanager
def postgres_server(base: bytes = b"", **settings: str) -> Iterator[str]:
    """Run a PostgreSQL for the length of the block and yield the URL of its database.

    It is empty, or what the tar `base` of a base backup holds. `settings`: PostgreSQL's own, such as `shared_buffers="1GB"`; unless
    they say otherwise, nothing waits for the disk.
    """
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    process = None
    try:
        files = PostgresFiles(directory, free_port(), base, **settings)
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(
            files.command, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", preexec_fn=ending_with_us()
        )
        if base:
            files.await_answers()
        else:
            files.make_database()
        yield files.url
    finally:
        if process is not None:
            process.terminate()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)
