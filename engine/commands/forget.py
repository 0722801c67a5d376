"""Forget snapshots: their files go, what only they named stays until the next prune."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from engine.locks import Lock
from engine.repository import Repository
from engine.retention import BY_HOST_AND_PATHS, Group, GroupBy, KeepPolicy, Verdict, judge_groups
from engine.snapshot import EVERY_SNAPSHOT, Snapshot, SnapshotFilter, iter_snapshots
from engine.store import FileKind


def forget(repository: Repository, snapshot_ids: Sequence[str]) -> None:
    """Delete the snapshots of these (full) ids; one that is gone already is no error. Raises RepositoryLocked, LockLost."""
    with repository.lock(exclusive=True) as lock:
        _delete(repository, lock, snapshot_ids)


def forget_by_policy(
    repository: Repository,
    policy: KeepPolicy,
    *,
    only: SnapshotFilter = EVERY_SNAPSHOT,
    group_by: GroupBy = BY_HOST_AND_PATHS,
    dry_run: bool = False,
) -> dict[Group, Verdict[Snapshot]]:
    """Delete what the policy does not keep of each group of the snapshots that `only` means; return what it made of them.

    `dry_run` deletes nothing, and so takes no lock. Raises InvalidPolicy, RepositoryLocked, LockLost, DataDamaged (a snapshot
    that cannot be read) and StoreError's family.
    """
    if dry_run:
        return _judge(repository, policy, only, group_by)
    with repository.lock(exclusive=True) as lock:
        verdicts = _judge(repository, policy, only, group_by)
        _delete(repository, lock, (snapshot.id for verdict in verdicts.values() for snapshot in verdict.remove))
    return verdicts


def _judge(repository: Repository, policy: KeepPolicy, only: SnapshotFilter, group_by: GroupBy) -> dict[Group, Verdict[Snapshot]]:
    # By id, since those of the same moment stay as they come, and a store lists them in any order.
    snapshots = sorted(filter(only.matches, iter_snapshots(repository)), key=lambda snapshot: snapshot.id)
    return judge_groups(snapshots, policy, group_by, now=datetime.now(UTC))


def _delete(repository: Repository, lock: Lock, snapshot_ids: Iterable[str]) -> None:
    for snapshot_id in snapshot_ids:
        lock.require_held()
        repository.store.delete(FileKind.SNAPSHOTS, snapshot_id)
