"""A backup meets files that change, vanish or cannot be read, a wish to stop, and dying processes: it says so and does no harm."""

import errno
import json
import multiprocessing
import os
import signal
import threading
import time

import psutil
import pytest

import engine.packer
import engine.writer
from engine.archiver import batch, directory, large
from engine.archiver.batch import SMALL_FILE
from engine.archiver.targets import NothingToBackUp
from engine.archiver.workers import WorkerDied
from engine.backends import open_store
from engine.backends.local import _LocalUpload
from engine.commands.backup import backup
from engine.commands.dump import dump_file
from engine.commands.ls import find_node
from engine.errors import Cancelled, StoreError
from engine.repository import Repository
from engine.snapshot import find_snapshot
from engine.store import FileKind
from tests.engine.conftest import PASSWORD


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    (root / "inner").mkdir(parents=True)
    for number in range(20):
        (root / "inner" / f"small-{number}").write_bytes(os.urandom(5000))
    (root / "large").write_bytes(os.urandom(12 << 20))
    return root


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert [child for child in psutil.Process().children(recursive=True) if child.name().startswith("python")] == []


def on_opening(monkeypatch, module, name, act):
    """Have `act` called when a backup opens the file of that name to read it (workers inherit the patch when they are forked)."""
    real = module.open_file

    def open_file(path):
        if os.path.basename(path) == name:
            return act(real, path)
        return real(path)

    monkeypatch.setattr(module, "open_file", open_file)


def refuse(real, path):
    raise PermissionError(13, "Permission denied")


def vanish(real, path):
    os.unlink(path)
    return real(path)


@pytest.mark.parametrize(("module", "name"), [(batch, b"small-3"), (large, b"large")])
@pytest.mark.parametrize(("act", "reason"), [(refuse, "permission denied"), (vanish, "no such file or directory")])
def test_a_file_that_cannot_be_read_is_reported_and_left_out(repository, source, monkeypatch, module, name, act, reason):
    on_opening(monkeypatch, module, name, act)
    reported = []
    summary = backup(repository, [source], host="h", on_unreadable=lambda path, why: reported.append((path, why)))
    assert [(os.path.basename(path), why) for path, why in reported] == [(name, reason)]
    assert summary.errors == 1
    assert summary.files_total == 20
    assert summary.snapshot_id


@pytest.mark.parametrize(("module", "name"), [(batch, b"small-3"), (large, b"large")])
def test_a_file_that_changes_while_it_is_read_is_reported_and_kept_as_it_was_read(
    repository, source, monkeypatch, module, name
):
    def open_and_change_before_each_reading(real, path):
        descriptor = real(path)
        real_readv, left = os.readv, [1, 1, 1, 1]

        def readv(reading, buffers):
            if reading == descriptor and left:
                os.truncate(path, os.path.getsize(path) - left.pop())
            return real_readv(reading, buffers)

        monkeypatch.setattr(module.os, "readv", readv)
        return descriptor

    on_opening(monkeypatch, module, name, open_and_change_before_each_reading)
    reported = []
    summary = backup(repository, [source], host="h", on_unreadable=lambda path, why: reported.append((os.path.basename(path), why)))
    assert reported == [(name, "the file changed while it was read")]
    assert (summary.errors, summary.files_total) == (1, 21)


@pytest.mark.parametrize("sets_time_back", [False, True])
@pytest.mark.parametrize(("reader", "name"), [(batch.SmallFiles, "small-3"), (large.LargeFiles, "large")])
def test_a_file_that_changed_while_it_was_read_is_read_again_by_the_next_backup(
    repository, source, monkeypatch, reader, name, sets_time_back
):
    (path,) = source.rglob(name)
    inode = path.stat().st_ino
    real = reader._read

    def read_and_change(self, descriptor, *more):
        found = real(self, descriptor, *more)
        status = os.fstat(descriptor)
        if status.st_ino == inode:
            with path.open("r+b") as file:
                file.write(b"changed")
            times = status.st_atime_ns, status.st_mtime_ns + (0 if sets_time_back else 1)
            while path.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of files is coarse
                os.utime(path, ns=times)
            os.utime(path, ns=times)
        return found

    monkeypatch.setattr(reader, "_read", read_and_change)
    reported = []
    first = backup(repository, [source], host="h", on_unreadable=lambda path, why: reported.append((os.fsdecode(path), why)))
    assert reported == [(str(path), "the file changed while it was read")]
    assert (first.errors, first.files_total) == (1, 21)
    monkeypatch.setattr(reader, "_read", real)
    second = backup(repository, [source], host="h")
    assert (second.errors, second.files_changed, second.files_unmodified) == (0, 1, 20)
    assert b"".join(dump_file(repository, second.snapshot_id, os.fsencode(path))) == path.read_bytes()


def test_a_file_that_changed_once_is_read_again_and_is_whole(repository, source, monkeypatch):
    def grow_once(real, path):
        with open(path, "ab") as file:
            file.write(b"more")
        return real(path)

    on_opening(monkeypatch, batch, b"small-3", grow_once)
    assert backup(repository, [source], host="h").errors == 0


def test_a_small_file_that_grew_large_is_read_as_a_large_one(repository, source, monkeypatch):
    def grow(real, path):
        with open(path, "ab") as file:
            file.write(bytes(SMALL_FILE))
        return real(path)

    on_opening(monkeypatch, batch, b"small-3", grow)
    summary = backup(repository, [source], host="h")
    assert (summary.errors, summary.files_total) == (0, 21)
    assert summary.bytes_total == (12 << 20) + 20 * 5000 + SMALL_FILE


def test_files_whose_size_lies_are_read_to_their_end_and_have_the_size_that_was_read(repository):
    # The one says that it is empty, the other that it fills a page.
    paths = [b"/proc/version", b"/sys/kernel/rcu_expedited"]
    summary = backup(repository, paths, host="h")
    assert (summary.errors, summary.files_total) == (0, 2)
    for path in paths:
        with open(path, "rb") as file:
            content = file.read()
        assert b"".join(dump_file(repository, summary.snapshot_id, path)) == content
        assert find_node(repository, summary.snapshot_id, path).size == len(content)


def test_what_has_extended_attributes_that_cannot_be_read_is_saved_without_them_and_looked_at_again(
    repository, source, monkeypatch
):
    paths = [os.fsencode(path) for path in (source, source / "inner", source / "inner" / "small-3", source / "large")]
    for path in paths:
        os.setxattr(path, "user.kept", b"1")
    unreadable = {os.stat(path).st_ino for path in paths}
    real = os.listxattr

    def listxattr(path, **more):
        if os.stat(path).st_ino in unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listxattr", listxattr)
        reported = []
        first = backup(repository, [source], host="h", on_unreadable=lambda path, why: reported.append((path, why)))
    why = "its extended attributes cannot be read (input/output error)"
    assert sorted(reported) == sorted((path, why) for path in paths)
    assert (first.errors, first.files_total) == (4, 21)
    second = backup(repository, [source], host="h")
    assert second.errors == 0
    assert [find_node(repository, second.snapshot_id, path).xattrs for path in paths] == [(("user.kept", b"1"),)] * 4


@pytest.mark.parametrize("is_target", [False, True])
def test_what_vanishes_before_it_is_looked_at_is_missed_only_if_it_was_asked_for(repository, source, monkeypatch, is_target):
    gone, real = source / "inner" / "small-3", os.lstat

    def lstat(path):
        # Targets are looked at once before.
        if path == os.fsencode(gone) and os.getpid() != parent:
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    parent = os.getpid()
    monkeypatch.setattr(directory.os, "lstat", lstat)
    reported = []
    targets = [source / "large", *([gone] if is_target else [source / "inner"])]
    backup(repository, targets, host="h", on_unreadable=lambda path, why: reported.append(path))
    assert reported == ([os.fsencode(gone)] if is_target else [])


def test_a_directory_that_vanishes_is_reported_once(repository, source, monkeypatch):
    real = os.listdir

    def listdir(path):
        if os.path.basename(path) == b"inner":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(directory.os, "listdir", listdir)
    reported = []
    summary = backup(repository, [source], host="h", on_unreadable=lambda path, why: reported.append(os.path.basename(path)))
    assert reported == [b"inner"]
    assert (summary.errors, summary.files_total) == (1, 1)


@pytest.mark.parametrize("also", [[], ["empty"]])
def test_a_backup_that_could_read_none_of_its_targets_leaves_no_empty_snapshot(repository, location, source, monkeypatch, also):
    (source.parent / "empty").mkdir()
    real = os.listdir

    def listdir(path):
        if path == os.fsencode(source):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(directory.os, "listdir", listdir)
    targets = [source, *(source.parent / name for name in also)]
    if also:
        assert backup(repository, targets, host="h").errors == 1
    else:
        with pytest.raises(NothingToBackUp, match="source"):
            backup(repository, targets, host="h")
    monkeypatch.undo()
    assert len(os.listdir(location / "snapshots")) == len(also)


@pytest.mark.restic
def test_a_snapshot_that_misses_something_is_marked_and_restic_takes_it_all_the_same(
    repository, location, source, monkeypatch, restic
):
    with monkeypatch.context() as patch:
        on_opening(patch, batch, b"small-3", refuse)
        first = backup(repository, [source], host="h")
    second = backup(repository, [source], host="h")
    assert [find_snapshot(repository, one.snapshot_id).is_incomplete for one in (first, second)] == [True, False]
    restic(location, "check")
    restic(location, "forget", second.snapshot_id)
    report = json.loads(restic(location, "backup", "--json", "--host", "h", source).splitlines()[-1])
    assert (report["files_unmodified"], report["files_new"]) == (20, 1)


def test_a_missing_target_is_reported_and_the_others_are_backed_up(repository, source, tmp_path):
    reported = []
    summary = backup(
        repository, [tmp_path / "missing", source], host="h", on_unreadable=lambda path, why: reported.append(path)
    )
    assert reported == [os.fsencode(tmp_path / "missing")]
    assert (summary.errors, summary.files_total) == (1, 21)


@pytest.mark.restic
def test_a_cancelled_backup_ends_at_once_and_leaves_a_sound_repository(repository, location, source, monkeypatch, restic):
    cancel = threading.Event()
    real = large.LargeFiles._store

    def store(self, chunk):
        cancel.set()
        return real(self, chunk)

    monkeypatch.setattr(large.LargeFiles, "_store", store)
    with pytest.raises(Cancelled):
        backup(repository, [source], host="h", cancel=cancel)
    assert os.listdir(location / "snapshots") == []
    assert os.listdir(location / "locks") == []
    restic(location, "--no-lock", "check", "--read-data")


def test_a_backup_that_is_cancelled_before_it_begins_writes_nothing(repository, location, source):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        backup(repository, [source], host="h", cancel=cancel)
    assert os.listdir(location / "snapshots") == []


def test_a_worker_that_is_killed_is_an_error_and_no_hang(repository, location, source, monkeypatch):
    on_opening(monkeypatch, batch, b"small-3", lambda real, path: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(WorkerDied, match="ended unexpectedly"):
        backup(repository, [source], host="h")
    assert os.listdir(location / "snapshots") == []
    assert os.listdir(location / "locks") == []


@pytest.mark.parametrize("size", [5000, 12 << 20, 40 << 20])
@pytest.mark.parametrize("act", ["write", "finish"])
def test_a_store_that_fails_fails_the_backup_with_its_own_error(repository, location, tmp_path, monkeypatch, size, act):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(os.urandom(size))

    def fail(self, content):
        raise StoreError("the disk is on fire")

    monkeypatch.setattr(_LocalUpload, act, fail)
    with pytest.raises(StoreError, match="on fire"):
        backup(repository, [tmp_path / "source"], host="h")
    assert os.listdir(location / "snapshots") == []
    assert [name for _, _, names in os.walk(location / "data") for name in names] == []


@pytest.mark.restic
def test_what_a_killed_backup_had_stored_is_not_stored_again(repository, location, source, monkeypatch, restic):
    monkeypatch.setattr(engine.packer, "PACK_SIZE", 1 << 20)
    monkeypatch.setattr(engine.writer, "INDEX_EVERY_S", 0.0)

    def run_and_die():
        real = type(repository.store).put
        packs = []

        def put(self, kind, name, data):
            real(self, kind, name, data)
            packs.append(kind)
            if packs.count(FileKind.INDEX) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        type(repository.store).put = put
        backup(repository, [source / "large"], host="h")

    killed = multiprocessing.get_context("fork").Process(target=run_and_die)
    killed.start()
    workers = _children_of(killed)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    fresh = Repository.open(open_store(str(location)), PASSWORD)
    summary = backup(fresh, [source / "large"], host="h")
    assert summary.bytes_added < 11 << 20
    restic(location, "--no-lock", "check", "--read-data")


def _children_of(process):
    """The workers of a backup that runs in `process`."""
    parent = psutil.Process(process.pid)
    while process.is_alive():
        try:
            children = parent.children()
        except psutil.NoSuchProcess:
            break
        if len(children) >= 2:
            return children
        time.sleep(0.005)
    return []
