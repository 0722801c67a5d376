"""A prune that is cut off at any instant leaves a sound repository with every snapshot, and the next one ends the work."""

import os
import shutil
import signal

import pytest

from engine.backends import open_store
from engine.commands.check import check
from engine.commands.prune import PruneOptions, prune
from engine.pruning import UnusedLimit
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.pruned import PACK_SIZE, contents, fill, opened, packs

NOTHING_UNUSED = PruneOptions(UnusedLimit(percent=0))


class Died(BaseException):
    """The process is gone."""


class MortalStore:
    """A store in a directory whose process dies when it would change something for the n-th time, leaving a partial file."""

    def __init__(self, location, changes, die):
        self._store, self._location = open_store(str(location)), location
        self.left, self._die, self._is_dead = changes, die, False

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def act(*arguments):
            if name in ("put", "delete", "delete_remains"):
                self._change(*arguments)
            self._live()
            return found(*arguments)

        return act

    def begin_pack(self):
        self._live()
        return _MortalUpload(self, self._store.begin_pack())

    def _change(self, kind=FileKind.DATA, name="00", *rest):
        self._live()
        self.left -= 1
        if self.left < 0:
            self._is_dead = True
            (self._location / kind.value / (name[:2] if kind is FileKind.DATA else "") / ".partial-left").write_bytes(b"part")
        self._live()

    def _live(self):
        if self._is_dead:
            self._die()


class _MortalUpload:
    def __init__(self, store, upload):
        self._store, self._upload = store, upload

    def write(self, piece):
        self._store._live()
        self._upload.write(piece)

    def finish(self, name):
        self._store._change(FileKind.DATA, name)
        self._upload.finish(name)

    def abandon(self):
        pass


def die():
    raise Died


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr("engine.packer.PACK_SIZE", PACK_SIZE)


@pytest.fixture
def filled(location, tmp_path):
    fill(location, tmp_path / "source")
    (location / "data" / "ab" / ("ab" * 32)).write_bytes(b"left by a killed backup")
    return location


def prune_until(location, changes, die=die):
    """Return whether the prune came to its end."""
    known = opened(location)
    repository = Repository(MortalStore(location, changes, die), known.key, known.key_name, known.config)
    try:
        prune(repository, NOTHING_UNUSED)
    except Died:
        return False
    return True


def index_files(location):
    return list((location / "index").glob("[!.]*"))


@pytest.mark.restic
def test_wherever_a_prune_dies_nothing_is_lost_and_the_next_one_ends_the_work(filled, tmp_path, restic):
    before, kinds = contents(filled), set()
    for changes in range(200):
        location = shutil.copytree(filled, tmp_path / "dying")
        has_ended = prune_until(location, changes)
        # Nobody holds these any more.
        for lock in (location / "locks").iterdir():
            lock.unlink()
        kinds.add((len(index_files(location)), len(packs(location))))
        assert "no errors were found" in restic(location, "check", "--read-data")
        assert contents(location) == before
        report = prune(opened(location), NOTHING_UNUSED)
        sound = check(opened(location), read_data=True)
        assert (sound.problems, sound.notes) == ([], [])
        assert contents(location) == before
        assert list(location.rglob(".partial-*")) == list((location / "locks").glob(".partial-*"))
        again = prune(opened(location), NOTHING_UNUSED)
        assert (again.packs_deleted, again.bytes.unused, again.bytes.duplicate, again.bytes.unreferenced) == (0, 0, 0, 0)
        shutil.rmtree(location)
        if has_ended:
            break
    assert report.packs_deleted == 0
    assert len(kinds) > 8


def test_what_was_rewritten_before_the_end_is_not_rewritten_again(filled, tmp_path):
    for changes in range(200):
        location = shutil.copytree(filled, tmp_path / f"dying {changes}")
        prune_until(location, changes)
        if len(index_files(location)) > len(index_files(filled)):
            break
    for lock in (location / "locks").iterdir():
        lock.unlink()
    report = prune(opened(location), NOTHING_UNUSED)
    assert (report.bytes_added, report.packs_deleted > 0) == (0, True)
    assert prune(opened(filled), NOTHING_UNUSED).bytes_added > 0


def test_the_lock_of_a_prune_that_was_killed_is_in_nobodys_way(filled):
    before = contents(filled)
    child = os.fork()
    if child == 0:
        prune_until(filled, 8, lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert len(list((filled / "locks").iterdir())) >= 1
    prune(opened(filled), NOTHING_UNUSED)
    assert contents(filled) == before
    assert [path for path in (filled / "locks").iterdir() if not path.name.startswith(".")] == []
