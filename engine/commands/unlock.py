"""Remove locks that processes left behind: those that nobody can still hold, or all."""

from dataclasses import dataclass

from engine.errors import DataDamaged
from engine.locks import Holder, locks_held, remove_all_locks, remove_stale_locks
from engine.repository import Repository


@dataclass(frozen=True, slots=True)
class Unlocked:
    """How many locks were removed, and who holds those that were left, since they may be at work."""

    removed: int
    left: list[Holder]


def unlock(repository: Repository, *, remove_all: bool = False) -> Unlocked:
    """Remove the stale locks, or with `remove_all` every lock, even that of a process which is at work.

    Raises DataDamaged for a lock that cannot be read (only `remove_all` removes it), StoreError's family.
    """
    if remove_all:
        return Unlocked(remove_all_locks(repository), [])
    try:
        return Unlocked(remove_stale_locks(repository), locks_held(repository))
    except DataDamaged as error:
        raise DataDamaged(f"{error}: whose it is cannot be said; only removing all locks removes it") from error
