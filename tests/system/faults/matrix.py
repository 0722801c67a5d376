"""Which cells the matrix has: who fails, how, and during what. Cells that mean nothing are left out, each with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    AGENT = "agent"
    CHILD = "child"
    # The one that is at work: on the queue `maintenance` during a prune, else on `control`.
    CONTROL = "control"
    BEAT = "beat"
    WEB = "web"
    REDIS = "redis"
    POSTGRES = "postgres"
    STORE = "store"


class Fault(StrEnum):
    KILL = "kill"
    STOP = "stop"
    RESTART = "restart"
    DROP = "drop"
    FULL = "full"


class Activity(StrEnum):
    IDLE = "idle"
    BACKUP = "backup"
    RESTORE = "restore"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Cell:
    part: Part
    fault: Fault
    activity: Activity

    def __str__(self) -> str:
        return f"{self.part}-{self.fault}-{self.activity}"


# (part, fault, activity), None for any: why not.
LEFT_OUT: dict[tuple[Part | None, Fault | None, Activity | None], str] = {
    (Part.CHILD, None, Activity.IDLE): "there is no child without a job",
    (Part.CHILD, None, Activity.PRUNE): "the maintenance worker prunes by itself",
    (Part.CHILD, Fault.RESTART, None): "nobody restarts a child: the next attempt starts another, as after a kill",
    (Part.CHILD, Fault.DROP, None): "its only connections lead to the store: see there",
    (Part.CHILD, Fault.FULL, None): "the one disk it writes to is a restore's destination: see the agent",
    (Part.AGENT, None, Activity.PRUNE): "it has no part in a prune, and so is idle",
    (Part.CONTROL, Fault.FULL, Activity.RESTORE): "only its log is on a disk, whatever runs",
    (Part.CONTROL, Fault.FULL, Activity.PRUNE): "only its log is on a disk, whatever runs",
    (Part.BEAT, Fault.FULL, Activity.RESTORE): "only its log is on a disk, whatever runs",
    (Part.BEAT, Fault.FULL, Activity.PRUNE): "only its log is on a disk, whatever runs",
    (Part.WEB, Fault.FULL, Activity.RESTORE): "only its log is on a disk, whatever runs",
    (Part.WEB, Fault.FULL, Activity.PRUNE): "only its log is on a disk, whatever runs",
}


def why_left_out(cell: Cell) -> str | None:
    """Return the reason for which the matrix has no such cell, None if it has it."""
    for (part, fault, activity), reason in LEFT_OUT.items():
        if part in (None, cell.part) and fault in (None, cell.fault) and activity in (None, cell.activity):
            return reason
    return None


def cells() -> Iterator[Cell]:
    """Yield the cells in an order in which the store, which is started once, and its data are used up evenly."""
    for activity in Activity:
        for part in Part:
            for fault in Fault:
                cell = Cell(part, fault, activity)
                if why_left_out(cell) is None:
                    yield cell
