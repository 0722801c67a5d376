"""What a fleet costs one server: starts, progress, lists and listeners, with simulated agents that speak the real protocol.

    python benchmarks/fleet.py [--only PART …] [--agents N] [--plans N] [--records N] [--rate N] [--seconds N] [--listeners N]
        [--web N]

A real server runs here (PostgreSQL, Redis, web, beat, a control worker) over a database that is filled first; agents and listeners
share its processors, and what each program used of them is told apart. `--database URL` takes a database of this machine that an
earlier run or `benchmarks.simulation.population` has filled. Results are also written as JSON under `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.report import write_results  # noqa: E402
from benchmarks.simulation.center import Center, center  # noqa: E402
from benchmarks.simulation.jobs import measure_dispatch, measure_progress  # noqa: E402
from benchmarks.simulation.listeners import measure_listeners  # noqa: E402
from benchmarks.simulation.lists import SECRETS, measure_lists  # noqa: E402

PARTS = ("dispatch", "progress", "lists", "listeners")
# One store takes all jobs here: how many it bears is not what is measured.
NO_LIMITS = {"ENDPOINT_JOBS": "1000000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    for name, default in {
        "agents": 1000,
        "plans": 10_000,
        "records": 1_000_000,
        "rate": 100,
        "seconds": 60,
        "listeners": 2000,
        "web": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default: {default}")
    parser.add_argument("--times", type=int, default=30, metavar="N", help="how often each list is asked for (default: 30)")
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with center(arguments.database, **NO_LIMITS) as server:
        if not arguments.database:
            sizes = (f"--{name}={getattr(arguments, name)}" for name in ("agents", "plans", "records"))
            server.python("benchmarks.simulation.population", *sizes)
        server.start_all(arguments.web)
        results = {part: _measure(part, server, arguments) for part in PARTS if part in arguments.only}
    kept = {name: value for name, value in vars(arguments).items() if name not in ("json", "database", "only")}
    write_results("fleet", arguments.json, options=kept, **results)


def _measure(part: str, server: Center, arguments: argparse.Namespace) -> Any:
    print(f"## {part}", flush=True)
    match part:
        case "dispatch":
            result: Any = measure_dispatch(server, arguments.agents, arguments.rate, arguments.seconds)
        case "progress":
            result = measure_progress(server, arguments.agents, arguments.seconds // 2)
        case "lists":
            return measure_lists(server, json.loads(server.run_python(SECRETS)), arguments.times)
        case _:
            result = measure_listeners(server, arguments.listeners)
    for name, value in result.items():
        print(f"{name:24} {json.dumps(value)}", flush=True)
    return result


if __name__ == "__main__":
    main()
