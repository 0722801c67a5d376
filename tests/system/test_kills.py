"""What is left of a running backup when one of the system's parts is killed: the truth, and a clean repository.

The engine's process is let run in small steps, so that each kill happens in the middle of a backup: after the first
pack reached the store and before the last.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.ports import wait_until
from tests.services.postgres import postgres_server
from tests.system.operating import QUEUED, RUNNING, SUCCESS, Operator, Record
from tests.system.processes import Installation, engine_processes, installation, send

SOURCE_BYTES = 256 << 20
STEP_S = 0.03
SHORT_TIMES = {"JOB_LEASE": "6", "JOB_REPUBLISH": "4"}
VICTIMS = ["agent", "engine", "control", "beat", "redis", "web"]
ROUNDS = 3

pytestmark = pytest.mark.restic


class Stage:
    """An installation at work. The processes by name; `agent` and `control` change when they are started again."""

    def __init__(self, center: Installation, source: Path) -> None:
        self.center, self.source = center, source
        self.redis = center.redis()
        self.web = center.web()
        self.operator = Operator(center)
        self.operator.register()
        self.control = center.control()
        self.beat = center.beat()
        self.agent = center.agent()
        self.plan = self.operator.plan("kills", source, "0 0 0 1 1 ? 2099")
        (source / "file").write_text("content")
        self.operator.wait_for_end(self.operator.run(self.plan))

    def packs(self) -> int:
        return sum(1 for path in self.operator.store.glob("**/data/*/*") if path.is_file())

    def begin(self) -> tuple[Record, int]:
        """Start a backup of new data and hold it in the middle; return its record and the engine's process id."""
        with (self.source / "large").open("wb") as file:
            for _ in range(SOURCE_BYTES >> 20):
                file.write(os.urandom(1 << 20))
        before = self.packs()
        record = self.operator.run(self.plan)
        wait_until(lambda: bool(engine_processes(self.agent)), "the engine to start", timeout_s=60)
        child = engine_processes(self.agent)[0]
        while self.packs() == before:
            assert is_alive(child), f"the engine ended before its first pack:\n{self.agent.tail()}"
            send(signal.SIGCONT, child)
            time.sleep(STEP_S)
            send(signal.SIGSTOP, child)
        now = self.operator.record(record)
        assert now["state"] == RUNNING
        return now, child

    def check(self, record: Record, attempt: int) -> None:
        """Wait for the record's success and check that it ran as often as it says, and left nothing broken."""
        ended = self.operator.wait_for_end(record)
        assert ended["attempt"] == attempt
        succeeded = self.operator.records(self.plan)
        snapshots = self.operator.snapshots()
        assert sorted(snapshot["id"] for snapshot in snapshots) == sorted(each["snapshot"] for each in succeeded)
        # A killed engine leaves its lock, which restic alone would wait out.
        self.operator.restic("unlock")
        self.operator.restic("check", "--no-lock", "--read-data")


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    with installation(**SHORT_TIMES) as center:
        yield Stage(center, tmp_path_factory.mktemp("source"))


def test_a_killed_agent_takes_the_engine_along_and_its_job_is_retried(stage):
    record, child = stage.begin()
    stage.agent.kill()
    wait_until(lambda: not is_alive(child), "the engine to die with its agent")
    # Nobody runs it now, and the record does not claim otherwise for longer than the lease.
    waiting = stage.operator.wait(record, lambda now: now["state"] == QUEUED, "the job to be queued again", 30)
    assert waiting["attempt"] == 2
    stage.agent = stage.center.agent()
    stage.check(record, attempt=2)


def test_a_killed_engine_is_noticed_by_its_agent_and_its_job_retried(stage):
    record, child = stage.begin()
    os.kill(child, signal.SIGKILL)
    stage.check(record, attempt=2)


def test_a_killed_control_worker_is_not_missed_by_a_running_backup(stage):
    record, child = stage.begin()
    stage.control.kill_group()
    send(signal.SIGCONT, child)
    stage.check(record, attempt=1)
    stage.control = stage.center.control()
    stage.operator.wait_for_end(stage.operator.run(stage.plan))


def test_a_killed_redis_is_not_missed_by_a_running_backup_nor_its_job_run_again(stage):
    record, child = stage.begin()
    stage.redis.kill()
    send(signal.SIGCONT, child)
    stage.operator.wait_for_end(record)
    stage.redis = stage.center.redis()
    # Whoever lost its connection comes back, and a message that is delivered once more is refused.
    stage.operator.wait_for_end(stage.operator.run(stage.plan))
    stage.check(record, attempt=1)


def test_a_stopped_agent_hands_its_job_back_which_goes_on_when_it_is_started_again(stage):
    record, child = stage.begin()
    stage.agent.popen.terminate()
    send(signal.SIGCONT, child)
    assert stage.agent.popen.wait(30) == 0
    # At once, not when the lease is over, and nothing was lost.
    waiting = stage.operator.record(record)
    assert (waiting["state"], waiting["attempt"], waiting["error"]) == (QUEUED, 2, "the agent was stopped")
    titles = [title for title in stage.operator.events() if f"#{record['id']}:" in title]
    assert titles[-1].endswith("was handed back and waits for its agent to be started again")
    assert not any("lost" in title for title in titles)
    stage.agent = stage.center.agent()
    stage.check(record, attempt=2)


def test_an_agent_that_is_told_twice_to_stop_ends_at_once_and_its_job_is_lost_and_retried(stage):
    record, child = stage.begin()
    # Agents before it have left theirs in the same log.
    before = stage.agent.log.read_text().count("Warm shutdown")
    stage.agent.popen.terminate()
    wait_until(lambda: stage.agent.log.read_text().count("Warm shutdown") > before, "the agent to stop")
    # The engine stands still, so that the agent waits for it.
    stage.agent.popen.terminate()
    assert stage.agent.popen.wait(30) == 128 + signal.SIGTERM
    wait_until(lambda: not is_alive(child), "the engine to end with its agent")
    stage.operator.wait(record, lambda now: now["state"] == QUEUED, "the job to be queued again", 30)
    stage.agent = stage.center.agent()
    stage.check(record, attempt=2)


def test_a_job_that_redis_forgot_is_put_on_its_queue_again_and_runs_once(stage):
    stage.agent.stop()
    record = stage.operator.run(stage.plan)
    stage.redis.kill()
    shutil.rmtree(stage.center.directory / "redis")
    stage.redis = stage.center.redis()
    stage.agent = stage.center.agent()
    stage.check(record, attempt=1)


def test_a_drill_on_a_client_whose_agent_is_killed_is_done_again_and_leaves_nothing(stage):
    scratch = stage.center.directory / "agent" / "drills"
    stage.center.run_python(
        "from jobs.drills import change_drill; from jobs.models import BackupPlan;"
        f"plan = BackupPlan.objects.get(uuid='{stage.plan['uuid']}'); change_drill(plan, client=plan.client, extent='whole')"
    )
    number = stage.operator.api.post(f"/api/backup/{stage.plan['uuid']}/drill")["id"]
    wait_until(lambda: bool(engine_processes(stage.agent)), "the engine to start", timeout_s=60)
    child = engine_processes(stage.agent)[0]
    send(signal.SIGSTOP, child)
    left = list(scratch.iterdir())
    assert len(left) == 1
    stage.agent.kill()
    # What it is to die of has come by now, and waits for it to go on.
    send(signal.SIGCONT, child)
    stage.agent = stage.center.agent()
    assert not left[0].exists()
    ask = lambda: stage.operator.api.get(f"/api/record/drill/{number}")  # noqa: E731
    wait_until(lambda: ask()["state"] not in (QUEUED, RUNNING), "the drill to end", timeout_s=60)
    drill = ask()
    assert (drill["state"], drill["error"], drill["mismatches"]) == (SUCCESS, "", 0)
    assert drill["compared"] == drill["of_files"] > 0
    assert stage.operator.api.get(f"/api/record/recovery/{drill['recovery']}")["attempt"] == 2
    assert list(scratch.iterdir()) == []


@pytest.mark.soak
@pytest.mark.postgres
def test_many_kills_one_after_the_other_leave_true_records_and_a_clean_repository(tmp_path):
    with postgres_server() as url, installation(url, **SHORT_TIMES) as center:
        stage = Stage(center, tmp_path)
        attempts = 0
        for victim in VICTIMS * ROUNDS:
            record, child = stage.begin()
            if victim == "engine":
                os.kill(child, signal.SIGKILL)
            else:
                process = getattr(stage, victim)
                process.kill_group() if victim == "control" else process.kill()
                if victim != "agent":
                    send(signal.SIGCONT, child)
                setattr(stage, victim, getattr(center, victim)())
            attempt = 2 if victim in ("agent", "engine") else 1
            stage.check(record, attempt)
            attempts += attempt
            print(f"\n{victim} killed: success at attempt {attempt}")
        print(f"{len(VICTIMS) * ROUNDS} kills, {attempts} attempts, {len(stage.operator.snapshots())} snapshots")
