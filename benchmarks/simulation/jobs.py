"""Jobs of a simulated fleet: how late they start when many do each second, and what the progress of those that run costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.simulation.center import Center
from tests.system.processes import TOP

# Nothing that an earlier run of the benchmark left counts, and of the plans none fires by itself.
_CALM = """
UPDATE records_backuprecord SET state = 4, end_time = now() WHERE state IN (1, 2);
UPDATE jobs_backupplan SET next_fire_at = now() + interval '1 day' WHERE NOT paused;
"""
_MAKE_DUE = """
UPDATE jobs_backupplan SET next_fire_at = fire, fired_at = NULL,
    cron_expression = to_char(fire AT TIME ZONE 'UTC', 'SS MI HH24 * * ?')
FROM (SELECT id AS number, date_trunc('second', now()) + (10 + div(id - 1, %(rate)s)) * interval '1 second' AS fire
      FROM jobs_backupplan WHERE id <= %(count)s) AS due
WHERE id = number RETURNING fire
"""
_DELAYS = """
SELECT count(*), count(published_at), count(start_time), count(end_time),
    percentile_disc(array[0.5, 0.95, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - scheduled_at)),
    percentile_disc(array[0.5, 0.95, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM start_time - scheduled_at))
FROM records_backuprecord WHERE scheduled_at >= %(first)s AND scheduled_at <= %(last)s
"""
_ACTIVE = (
    "SELECT count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2) FROM records_backuprecord WHERE state IN (1, 2)"
)


@contextmanager
def agents(center: Center, count: int, work_s: float) -> Iterator[Callable[[], dict[str, Any]]]:
    """Run `count` agents in a process of their own; the block is given what ends them and returns what they saw."""
    options = {"--port": center.port, "--redis": center.redis_url, "--count": count, "--work-s": work_s}
    command = [sys.executable, "-m", "benchmarks.simulation.agents", *(str(word) for pair in options.items() for word in pair)]
    with subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        center.others["agents"] = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def end() -> dict[str, Any]:
            center.others.pop("agents")
            output, _ = process.communicate("")
            return dict(json.loads(output))

        try:
            yield end
        finally:
            process.kill()


def measure_dispatch(center: Center, count: int, rate: int, seconds: int, work_s: float = 2) -> dict[str, Any]:
    """Let `rate` plans fire each second on `count` agents; return delays in seconds, from the scheduled time, and CPU in cores."""
    with psycopg.connect(center.database_url, autocommit=True) as database, agents(center, count, work_s) as end:
        database.execute(_CALM)
        _wait_for_heartbeats(database, count)
        fires = [row[0] for row in database.execute(_MAKE_DUE, {"rate": rate, "count": rate * seconds})]
        first, last = min(fires), max(fires)
        time.sleep(max(0.0, first.timestamp() - time.time()))
        with center.measured() as usage:
            time.sleep(max(0.0, last.timestamp() - time.time()))
        per_start = {name: round(spent / max(1, len(fires)) * 1000, 2) for name, spent in usage.cpu_s.items()}
        deadline = time.monotonic() + 60
        while _active(database) != (0, 0) and time.monotonic() < deadline:
            time.sleep(0.5)
        row = database.execute(_DELAYS, {"first": first, "last": last}).fetchone()
        assert row is not None
        names = ("p50", "p95", "p99", "max")
        return {
            "agents": count,
            "starts_per_s": rate,
            **dict(zip(("records", "published", "claimed", "ended"), row[:4], strict=True)),
            "to_queue_s": dict(zip(names, (round(float(value), 2) for value in row[4] or []), strict=False)),
            "to_claim_s": dict(zip(names, (round(float(value), 2) for value in row[5] or []), strict=False)),
            "cores": usage.shares(),
            "cpu_ms_per_start": per_start,
            "server_cores": round(sum(share for name, share in usage.shares().items() if name != "agents"), 3),
            "seen_by_agents": end(),
        }


def measure_progress(center: Center, count: int, seconds: int) -> dict[str, Any]:
    """Return what the server costs, in cores, while `count` agents are idle and while each runs a job."""
    with psycopg.connect(center.database_url, autocommit=True) as database, agents(center, count, 1e6) as end:
        database.execute(_CALM)
        _wait_for_heartbeats(database, count)
        with center.measured() as idle:
            time.sleep(seconds)
        database.execute(_MAKE_DUE, {"rate": 50, "count": count})
        deadline = time.monotonic() + 60 + count / 25
        while _active(database)[1] < count and time.monotonic() < deadline:
            time.sleep(0.5)
        with center.measured() as busy:
            time.sleep(seconds)
        running = _active(database)[1]
        seen = end()
        database.execute(_CALM)
    cost = {name: round(share - idle.shares().get(name, 0), 3) for name, share in busy.shares().items()}
    progress = sum(cost.get(name, 0) for name in ("web", "postgres", "redis"))
    return {"agents": count, "running": running, "progress_cores": round(progress, 3), "idle": idle.shares(), "busy": busy.shares(),
            "seen_by_agents": seen}  # fmt: skip


def _active(database: psycopg.Connection[Any]) -> tuple[int, int]:
    row = database.execute(_ACTIVE).fetchone()
    assert row is not None
    return row[0], row[1]


def _wait_for_heartbeats(database: psycopg.Connection[Any], count: int) -> None:
    """Wait until the agents were heard of: what waits for a client that is not there is not offered."""
    question = "SELECT count(*) FROM clients_client WHERE last_seen > now() - interval '20 seconds'"
    deadline = time.monotonic() + 60
    while (row := database.execute(question).fetchone()) and row[0] < count and time.monotonic() < deadline:
        time.sleep(0.5)
