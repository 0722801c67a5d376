"""How many requests the engine and restic make of an object store, by verb and by GiB, and over how many connections.

    python benchmarks/requests.py [--size MIB] [--files N] [--restic PROGRAM]

The store is one in memory (`tests/services/s3.py`); nothing is timed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.generate import total_size, write_large_files, write_small_files  # noqa: E402
from benchmarks.tools import available_tools  # noqa: E402
from tests.services.s3 import ObjectStore, object_store  # noqa: E402

GIB = 1 << 30
COLUMNS = ("PUT", "GET", "LIST", "HEAD", "DELETE")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the requests that the engine and restic make of an object store.")
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="large files altogether (default: 256)")
    parser.add_argument("--files", type=int, default=5000, metavar="N", help="small files (default: 5000)")
    parser.add_argument("--restic", action="append", default=[], metavar="PROGRAM", help="a restic to compare with (repeatable)")
    options = parser.parse_args()
    print("| work | program | " + " | ".join(COLUMNS) + " | PUT/GiB | GET/GiB | MiB up | MiB down | connections |")
    print("|---|---|" + "---|" * (len(COLUMNS) + 5))
    with tempfile.TemporaryDirectory(prefix="requests-") as home, object_store() as store:
        sources = {"large": Path(home) / "large", "small": Path(home) / "small"}
        write_large_files(sources["large"], options.size)
        write_small_files(sources["small"], options.files)
        for tool in available_tools(Path(home), options.restic):
            if tool.name.startswith("borg"):
                continue
            environment = tool.environment() | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
            for name, source in sources.items():
                place = [*tool.program, "-r", f"s3:{store.url}/bucket/{name}"]
                store.buckets = {}
                _run([*place, "init"], environment)
                for work, words in (
                    ("backup", ["backup", str(source)]),
                    ("unchanged", ["backup", str(source)]),
                    ("restore", ["restore", "latest", "--target", f"{home}/restored"]),
                ):
                    store.begin()
                    _run([*place, *words], environment)
                    print(_row(f"{work} {name}", tool.name, store, total_size(source)), flush=True)
                subprocess.run(["rm", "-r", f"{home}/restored"], check=True)


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True, stdout=subprocess.DEVNULL)


def _row(work: str, tool: str, store: ObjectStore, size: int) -> str:
    count = Counter("LIST" if request.method == "GET" and not request.key else request.method for request in store.requests)
    cells = [
        *(str(count[verb]) for verb in COLUMNS),
        f"{count['PUT'] * GIB / size:.0f}",
        f"{count['GET'] * GIB / size:.0f}",
        f"{sum(request.received for request in store.requests) / (1 << 20):.1f}",
        f"{sum(request.sent for request in store.requests) / (1 << 20):.1f}",
        str(store.connections),
    ]
    return f"| {work} | {tool} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
