"""A PostgreSQL server for one test session, of whatever version's programs the machine has."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.ending import ending_with_us
from tests.services.ports import accepts, free_port, wait_until


def postgres_programs() -> Path | None:
    """Return the directory of `initdb` and `postgres`, the newest version's; None if there is none."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    return next((path for path in reversed(candidates) if (path / "initdb").exists()), None)


@contextmanager
def postgres_server(**settings: str) -> Iterator[str]:
    """Run an empty PostgreSQL for the length of the block and yield the URL of its database.

    `settings`: PostgreSQL's own, such as `shared_buffers="1GB"`; unless they say otherwise, nothing waits for the disk.
    """
    programs = postgres_programs()
    assert programs is not None
    port = free_port()
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if as_user:
        shutil.chown(directory, "postgres", "postgres")
    data = directory / "data"
    process = None
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "backupcenter", "--no-sync", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **as_user,
        )
        process = subprocess.Popen(
            [
                programs / "postgres",
                "-D",
                data,
                "-p",
                str(port),
                "-k",
                directory,
                *(f"--{name}={value}" for name, value in {"fsync": "off", "listen_addresses": "127.0.0.1", **settings}.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=ending_with_us(),
            **as_user,
        )
        wait_until(lambda: accepts(port), "PostgreSQL", timeout_s=30)
        wait_until(
            lambda: (
                subprocess.run(
                    [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "backupcenter", "backupcenter"],
                    stderr=subprocess.DEVNULL,
                ).returncode
                == 0
            ),
            "a PostgreSQL database",
            timeout_s=30,
        )
        yield f"postgres://backupcenter@127.0.0.1:{port}/backupcenter"
    finally:
        if process is not None:
            process.terminate()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)
