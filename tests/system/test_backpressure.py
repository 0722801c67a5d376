"""Five hundred plans of fifty clients come due in one second: all run once, never more at a time than may, and each in its turn.

Server, PostgreSQL and Redis are real; the agents speak the real protocol and do no work. When a slot was taken and given back is
seen in the records: it is held from the offer to the end.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from tests.services.ports import wait_until
from tests.services.postgres import postgres_server
from tests.system.crowd import CLIENT_JOBS, CLIENTS, ENDPOINT_JOBS, GREEDY_PLANS, PLANS, REPOSITORY_JOBS, TENANTS
from tests.system.processes import Installation, installation

pytestmark = pytest.mark.postgres

DUE_IN_S = 3
WORK_S = 0.01
# A job's end is noted before it is committed, and a round's time once the round has seen which slots are free: what has just
# ended was at work for it.
SEEN_LATE = timedelta(seconds=0.5)
RUNS = """
SELECT r.plan_uuid::text, r.client_id, r.repository_id, t.username, e.display_name, r.state, r.attempt, r.queued_at, r.offered_at,
    r.end_time
FROM records_backuprecord r JOIN storage_repository s ON s.id = r.repository_id JOIN storage_tenant t ON t.id = s.tenant_id
    JOIN storage_endpoint e ON e.id = t.endpoint_id
ORDER BY r.offered_at, r.id
"""


@dataclass(frozen=True, slots=True)
class Run:
    plan: str
    client: int
    repository: int
    tenant: str
    endpoint: str
    state: int
    attempt: int
    queued_at: datetime
    offered_at: datetime
    end_time: datetime


@pytest.fixture(scope="module")
def runs() -> Iterator[list[Run]]:
    """All runs, in the order in which they were offered."""
    with postgres_server() as url, installation(url, CLIENT_JOBS=str(CLIENT_JOBS)) as center:
        for start in (center.redis, center.web, center.control, center.beat):
            start()
        start_agents(center)
        center.run_python(f"from tests.system.crowd import gather; gather({int(time.time()) + DUE_IN_S})")
        with psycopg.connect(url, autocommit=True) as connection:
            ended = "SELECT count(*) FROM records_backuprecord WHERE state NOT IN (1, 2)"
            wait_until(lambda: connection.execute(ended).fetchall() == [(PLANS,)], "all plans to have run", timeout_s=180)
            yield [Run(*row) for row in connection.execute(RUNS).fetchall()]


def start_agents(center: Installation) -> None:
    where = ["--port", str(center.port), "--redis", center.redis_url, "--count", str(CLIENTS)]
    work = ["--work-s", str(WORK_S), "--report-every-s", "60"]
    command = [sys.executable, "-m", "benchmarks.simulation.agents", *where, *work]
    # They end when their input does.
    center.start("agents", *command, says=b"ready", stdin=subprocess.PIPE)


def most_at_once(runs: Iterable[Run]) -> int:
    """Return how many slots were held at most."""
    steps = sorted(step for run in runs for step in ((run.offered_at, 1), (run.end_time, -1)))
    held = most = 0
    for _moment, step in steps:
        held += step
        most = max(most, held)
    return most


def grouped(runs: Iterable[Run], name: str) -> dict[Hashable, list[Run]]:
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(getattr(run, name), []).append(run)
    return groups


def test_each_plan_runs_once(runs: list[Run]) -> None:
    assert len({run.plan for run in runs}) == len(runs) == PLANS
    assert {(run.state, run.attempt) for run in runs} == {(0, 1)}


def test_no_limit_is_ever_exceeded_and_each_is_used_up(runs: list[Run]) -> None:
    clients = {client: most_at_once(of) for client, of in grouped(runs, "client").items()}
    assert max(clients.values()) == CLIENT_JOBS
    repositories = {repository: most_at_once(of) for repository, of in grouped(runs, "repository").items()}
    assert max(repositories.values()) == REPOSITORY_JOBS
    endpoints = {endpoint: most_at_once(of) for endpoint, of in grouped(runs, "endpoint").items()}
    # The second's one repository has fewer.
    assert endpoints == {"crowded": ENDPOINT_JOBS["crowded"], "shared": REPOSITORY_JOBS}


@pytest.mark.parametrize("tenant", TENANTS)
def test_no_client_is_served_twice_while_another_of_its_tenant_waits(runs: list[Run], tenant: str) -> None:
    """But for those that had as many jobs at work as they may."""
    of_clients = grouped([run for run in runs if run.tenant == tenant], "client")
    began = max(run.queued_at for run in runs)
    overtaken = []
    for client, served in of_clients.items():
        for one, next_one in pairwise(run for run in served if run.offered_at > began):
            for other, others in of_clients.items():
                waited = [run for run in others if run.offered_at > next_one.offered_at]
                had_turn = any(one.offered_at <= run.offered_at <= next_one.offered_at for run in others)
                at_work = most_at_once(run for run in others if run.offered_at < one.offered_at < run.end_time + SEEN_LATE)
                if other != client and waited and not had_turn and at_work < CLIENT_JOBS:
                    overtaken.append((other, one, next_one))
    assert overtaken == []


def test_tenants_of_one_store_take_turns_however_much_one_of_them_has(runs: list[Run]) -> None:
    began = max(run.queued_at for run in runs)
    crowded = [run for run in runs if run.endpoint == "crowded" and run.offered_at > began]
    last = min(max(run.offered_at for run in of) for of in grouped(crowded, "tenant").values())
    shares = Counter(run.tenant for run in crowded if run.offered_at <= last)
    assert abs(shares["first"] - shares["second"]) <= ENDPOINT_JOBS["crowded"], shares


def test_who_has_very_much_is_done_last_and_keeps_nobody_waiting(runs: list[Run]) -> None:
    crowded = [run for run in runs if run.endpoint == "crowded"]
    last = crowded[-1].client
    assert sum(run.client == last for run in crowded) == GREEDY_PLANS
