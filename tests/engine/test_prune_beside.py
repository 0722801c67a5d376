"""Backups to the repository go on while a prune plans, ours and restic's, and lose nothing by it."""

import contextlib
import os
import subprocess
import threading

import pytest

from engine.commands import prune as module
from engine.commands.backup import backup
from engine.commands.forget import forget
from engine.commands.prune import PruneOptions, prune
from engine.errors import RepositoryChanged, RepositoryLocked, StoreUnreachable
from engine.pruning import UnusedLimit
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.pruned import PACK_SIZE, contents, files, fill, opened, write_files

NOTHING_UNUSED = PruneOptions(UnusedLimit(percent=0))


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr("engine.packer.PACK_SIZE", PACK_SIZE)


@pytest.fixture
def old(tmp_path):
    """Files of which the repository still has the content, though no snapshot names it any more."""
    return tmp_path / "old"


@pytest.fixture
def filled(location, tmp_path, old):
    write_files(old, range(3))
    forgotten = backup(opened(location), [old], host="h")
    forget(opened(location), [forgotten.snapshot_id])
    fill(location, tmp_path / "source")
    return location


@pytest.fixture
def when_planned(monkeypatch):
    """Return a function that has something happen once a prune has decided, before it rewrites packs."""

    def arrange(act):
        decide = module.decide

        def decide_and_act(*arguments):
            fates = decide(*arguments)
            act()
            return fates

        monkeypatch.setattr(module, "decide", decide_and_act)

    return arrange


@pytest.mark.restic
@pytest.mark.parametrize("limit", [UnusedLimit(percent=0), UnusedLimit()])
def test_a_backup_during_the_plan_keeps_the_blobs_that_it_found(filled, old, when_planned, restic, limit):
    new = []
    before = contents(filled)
    when_planned(lambda: new.append(backup(opened(filled), [old], host="h")))
    report = prune(opened(filled), PruneOptions(limit))
    assert new[0].bytes_added < 20_000
    assert report.packs_spared > 0
    found = contents(filled)
    assert set(found.pop(new[0].snapshot_id).values()) == {path.read_bytes() for path in old.iterdir()}
    assert found == before
    assert "no errors were found" in restic(filled, "check", "--read-data")
    assert prune(opened(filled), NOTHING_UNUSED).packs_spared == 0
    assert new[0].snapshot_id in contents(filled)


def test_new_content_of_a_backup_during_the_plan_is_kept(filled, tmp_path, when_planned):
    write_files(tmp_path / "new", range(3))
    new = []
    when_planned(lambda: new.append(backup(opened(filled), [tmp_path / "new"], host="h")))
    report = prune(opened(filled), NOTHING_UNUSED)
    assert (report.packs_spared, report.packs_deleted > 0) == (0, True)
    assert set(contents(filled)[new[0].snapshot_id].values()) == {path.read_bytes() for path in (tmp_path / "new").iterdir()}


def test_packs_of_a_backup_that_is_running_are_not_taken_for_left_behind(filled, when_planned):
    pack = filled / "data" / "ab" / ("ab" * 32)
    running = contextlib.ExitStack()

    def begin():
        running.enter_context(opened(filled).lock())
        pack.write_bytes(b"stored, and not in an index yet")

    when_planned(begin)
    before = files(filled)
    with running, pytest.raises(RepositoryLocked):
        prune(opened(filled), NOTHING_UNUSED)
    assert pack.exists()
    assert before.items() <= files(filled).items()


@pytest.mark.restic
def test_a_prune_waits_for_a_running_backup_of_restic_and_keeps_what_it_came_to_need(filled, restic):
    content = os.urandom(2 << 20)
    known = set(contents(filled))
    subprocess.run(stdin_backup(filled), env=environment(), input=content, check=True, stdout=subprocess.DEVNULL)
    forget(opened(filled), [*(set(contents(filled)) - known)])
    running = subprocess.Popen(stdin_backup(filled), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    running.stdin.write(content)  # more than a pipe holds: restic has its lock and the index once this is written

    class Waiting(threading.Event):
        """The prune waits by this; the backup ends meanwhile."""

        waits = 0

        def wait(self, timeout=None):
            self.waits += 1
            running.stdin.close()
            running.wait()
            return False

    cancel = Waiting()
    report = prune(opened(filled), PruneOptions(UnusedLimit(percent=0), retry_lock_s=60), cancel=cancel)
    assert (cancel.waits, report.packs_spared > 0) == (1, True)
    assert content in [b"".join(of.values()) for of in contents(filled).values()]
    assert "no errors were found" in restic(filled, "check", "--read-data")


def stdin_backup(location):
    return ["restic", "--no-cache", "-r", str(location), "backup", "--stdin"]


def environment():
    return os.environ | {"RESTIC_PASSWORD": PASSWORD}


def test_another_prune_between_plan_and_deleting_makes_the_plan_void(filled, when_planned, monkeypatch):
    lock_alone, before = module._Prune.lock_alone, contents(filled)

    def meet(self, stack):
        monkeypatch.setattr(module._Prune, "lock_alone", lock_alone)
        prune(opened(filled), NOTHING_UNUSED)
        states.append(files(filled))
        return lock_alone(self, stack)

    states = []
    monkeypatch.setattr(module._Prune, "lock_alone", meet)
    with pytest.raises(RepositoryChanged, match="nothing was deleted"):
        prune(opened(filled), NOTHING_UNUSED)
    assert files(filled) == states[0]
    assert contents(filled) == before


def test_a_snapshot_that_is_forgotten_during_the_plan_is_no_obstacle(filled, monkeypatch):
    lock_alone = module._Prune.lock_alone
    first = next(iter(contents(filled)))

    def forget_first(self, stack):
        forget(opened(filled), [first])
        return lock_alone(self, stack)

    monkeypatch.setattr(module._Prune, "lock_alone", forget_first)
    before = contents(filled)
    prune(opened(filled), NOTHING_UNUSED)
    assert contents(filled) == {snapshot: of for snapshot, of in before.items() if snapshot != first}


def test_nothing_is_deleted_before_the_exclusive_lock_is_held(filled, monkeypatch):
    repository = opened(filled)
    lock, delete, steps = repository.lock, repository.store.delete, []
    monkeypatch.setattr(repository, "lock", lambda exclusive=False: steps.append(exclusive) or lock(exclusive=exclusive))
    monkeypatch.setattr(repository.store, "delete", lambda kind, name: steps.append(kind) or delete(kind, name))
    prune(repository, NOTHING_UNUSED)
    kinds = [step for step in steps if step is not FileKind.LOCKS]
    assert kinds[:2] == [False, True]
    # Each index file that names a pack to be deleted goes before the first of these packs.
    assert kinds[2:] == sorted(kinds[2:], key=lambda kind: kind is FileKind.DATA)
    assert set(kinds[2:]) == {FileKind.INDEX, FileKind.DATA}


def test_a_repository_that_stays_open_does_not_rely_on_what_was_pruned_elsewhere(location, old):
    open_for_long = opened(location)
    write_files(old, range(3))
    first = backup(open_for_long, [old], host="h")
    forget(opened(location), [first.snapshot_id])
    prune(opened(location), NOTHING_UNUSED)
    again = backup(open_for_long, [old], host="h")
    assert set(contents(location)[again.snapshot_id].values()) == {path.read_bytes() for path in old.iterdir()}


def test_a_repository_that_stays_open_does_not_rely_on_blobs_that_came_into_no_index_file(location, old, monkeypatch):
    open_for_long = opened(location)
    write_files(old, range(3))
    put = open_for_long.store.put

    def fail(kind, name, data):
        if kind is FileKind.INDEX:
            raise StoreUnreachable("away")
        put(kind, name, data)

    with monkeypatch.context() as away:
        away.setattr(open_for_long.store, "put", fail)
        with pytest.raises(StoreUnreachable):
            backup(open_for_long, [old], host="h")
    again = backup(open_for_long, [old], host="h")
    assert set(contents(location)[again.snapshot_id].values()) == {path.read_bytes() for path in old.iterdir()}
