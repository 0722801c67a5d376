"""A few cells of the fault matrix, with short times; all of them are in `test_faults_soak`."""

from collections.abc import Iterator

import pytest

from tests.system.faults.matrix import Activity, Cell, Fault, Part, cells, why_left_out
from tests.system.faults.running import Runner
from tests.system.faults.stage import stage

SHORT_TIMES = {"JOB_LEASE": "6", "JOB_REPUBLISH": "4"}
# Longer than the lease.
LENGTH_S = 8
# What `test_kills` leaves out.
DIAGONAL = [
    Cell(Part.REDIS, Fault.STOP, Activity.IDLE),
    Cell(Part.WEB, Fault.DROP, Activity.BACKUP),
    Cell(Part.POSTGRES, Fault.KILL, Activity.RESTORE),
    Cell(Part.STORE, Fault.DROP, Activity.PRUNE),
]


@pytest.fixture(scope="module")
def runner(ceph_endpoint) -> Iterator[Runner]:
    with stage(ceph_endpoint, is_gateway_ours=False, **SHORT_TIMES) as running:
        yield Runner(running, LENGTH_S)


@pytest.mark.ceph
@pytest.mark.postgres
@pytest.mark.restic
@pytest.mark.parametrize("cell", DIAGONAL, ids=str)
def test_a_part_fails_and_the_system_recovers_by_itself(runner, cell):
    print(runner.run(cell))


def test_every_cell_of_the_matrix_is_run_or_left_out_for_a_reason():
    run = set(cells())
    left_out = {Cell(*each) for each in ((p, f, a) for p in Part for f in Fault for a in Activity)} - run
    assert set(DIAGONAL) <= run
    assert all(why_left_out(cell) for cell in left_out)
    assert len(run) + len(left_out) == len(Part) * len(Fault) * len(Activity)
