"""A plan that fires every three seconds, with two of everything that could fire it twice.

The time of a fire is read from its record; nothing here measures how long anything took.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.ports import wait_until
from tests.system.operating import SUCCESS, Operator, Record
from tests.system.processes import Installation, installation

INTERVAL_S = 3
# A backup of the last fire may still run when its successors have ended.
DRAIN_S = 60


@pytest.fixture
def center() -> Iterator[Installation]:
    with installation() as center:
        center.redis()
        center.web()
        yield center


def fire(center: Installation, source: Path, count: int) -> None:
    """Let a plan fire `count` times and check that nothing was missed, doubled, late or run twice."""
    (source / "file").write_text("content")
    operator = Operator(center)
    operator.register()
    center.agent()
    for number in (1, 2):
        center.control(f"control{number}")
        center.beat(f"beat{number}")
    plan = operator.plan("every three seconds", source, f"0/{INTERVAL_S} * * * * ? ")

    def fires() -> list[Record]:
        return operator.records(plan)

    wait_until(lambda: len(fires()) >= count, f"{count} fires", timeout_s=count * INTERVAL_S + 60)
    operator.api.post(f"/api/backup/{plan['uuid']}/pause")
    wait_until(lambda: all(record["state"] == SUCCESS for record in fires()), "the backups to end", DRAIN_S)

    records = fires()
    times = [record["scheduled_time"] for record in records]
    expected = list(range(times[0], times[0] + len(times) * INTERVAL_S, INTERVAL_S))
    print(f"\n{len(times)} fires, {len(set(expected) - set(times))} missed, {len(times) - len(set(times))} doubled")
    assert times == expected
    assert {record["attempt"] for record in records} == {1}
    assert len(operator.snapshots()) == len(records)


@pytest.mark.restic
def test_each_fire_runs_exactly_once_with_two_beats_and_two_control_workers(center, tmp_path):
    fire(center, tmp_path, 4)


def test_plans_fire_while_checks_take_for_ever(center, tmp_path):
    (tmp_path / "file").write_text("content")
    operator = Operator(center)
    operator.register()
    center.control()
    maintenance = center.maintenance()
    plan = operator.plan("every three seconds", tmp_path, f"0/{INTERVAL_S} * * * * ? ")
    # A store that does not answer: reading the configuration ends when somebody writes one.
    configuration = next(operator.store.glob("**/config"))
    configuration.unlink()
    os.mkfifo(configuration)
    center.run_python(
        "from storage.models import Repository; from records.maintenance import request_maintenance\n"
        "for number in range(12): request_maintenance(Repository.objects.get(), 'check')"
    )
    wait_until(lambda: b"started" in maintenance.log.read_bytes(), "a check to begin")
    fired = len(operator.records(plan))
    center.beat()
    wait_until(lambda: len(operator.records(plan)) >= fired + 2, "two more fires")


@pytest.mark.soak
@pytest.mark.restic
def test_a_minute_of_three_seconds_has_twenty_fires(center, tmp_path):
    fire(center, tmp_path, 20)
