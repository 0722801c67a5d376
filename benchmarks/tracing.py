"""What tracing costs a web process: the same requests to one that sends traces and to one that does not, in alternation.

    python benchmarks/tracing.py [--requests N]

Both have a PostgreSQL of their own and a collector that only receives, all on this machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from tests.services.collector import collector  # noqa: E402
from tests.services.postgres import postgres_server  # noqa: E402
from tests.system.operating import Operator  # noqa: E402
from tests.system.processes import Process, installation  # noqa: E402

WARM_UP = 50
IN_A_ROW = 10


class Side:
    """A web process, and how long (seconds) it has taken to answer each request."""

    def __init__(self, web: Process, operator: Operator) -> None:
        self.web, self._operator = web, operator
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {operator.token}"
        self.took_s: list[float] = []
        for _ in range(WARM_UP):
            self.ask()
        self.took_s.clear()
        self._cpu_before_s = self._cpu_s()

    def ask(self) -> None:
        begun = time.perf_counter()
        self._session.get(f"{self._operator.center.url}/api/client", timeout=60).raise_for_status()
        self.took_s.append(time.perf_counter() - begun)

    def cpu_per_request_s(self) -> float:
        return (self._cpu_s() - self._cpu_before_s) / len(self.took_s)

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.web.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=200, metavar="N", help="to each of the two (default: 200)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        collected = stack.enter_context(collector())
        sides = {}
        for name in ("off", "on"):
            center = stack.enter_context(installation(stack.enter_context(postgres_server())))
            if name == "on":
                center.environment |= {**collected.environment, "OTEL_BSP_SCHEDULE_DELAY": "5000"}
            center.redis()
            sides[name] = Side(center.web(), Operator(center))
        for _ in range(arguments.requests // IN_A_ROW):
            for side in sides.values():
                for _ in range(IN_A_ROW):
                    side.ask()
        print(f"{'traces':8}{'median ms':>12}{'p95 ms':>10}{'CPU ms each':>14}{'resident MiB':>14}")
        for name, side in sides.items():
            median, p95 = statistics.median(side.took_s), statistics.quantiles(side.took_s, n=20)[-1]
            resident = side.web.resident_bytes() / 2**20
            print(f"{name:8}{median * 1e3:12.2f}{p95 * 1e3:10.2f}{side.cpu_per_request_s() * 1e3:14.2f}{resident:14.1f}")
        print(f"{len(collected.spans)} spans came by then")


if __name__ == "__main__":
    main()
