"""The real programs while their clock is put forth and back, over both changes of daylight saving and a day without a server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from agent.config import load_config
from tests.services.faketime import FakeClock
from tests.services.ports import wait_until
from tests.services.postgres import postgres_server
from tests.system.operating import SUCCESS, Operator, Record
from tests.system.processes import TOP, Installation, installation

pytestmark = [pytest.mark.soak, pytest.mark.faketime, pytest.mark.postgres, pytest.mark.restic]

BERLIN = "Europe/Berlin"
HALF_HOURLY, NIGHTLY = "0 0/30 * * * ?", "0 30 2 * * ?"
BEFORE_S = 2
YEARS_S = str(10 * 365 * 86_400)
# 02:00 in Berlin, which is 03:00.
SPRING = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
DAY_AFTER = datetime(2027, 3, 29, 12, 10, tzinfo=UTC)
# 02:30 in Berlin, the first time.
AUTUMN = datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


class Server:
    """An installation on a clock of its own, and three plans of which one makes up for nothing that it missed."""

    def __init__(self, center: Installation, clock: FakeClock, source: Path) -> None:
        self.center, self.clock, self.source = center, clock, source
        center.web()
        self.operator = Operator(center)
        self.operator.register()
        self.agent = load_config(center.directory / "agent")
        (source / "file").write_text("content")
        self.plans = {
            name: self.operator.plan(name, source, cron, at=SPRING.timestamp(), timezone=BERLIN, misfire=misfire)
            for name, cron, misfire in (
                ("half-hourly", HALF_HOURLY, "run-once"),
                ("nightly", NIGHTLY, "run-once"),
                ("nightly or not", NIGHTLY, "skip"),
            )
        }
        center.agent()
        self.start()

    def start(self) -> None:
        self.scheduling = [self.center.control(), self.center.beat()]

    def stop(self) -> None:
        for process in self.scheduling:
            process.stop()

    def set(self, moment: datetime) -> None:
        """Set the clock, and have the agent be heard of by it."""
        self.clock.set(moment)
        beat = {"version": "1", "os": "Debian", "load": 0.0, "running": []}
        headers = {"Authorization": f"Agent {self.agent.token}"}
        requests.post(f"{self.center.url}/api/agent/heartbeat", json=beat, headers=headers, timeout=60).raise_for_status()

    def pass_by(self, moment: datetime) -> None:
        """Have the clock go past a moment, and return once a tick has seen it and all that it started has ended."""
        self.set(moment - timedelta(seconds=BEFORE_S))
        self.settle(moment)

    def settle(self, moment: datetime) -> None:
        wait_until(lambda: self.clock.now() > moment.timestamp() + 1, f"{moment} to pass")
        passed = self.operator.plan("marker", self.source, at=self.clock.now())
        try:
            wait_until(lambda: bool(self.operator.records(passed)), "a tick")
            wait_until(lambda: all(record["end_time"] for record in self.records()), "the runs to end")
        except TimeoutError as error:
            raise AssertionError("\n".join([str(error), *(each.tail() for each in self.scheduling)])) from error

    def records(self) -> list[Record]:
        return list(self.operator.api.get("/api/record/backup", page_size=200)["Data"])

    def fires(self, name: str) -> list[datetime]:
        """Return for what times the plan's runs were scheduled; all have succeeded."""
        records = self.operator.records(self.plans[name])
        assert {record["state"] for record in records} <= {SUCCESS}
        return sorted(datetime.fromtimestamp(record["scheduled_time"], UTC) for record in records)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    clock = FakeClock(tmp_path_factory.mktemp("clock") / "offset")
    clock.set(SPRING - timedelta(minutes=25))
    # What is older than a step is not to expire by it.
    lasting = {"TOKEN_LIFETIME": YEARS_S, "AGENT_LOGIN_LIFETIME": "0", "AGENT_LOGIN_ROTATION": YEARS_S}
    with postgres_server() as url, installation(url, **lasting) as center:
        # It has no use for the time of day, and its allocator does not bear the library.
        center.redis()
        center.environment |= {**clock.environment, "PYTHONPATH": str(TOP / "tests/system/stepped")}
        yield Server(center, clock, tmp_path_factory.mktemp("source"))


def test_no_step_of_the_clock_runs_anything_twice_or_hides_what_was_missed(server: Server) -> None:
    spring = SPRING
    server.pass_by(spring)
    assert server.fires("half-hourly") == [spring]
    # 02:30 is left out that night, and made up for at 03:30.
    half_past = spring + timedelta(minutes=30)
    server.pass_by(half_past)
    assert server.fires("half-hourly") == [spring, half_past]
    assert server.fires("nightly") == server.fires("nightly or not") == [half_past]

    server.pass_by(spring)
    assert any("clock was put back by 0:3" in title for title in server.operator.events())
    server.pass_by(half_past)
    assert server.fires("half-hourly") == [spring, half_past]
    assert server.fires("nightly") == server.fires("nightly or not") == [half_past]

    server.stop()
    server.set(DAY_AFTER)
    server.start()
    server.settle(DAY_AFTER)
    missed_night = datetime(2027, 3, 29, 0, 30, tzinfo=UTC)
    assert server.fires("half-hourly")[2:] == [spring + timedelta(hours=1)]
    assert server.fires("nightly")[1:] == [missed_night]
    assert server.fires("nightly or not")[1:] == []
    assert [record["late"] for record in server.operator.records(server.plans["nightly"])] == [False, True]
    events = server.operator.events()
    for name, count in (("half-hourly", "69 runs"), ("nightly", "1 run"), ("nightly or not", "1 run")):
        assert f"Backup plan {name} missed {count}" in events


def test_a_time_that_autumn_brings_twice_fires_once(server: Server) -> None:
    first, second = AUTUMN, AUTUMN + timedelta(hours=1)
    # What summer missed is made up for before, not beside the runs of that night.
    server.pass_by(first - timedelta(minutes=10))
    server.pass_by(first)
    # Neither beside the run of half an hour before, which on a busy machine would still wait.
    server.pass_by(first + timedelta(minutes=30))
    server.pass_by(second)
    assert [fire for fire in server.fires("nightly") if fire >= first] == [first]
    assert [fire for fire in server.fires("half-hourly") if fire >= first] == [first, first + timedelta(minutes=30), second]
