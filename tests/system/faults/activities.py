"""What goes on while something fails. Each is brought to its middle by the store's link, which holds it after so many bytes."""

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from engine.compare import compare_trees
from tests.services.ports import wait_until
from tests.system.faults.matrix import Activity
from tests.system.faults.network import Direction
from tests.system.faults.stage import Stage
from tests.system.operating import CANCELLED, FAILED, LOOPBACK_IPV4, LOST, SUCCESS, WARNINGS, Operator

MIB = 1 << 20
# Of each kind of data; several packs.
LARGE_BYTES = 40 * MIB
CHURN_FILES = 40
HELD_AFTER_BYTES = 12 * MIB
# A prune rewrites half of what it reads.
PRUNE_HELD_AFTER_BYTES = 4 * MIB
NEVER = "0 0 0 1 1 ? 2099"
ENDED = (SUCCESS, FAILED, CANCELLED, WARNINGS, LOST)
MIDDLE_TIMEOUT_S = 120


class Work(ABC):
    """Something that can be begun again and again. `table`, `number`: of the job's row."""

    table = ""
    direction = Direction.UP
    held_after = HELD_AFTER_BYTES

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.number = 0

    @abstractmethod
    def begin(self) -> int:
        """Ask for it and return the number of its row."""

    @abstractmethod
    def judge(self) -> None:
        """Check what a success has left behind."""

    def bring_to_middle(self) -> None:
        """Begin, and return when some of it is done and the rest is held up."""
        self.prepare()
        self.stage.store.hold_after(self.direction, self.held_after)
        self.number = self.begin()
        wait_until(self._is_in_middle, f"the middle of {self.table} {self.number}", MIDDLE_TIMEOUT_S)

    def prepare(self) -> None:  # noqa: B027 -- most need none
        """Do what is to be done undisturbed, before."""

    def row(self) -> tuple[int, int, str]:
        """Return its state, attempt and error."""
        statement = f"SELECT state, attempt, error FROM {self.table} WHERE id = %s"
        state, attempt, error = self.stage.query(statement, self.number)[0]
        return state, attempt, error

    def _is_in_middle(self) -> bool:
        state, _attempt, error = self.row()
        assert state not in ENDED, f"{self.table} {self.number} ended before its middle: {state} {error}"
        return self.stage.store.is_reached.is_set()


class Backup(Work):
    table = "records_backuprecord"

    def __init__(self, stage: Stage, name: str = "large") -> None:
        super().__init__(stage)
        self.source = stage.center.directory / f"source-{name}"
        self.source.mkdir()
        self.plan = stage.operator.plan(name, self.source, NEVER)

    def prepare(self) -> None:
        write_random(self.source / "file", LARGE_BYTES)

    def begin(self) -> int:
        return int(self.stage.operator.run(self.plan)["id"])

    def judge(self) -> None:
        operator = self.stage.operator
        snapshot = operator.record({"id": self.number})["snapshot"]
        with tempfile.TemporaryDirectory() as target:
            operator.restic("restore", "--no-lock", snapshot, "--target", target)
            require_same(self.source, Path(target))


class Restore(Work):
    table = "records_recoveryrecord"
    direction = Direction.DOWN

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        # Of its own, so that what is restored stays the same.
        self.kept = Backup(stage, "kept")
        self.kept.prepare()
        self.record = stage.operator.wait_for_end({"id": self.kept.begin()})
        self.target = stage.center.directory / "restored" / "tree"

    def prepare(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)

    def begin(self) -> int:
        return ask_for_restore(self.stage.operator, self.record["id"], self.target)

    def judge(self) -> None:
        require_same(self.kept.source, self.target)


class Prune(Work):
    table = "records_maintenancerun"
    held_after = PRUNE_HELD_AFTER_BYTES
    # A repository of its own, all of whose packs a prune finds worth rewriting.
    bucket = "churn"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.source = stage.center.directory / "source-churn"
        self.source.mkdir()
        self.plan = stage.operator.plan("churn", self.source, NEVER, bucket=self.bucket)
        self.judge()

    def prepare(self) -> None:
        """Leave half of what was stored last in use, so that all of its packs have to be written anew."""
        operator = self.stage.operator
        before = operator.records(self.plan)
        for file in sorted(self.source.iterdir())[::2]:
            file.unlink()
        operator.wait_for_end(operator.run(self.plan))
        for record in before:
            operator.delete(record)
        # At once, and not when their grace is over.
        self.request("forget", {"snapshots": [record["snapshot"] for record in before if record["snapshot"]]})
        question = "SELECT count(*) FROM records_maintenancerun WHERE kind = 'forget' AND state IN (1, 2)"
        wait_until(lambda: self.stage.query(question) == [(0,)], "the forgetting to end", MIDDLE_TIMEOUT_S)

    def begin(self) -> int:
        return self.request("prune", {})

    def request(self, kind: str, arguments: dict[str, list[str]]) -> int:
        code = (
            "from storage.models import Repository; from records.maintenance import request_maintenance;"
            f"print(request_maintenance(Repository.objects.get(bucket='{self.bucket}'), '{kind}', {arguments}).pk)"
        )
        return int(self.stage.center.run_python(code).split()[-1])

    def judge(self) -> None:
        # Backups must know what is stored and what is not any more; and the next prune wants something to do.
        for number in range(CHURN_FILES):
            write_random(self.source / f"{number:02}", LARGE_BYTES // CHURN_FILES)
        self.stage.operator.wait_for_end(self.stage.operator.run(self.plan))
        self.stage.operator.restic("check", "--no-lock", "--read-data", bucket=self.bucket)


WORKS: dict[Activity, type[Work]] = {Activity.BACKUP: Backup, Activity.RESTORE: Restore, Activity.PRUNE: Prune}


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def require_same(source: Path, target: Path) -> None:
    """Raise AssertionError if `source` was not restored to `target` as it is."""
    assert compare_trees(os.fsencode(source), os.fsencode(target / source.relative_to("/"))) == []


def ask_for_restore(operator: Operator, backup: int, target: Path) -> int:
    """Ask for a recovery of a backup record to this host and return its number."""
    wanted = json.dumps({"destination": str(target)})
    body = {"client": {"ipv4": LOOPBACK_IPV4}, "backup_record": {"id": backup}, "recovery_data": wanted}
    return int(operator.api.post("/api/recovery", body)["id"])
