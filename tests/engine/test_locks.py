"""Locks exclude what must not happen at once, restic's among them, and never a live holder's is removed."""

import errno
import json
import os
import platform
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from engine import locks
from engine.backends.local import _PartialFile
from engine.commands.backup import backup
from engine.commands.dump import dump_file, dump_tar
from engine.commands.restore import restore
from engine.errors import AccessDenied, Cancelled, DataDamaged, LockLost, RepositoryLocked, StoreUnreachable
from engine.gotime import format_time
from engine.locks import Holder, remove_stale_locks
from engine.store import FileKind
from tests.engine.conftest import PASSWORD


def write_lock(repository, **changed):
    """Write a lock of somebody else and return its name."""
    fields = {
        "time": format_time(datetime.now(UTC)), "exclusive": False, "hostname": "elsewhere", "username": "u", "pid": 7,
    }  # fmt: skip
    return repository.save_file(FileKind.LOCKS, json.dumps(fields | changed).encode())


def names(repository):
    return {name for name, _ in repository.store.list(FileKind.LOCKS)}


def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_shared_locks_stand_side_by_side_and_go(repository):
    with repository.lock(), repository.lock():
        assert len(names(repository)) == 2
    assert names(repository) == set()


@pytest.mark.parametrize(("held", "wanted"), [(True, False), (False, True), (True, True)])
def test_an_exclusive_lock_stands_alone(repository, held, wanted):
    with repository.lock(exclusive=held):
        with pytest.raises(RepositoryLocked, match=f"process {os.getpid()}"), repository.lock(exclusive=wanted):
            pass
        assert len(names(repository)) == 1


def test_of_two_who_write_at_once_none_goes_on_beside_the_other(repository, monkeypatch):
    written = locks._write

    def write_and_meet(*arguments):
        write_lock(repository, exclusive=True)  # appears between our look and our lock
        return written(*arguments)

    monkeypatch.setattr(locks, "_write", write_and_meet)
    with pytest.raises(RepositoryLocked, match="elsewhere"), repository.lock():
        pass
    assert len(names(repository)) == 1


@pytest.mark.parametrize("by_hand", [True, False])
def test_locks_that_nobody_can_hold_are_removed_by_whoever_locks_next(repository, by_hand):
    write_lock(repository, exclusive=True, time=format_time(datetime.now(UTC) - timedelta(minutes=31)))
    write_lock(repository, exclusive=True, hostname=platform.node(), pid=ended_pid())
    if by_hand:
        assert remove_stale_locks(repository) == 2
    with repository.lock(exclusive=True):
        assert len(names(repository)) == 1
    assert names(repository) == set()


def test_a_live_lock_is_never_removed(repository):
    kept = {
        write_lock(repository, time=format_time(datetime.now(UTC) - timedelta(minutes=29))),
        write_lock(repository, hostname=platform.node(), pid=os.getpid()),
        write_lock(repository, hostname=platform.node(), pid=1),
    }
    assert remove_stale_locks(repository) == 0
    assert names(repository) == kept


def test_a_lock_is_renewed_by_a_new_file_before_the_old_one_goes(repository, monkeypatch):
    seen = []
    delete = repository.store.delete
    with repository.lock() as lock:
        (name,) = names(repository)
        monkeypatch.setattr(
            repository.store, "delete", lambda kind, old: (seen.append((old, len(names(repository)))), delete(kind, old))
        )
        locks._refresh(lock, _Rounds(1))
        assert seen == [(name, 2)]
        assert len(names(repository) - {name}) == 1
    assert names(repository) == set()


def test_a_store_that_is_away_for_a_moment_does_not_end_the_renewal(repository, monkeypatch):
    written, failures = locks._write, iter([True, False])

    def write(*arguments):
        if next(failures):
            raise StoreUnreachable("away")
        return written(*arguments)

    with repository.lock() as lock:
        first = lock.renewed
        monkeypatch.setattr(locks, "_write", write)
        locks._refresh(lock, _Rounds(2))
        assert lock.renewed > first
        assert len(names(repository)) == 1
    assert names(repository) == set()


def test_a_lock_that_was_not_renewed_in_time_is_no_longer_held(repository):
    with repository.lock() as lock:
        lock.renewed -= timedelta(minutes=29)
        lock.require_held()
        lock.renewed -= timedelta(minutes=2)
        with pytest.raises(LockLost, match="could not be renewed"):
            lock.require_held()


def test_a_backup_that_lost_its_lock_takes_no_snapshot(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "STALE_AFTER", timedelta(seconds=-1))
    (tmp_path / "file").write_text("content")
    with pytest.raises(LockLost):
        backup(repository, [tmp_path], host="here")
    assert list(repository.store.list(FileKind.SNAPSHOTS)) == []


def test_a_lock_that_cannot_be_deleted_fails_nothing_that_was_done(repository, tmp_path, monkeypatch):
    def refuse(kind, name):
        raise AccessDenied("nothing may be deleted")

    monkeypatch.setattr(repository.store, "delete", refuse)
    (tmp_path / "file").write_text("content")
    saved = backup(repository, [tmp_path / "file"], host="here")
    assert [name for name, _ in repository.store.list(FileKind.SNAPSHOTS)] == [saved.snapshot_id]


@pytest.fixture
def saved(repository, tmp_path):
    """A snapshot of one file, and the file."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return backup(repository, [path], host="here").snapshot_id, path


def reading(repository, saved, tmp_path):
    """What reads a snapshot for long: name, function."""
    snapshot, path = saved
    yield "restore", lambda: restore(repository, snapshot, str(tmp_path / "target"), verify=True)
    yield "dump", lambda: list(dump_file(repository, snapshot, os.fsencode(path)))
    yield "tar", lambda: list(dump_tar(repository, snapshot, os.fsencode(tmp_path)))


def test_what_reads_a_snapshot_holds_a_lock_and_respects_an_exclusive_one(repository, saved, tmp_path, monkeypatch):
    held = []
    real = repository.store.get_range
    monkeypatch.setattr(
        repository.store, "get_range", lambda *place: (held.append(len(names(repository))), real(*place))[1]
    )
    for name, read in reading(repository, saved, tmp_path):
        held.clear()
        read()
        assert set(held[-1:]) == {1}, name
        assert names(repository) == set()
    with repository.lock(exclusive=True):
        for _, read in reading(repository, saved, tmp_path):
            with pytest.raises(RepositoryLocked):
                read()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_what_reads_a_snapshot_does_so_without_a_lock_where_none_can_be_written(
    repository, saved, tmp_path, monkeypatch, number
):
    def refuse(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_PartialFile, "_create", refuse)
    for _, read in reading(repository, saved, tmp_path):
        read()
    assert (tmp_path / "target" / str(saved[1]).lstrip("/")).read_bytes() == b"content"


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_who_may_wait_goes_on_once_an_exclusive_lock_is_gone(repository, tmp_path, monkeypatch, verb):
    monkeypatch.setattr(locks, "RETRY_S", 0.01)
    (tmp_path / "file").write_bytes(b"content")
    snapshot = backup(repository, [tmp_path / "file"], host="h").snapshot_id
    phases = []
    with ExitStack() as deleting:
        deleting.enter_context(repository.lock(exclusive=True))

        def note(progress):
            phases.append(progress.phase)
            deleting.close()

        if verb == "backup":
            backup(repository, [tmp_path / "file"], host="h", on_progress=note, retry_lock_s=60)
        else:
            restore(repository, snapshot, os.fsencode(tmp_path / "target"), on_progress=note, retry_lock_s=60)
    assert phases[0] == locks.WAITING
    assert locks.WAITING not in phases[1:]


def test_who_waits_too_long_is_refused(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "RETRY_S", 0.01)
    seen = []
    with repository.lock(exclusive=True), pytest.raises(RepositoryLocked, match=f"process {os.getpid()}"):
        backup(repository, [tmp_path], host="h", on_progress=seen.append, retry_lock_s=0.05)
    assert seen


def test_who_waits_can_be_cancelled(repository, tmp_path):
    cancel = threading.Event()
    with repository.lock(exclusive=True), pytest.raises(Cancelled):
        backup(repository, [tmp_path], host="h", on_progress=lambda progress: cancel.set(), cancel=cancel, retry_lock_s=3600)


class _Rounds:
    """An event that is set after some waits, each of five minutes."""

    def __init__(self, rounds):
        self.left = rounds

    def wait(self, timeout):
        assert timeout == 5 * 60
        self.left -= 1
        return self.left < 0


@pytest.mark.restic
def test_restic_heeds_our_lock_and_we_its(repository, location, restic):
    command = ["restic", "--no-cache", "-r", str(location), "prune"]
    with repository.lock():
        done = subprocess.run(command, env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True)
        assert done.returncode != 0
        assert f"PID {os.getpid()}" in done.stderr
    restic(location, "prune")
    assert names(repository) == set()


WHOLE = {"time": "2026-05-01T12:00:00Z", "exclusive": False, "hostname": "h", "username": "u", "pid": 1}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff",
     *(json.dumps(WHOLE | change).encode() for change in (
         {"time": 5}, {"time": "yesterday"}, {"exclusive": "no"}, {"pid": "x"}, {"pid": 1e400}, {"hostname": []}))],
)  # fmt: skip
def test_what_is_no_lock_is_damage(content):
    with pytest.raises(DataDamaged):
        Holder.parse(content)


def test_a_lock_of_a_process_that_no_system_can_have_is_stale():
    content = json.dumps(WHOLE | {"hostname": platform.node(), "pid": 1 << 62, "time": format_time(datetime.now(UTC))})
    assert Holder.parse(content.encode()).is_stale(datetime.now(UTC))


@pytest.mark.parametrize("exclusive", [False, True])
def test_who_may_delete_nothing_passes_over_stale_locks_and_renews_his_own(repository, monkeypatch, exclusive):
    stale = write_lock(repository, exclusive=True, time=format_time(datetime.now(UTC) - timedelta(hours=1)))
    monkeypatch.setattr(repository.store, "delete", lambda *_: (_ for _ in ()).throw(AccessDenied("not with these keys")))
    with repository.lock(exclusive=exclusive) as lock:
        before = lock.renewed
        lock.renew()
        lock.renew()
        assert lock.renewed > before
        lock.refuse_conflict()
        assert len(names(repository)) == 4
    assert stale in names(repository)
    assert remove_stale_locks(repository) == 0
