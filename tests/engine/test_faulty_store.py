"""Whichever call of a store fails or is its process's last: the backup says so, and the repository is sound and goes on."""

import hashlib
import multiprocessing
import os
import shutil

import pytest

from engine.archiver.workers import start_workers
from engine.backends import open_store
from engine.commands import backup as backup_verb
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.errors import EngineError, StoreUnreachable
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.faulty_store import Failure, FaultyStore, MemoryStore

NAME = "ab" + "0" * 62


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    """Hundreds of backups: of what costs time, one worker shows as much as several."""
    monkeypatch.setattr(backup_verb, "start_workers", lambda settings, count: start_workers(settings, 1))


@pytest.fixture(scope="module")
def opened(empty_repository):
    return Repository.open(open_store(str(empty_repository)), PASSWORD)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source" / "sub").mkdir(parents=True)
    for name in ("one", "sub/two"):
        (tmp_path / "source" / name).write_bytes(hashlib.shake_128(name.encode()).digest(3000))
    return tmp_path / "source"


@pytest.fixture
def on(opened, empty_repository, tmp_path):
    """Return a function that opens a fresh copy of the empty repository on a store that fails."""

    def on(*failing):
        shutil.rmtree(tmp_path / "repository", ignore_errors=True)
        # Without the 256 directories for data, which are made when they are needed.
        shutil.copytree(empty_repository, tmp_path / "repository", ignore=shutil.ignore_patterns("??"))
        store = FaultyStore(open_store(str(tmp_path / "repository")), *failing)
        return Repository(store, opened.key, opened.key_name, opened.config)

    return on


def calls(on, source):
    """Return how many calls of the store a backup makes."""
    repository = on()
    backup(repository, [source], host="h")
    return repository.store.calls


def assert_sound_and_usable(opened, source, target):
    """The repository as it was left has no damage, and a backup to it works."""
    store = open_store(str(target.parent / "repository"))
    again = Repository(store, opened.key, opened.key_name, opened.config)
    assert check(again, read_data=True).problems == []
    assert backup(again, [source], host="h").errors == 0
    assert restore(again, "latest", target).errors == 0
    assert compare_trees(os.fsencode(source), os.fsencode(f"{target}{source}")) == []
    shutil.rmtree(target)


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.DONE])
@pytest.mark.parametrize("count", [1, 1_000_000], ids=["once", "for good"])
def test_a_backup_of_which_any_call_fails_says_so_or_is_whole(on, opened, source, tmp_path, failure, count):
    for number in range(1, calls(on, source) + 1):
        repository = on(failure, number, count)
        try:
            summary = backup(repository, [source], host="h")
        except StoreUnreachable:
            summary = None
        snapshots = os.listdir(tmp_path / "repository" / "snapshots")
        # A parent's tree that cannot be had, or a lock that stays, costs no backup.
        assert summary is None or snapshots == [summary.snapshot_id]
        assert_sound_and_usable(opened, source, tmp_path / "restored")


def test_a_backup_that_dies_at_any_call_leaves_a_sound_repository(on, opened, source, tmp_path):
    for number in range(1, calls(on, source) + 1):
        repository = on(Failure.DEATH, number)
        process = multiprocessing.get_context("fork").Process(target=_back_up, args=(repository, source))
        process.start()
        process.join()
        assert process.exitcode != 0
        assert_sound_and_usable(opened, source, tmp_path / "restored")


def _back_up(repository, source):
    try:
        backup(repository, [source], host="h")
    except EngineError:
        os._exit(1)


def test_calls_are_counted_over_processes_and_the_wanted_ones_fail():
    store = FaultyStore(MemoryStore({}), Failure.REFUSED, first=3)
    store.put(FileKind.DATA, NAME, b"content")
    process = multiprocessing.get_context("fork").Process(target=store.reopened().get, args=(FileKind.DATA, NAME))
    process.start()
    process.join()
    with pytest.raises(StoreUnreachable, match="call 3"):
        store.delete(FileKind.DATA, NAME)
    assert store.get(FileKind.DATA, NAME) == b"content"
    assert store.calls == 4


def test_a_call_can_be_done_and_fail_all_the_same():
    store = FaultyStore(MemoryStore({}), Failure.DONE)
    with pytest.raises(StoreUnreachable):
        store.put(FileKind.DATA, NAME, b"content")
    assert store.get(FileKind.DATA, NAME) == b"content"
