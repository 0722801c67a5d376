"""A cell of the matrix from its beginning to the judge's word."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from tests.services.ports import wait_until
from tests.system.faults.activities import ENDED, NEVER, WORKS, Work
from tests.system.faults.matrix import Activity, Cell, Fault, Part
from tests.system.faults.stage import Stage
from tests.system.operating import FAILED, SUCCESS, WARNINGS, Record
from tests.system.processes import engine_processes, send

# When a plan comes due that the fault is to meet.
DUE_IN_S = 2
RECOVERY_TIMEOUT_S = 300
# As long as a service manager waits for what it has asked to end.
TERMINATE_TIMEOUT_S = 60
MAINTENANCE_GOES_ON = "SELECT count(*) FROM records_maintenancerun WHERE state IN (1, 2)"
SHORT_OF = {Part.STORE: "store", Part.AGENT: "agent"}


@dataclass(frozen=True, slots=True)
class Result:
    """`recovery_s`: from the fault's end (of a kill or a restart: its beginning) until the job that it met, and the plan that came
    due during it, have ended well. `state`, `attempts`: of that job."""

    cell: Cell
    recovery_s: float
    state: int | None
    attempts: int


class Runner:
    """Runs cells on a stage. `length_s`: of what lasts."""

    def __init__(self, stage: Stage, length_s: float) -> None:
        self.stage, self.length_s = stage, length_s
        self._works: dict[Activity, Work] = {}
        self.small = stage.center.directory / "source-small"
        self.small.mkdir()
        (self.small / "file").write_text("content")
        # The repository is there before the store is held up.
        stage.operator.wait_for_end(stage.operator.run(stage.operator.plan("first", self.small, NEVER)))

    def run(self, cell: Cell) -> Result:
        """Have the fault, wait for the recovery and judge. Raises AssertionError, TimeoutError with what the programs said."""
        try:
            return self._run(cell)
        except Exception as error:
            raise AssertionError(f"{cell}: {error}\n{self.stage.logs()}") from error

    def work(self, activity: Activity) -> Work | None:
        if activity is Activity.IDLE:
            return None
        if activity not in self._works:
            self._works[activity] = WORKS[activity](self.stage)
        return self._works[activity]

    def _run(self, cell: Cell) -> Result:
        stage, work = self.stage, self.work(cell.activity)
        since = stage.query("SELECT now()")[0][0]
        if work:
            work.bring_to_middle()
        due = stage.operator.plan(f"due {cell}", self.small, in_s=DUE_IN_S)
        began = time.monotonic()
        with self._fault(cell):
            if cell.activity is Activity.BACKUP:
                # It may end while the fault lasts, and then has nobody to tell; the others are held until it is over.
                stage.store.release()
        lasts = cell.fault not in (Fault.KILL, Fault.RESTART)
        ended = time.monotonic() if lasts else began
        stage.store.release()
        self._wait("the job to end", lambda: work is None or work.row()[0] in ENDED)
        self._wait("the plan that came due to run", lambda: self._states(due) not in ([], None) and self._states(due)[0] in ENDED)
        recovery_s = time.monotonic() - ended
        # The checks of each day come when they come.
        self._wait("the maintenance to end", lambda: self.stage.query(MAINTENANCE_GOES_ON) == [(0,)])
        self._judge_end(cell, work, due)
        self._judge_records(since)
        if work and work.row()[0] != SUCCESS:
            # What failed for a reason that has passed is done again, by a plan's next fire or by whoever asked for it.
            work.prepare()
            work.number = work.begin()
            self._wait("the job to succeed now", lambda: work.row()[0] in ENDED)
            assert work.row()[0] == SUCCESS, work.row()
        if work:
            work.judge()
        stage.operator.wait_for_end(self._only_record(stage.operator.plan(f"next {cell}", self.small)))
        self._judge_repository()
        state, attempts, _error = work.row() if work else (None, 0, "")
        return Result(cell, round(recovery_s, 1), state, attempts)

    @contextmanager
    def _fault(self, cell: Cell) -> Iterator[None]:
        """Have the fault before the block; where it lasts, end it after."""
        name = self._program(cell)
        with contextlib.ExitStack() as undoing:
            match cell.fault:
                case Fault.KILL:
                    self._signal(cell, signal.SIGKILL)
                case Fault.STOP:
                    self._signal(cell, signal.SIGSTOP)
                    undoing.callback(self._signal, cell, signal.SIGCONT)
                case Fault.RESTART:
                    self._terminate(name)
                case Fault.DROP:
                    links = [link for link in self.stage.network.links if name in link.ends]
                    if name in ("agent", "maintenance") and not self._uses_store(name, cell.activity):
                        links = [link for link in links if "store" not in link.ends]
                    for link in links:
                        link.cut()
                        undoing.callback(link.mend)
                case Fault.FULL:
                    for fill, free in self._disks(cell):
                        fill()
                        undoing.callback(free)
            yield
            if cell.fault in (Fault.STOP, Fault.DROP, Fault.FULL):
                time.sleep(self.length_s)

    def _program(self, cell: Cell) -> str:
        if cell.part is Part.CONTROL and cell.activity is Activity.PRUNE:
            return "maintenance"
        return str(cell.part)

    def _uses_store(self, name: str, activity: Activity) -> bool:
        return (name == "maintenance") == (activity is Activity.PRUNE)

    def _signal(self, cell: Cell, number: signal.Signals) -> None:
        stage, name = self.stage, self._program(cell)
        if cell.part is Part.CHILD:
            for child in engine_processes(stage.processes["agent"]):
                send(number, child)
        elif cell.part is Part.POSTGRES and number != signal.SIGKILL:
            send(number, stage.processes[name].pid)
        else:
            stage.processes[name].popen.send_signal(number)

    def _terminate(self, name: str) -> None:
        process = self.stage.processes[name]
        process.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.popen.wait(TERMINATE_TIMEOUT_S)
        process.kill_group()

    def _disks(self, cell: Cell) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        stage, name = self.stage, self._program(cell)
        if cell.part is Part.STORE:
            # An object store says it so: by the quota of its user.
            quota = partial(stage.gateway.admin, "quota", "set", "--quota-scope", "user", "--uid", stage.owner, "--max-size")
            stage.gateway.admin("quota", "enable", "--quota-scope", "user", "--uid", stage.owner)
            yield (lambda: quota("1")), (lambda: quota("-1"))
            return
        names = {"agent": ["agent", "logs-agent", "restored"]}.get(name, [name] if name in stage.disks else [f"logs-{name}"])
        for disk in (stage.disks[each] for each in names):
            yield disk.fill, disk.free

    def _wait(self, what: str, question: Callable[[], bool]) -> None:
        def answered() -> bool:
            try:
                return question()
            except psycopg.OperationalError:
                return False

        wait_until(answered, what, RECOVERY_TIMEOUT_S)

    def _states(self, plan: Record) -> list[int]:
        rows = self.stage.query("SELECT state FROM records_backuprecord WHERE plan_uuid = %s ORDER BY id", plan["uuid"])
        return [state for (state,) in rows]

    def _only_record(self, plan: Record) -> Record:
        found: list[Record] = []

        def appeared() -> bool:
            found[:] = self.stage.operator.records(plan)
            return bool(found)

        wait_until(appeared, "the next plan to fire")
        assert len(found) == 1
        return found[0]

    def _judge_end(self, cell: Cell, work: Work | None, due: Record) -> None:
        """Nothing may fail but for a disk that was full."""
        may_fail = cell.fault is Fault.FULL and cell.part in SHORT_OF
        states = self._states(due)
        assert len(states) == 1, f"the plan that came due has {len(states)} records"
        assert states[0] == SUCCESS or (may_fail and states[0] == FAILED), f"the plan that came due: {states[0]}"
        if work is None:
            return
        state, attempt, error = work.row()
        assert state == SUCCESS or (may_fail and state in (FAILED, WARNINGS)), f"{work.table} {work.number}: {state} {error}"
        is_dead = cell.part in (Part.AGENT, Part.CHILD) or (cell.part is Part.CONTROL and cell.activity is Activity.PRUNE)
        assert is_dead or attempt == 1, f"its engine never stopped, but it took {attempt} attempts"

    def _judge_records(self, since: object) -> None:
        """Every record has ended, says why if it failed, and has told its success once."""
        for table in ("records_backuprecord", "records_recoveryrecord", "records_maintenancerun"):
            rows = self.stage.query(
                f"SELECT id, state, start_time, end_time, lease_until, error FROM {table} WHERE queued_at >= %s", since
            )
            for number, state, start, end, lease, error in rows:
                assert state in ENDED, f"{table} {number} goes on: {state}"
                assert start <= end, f"{table} {number} ended before it began"
                assert lease is None, f"{table} {number} still has a lease"
                assert bool(error) == (state != SUCCESS), f"{table} {number} ended as {state} and says {error!r}"
        told = "SELECT job FROM records_event WHERE level = 32 AND job <> '' GROUP BY job HAVING count(*) > 1"
        assert self.stage.query(told) == [], "a success was told twice"

    def _judge_repository(self) -> None:
        """One snapshot for each success, none for anything else; nothing broken."""
        operator = self.stage.operator
        rows = self.stage.query(
            "SELECT snapshot FROM records_backuprecord r JOIN storage_repository s ON s.id = r.repository_id "
            "WHERE s.bucket = 'bucket' AND state = %s", SUCCESS
        )  # fmt: skip
        assert sorted(snapshot for (snapshot,) in rows) == sorted(each["id"] for each in operator.snapshots())
        operator.restic("check", "--no-lock")
