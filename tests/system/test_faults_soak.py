"""The fault matrix. `pytest --soak tests/system/test_faults_soak.py -k "redis and backup"` has a part of it.

`--faults-json FILE` adds a line with the time to recovery of each cell to a file.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict

import pytest

from tests.services.ceph import ceph_gateway
from tests.system.faults.matrix import Cell, Fault, Part, cells
from tests.system.faults.running import Result, Runner
from tests.system.faults.stage import stage

LENGTH_S = 30

pytestmark = [pytest.mark.soak, pytest.mark.ceph, pytest.mark.postgres, pytest.mark.restic]


@pytest.fixture(scope="module")
def results(pytestconfig: pytest.Config) -> Iterator[list[Result]]:
    """What was measured, shown at the end."""
    found: list[Result] = []
    yield found
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\npart       fault    during   recovery  state  attempts")
        for result in found:
            cell = result.cell
            print(
                f"{cell.part:10} {cell.fault:8} {cell.activity:8} {result.recovery_s:6.1f} s  {result.state!s:6} {result.attempts}"
            )


class Installations:
    """One installation and its store for all cells, until one of them leaves it in doubt."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._runner: Runner | None = None

    def runner(self) -> Runner:
        if self._runner is None:
            # A store of its own, as the buckets of the one before are another's.
            gateway = self._running.enter_context(ceph_gateway(is_started=False))
            running = self._running.enter_context(stage(gateway, is_gateway_ours=True))
            self._runner = Runner(running, LENGTH_S)
        return self._runner

    def drop(self) -> None:
        self._runner = None
        self._running.close()


@pytest.fixture(scope="module")
def installations() -> Iterator[Installations]:
    made = Installations()
    yield made
    made.drop()


@pytest.mark.parametrize("cell", list(cells()), ids=str)
def test_a_part_fails_and_the_system_recovers_by_itself(cell: Cell, installations, results, pytestconfig):
    try:
        runner = installations.runner()
        if cell.fault is Fault.FULL and cell.part is not Part.STORE and not runner.stage.disks:
            pytest.skip("no disk can be mounted here")
        result = runner.run(cell)
    except BaseException:
        installations.drop()
        raise
    results.append(result)
    file = pytestconfig.getoption("faults_json")
    if file:
        with open(file, "a") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
