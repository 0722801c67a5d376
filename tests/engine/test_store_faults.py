"""Whatever goes wrong with a request to an object store, and whichever request it is: what is reported as done is done.

Each request of a small backup and of a small restore fails once, and then it and all that follow.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.archiver.workers import start_workers
from engine.backends import Credentials, open_store
from engine.backends.patience import Patience
from engine.backends.s3 import S3Store
from engine.commands import backup as backup_verb
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.errors import EngineError, StoreError
from engine.repository import Repository
from tests.engine.conftest import PASSWORD
from tests.engine.faulty_store import MemoryStore
from tests.services.s3 import Fault, object_store

GIVES_UP = Patience(read_timeout_s=0.05, first_pause_s=0.001, longest_pause_s=0.01, deadline_s=0.02, first_answer_s=0.02)
WAITS = replace(GIVES_UP, deadline_s=20, first_answer_s=20)
BUCKET = "bucket"
FOR_GOOD = 1_000_000
FAULTS = [Fault.ERROR, Fault.BUSY, Fault.SILENT, Fault.RESET, Fault.LOST, Fault.HALF, Fault.EMPTY]
LASTING = [Fault.SILENT, Fault.LOST]


class Site:
    """A host with a directory to back up and a snapshot of what the directory was before; the store can fail."""

    def __init__(self, s3, directory):
        self.s3, self.directory = s3, directory
        self._stores = {}
        self.source = directory / "source"
        (self.source / "sub").mkdir(parents=True)
        for name in ("old", "sub/old", "sub/older"):
            (self.source / name).write_bytes(hashlib.shake_128(name.encode()).digest(3000))
        s3.begin()
        s3.buckets = {}
        Repository.init(self.store(WAITS), PASSWORD)
        backup(Repository.open(self.store(WAITS), PASSWORD), [self.source], host="h")
        self.before = dict(s3.buckets[BUCKET])
        for name in ("new", "sub/new"):
            (self.source / name).write_bytes(hashlib.shake_128(name.encode()).digest(3000))

    def store(self, patience):
        if patience not in self._stores:
            credentials = Credentials("key", "secret")
            self._stores[patience] = open_store(f"s3:{self.s3.url}/{BUCKET}", credentials=credentials, patience=patience)
        return self._stores[patience].reopened()

    def back_up(self, store):
        self.s3.buckets[BUCKET] = dict(self.before)
        return backup(Repository.open(store.reopened(), PASSWORD), [self.source], host="h")

    def restore(self, store):
        """Return the summary and whether all came back as it was."""
        target = self.directory / f"restored-{os.urandom(4).hex()}"
        summary = restore(Repository.open(store.reopened(), PASSWORD), "latest", target)
        restored = f"{target}{self.source}"
        return summary, os.path.exists(restored) and compare_trees(os.fsencode(self.source), os.fsencode(restored)) == []

    def requests(self, act):
        """Return how many requests an act takes when nothing fails."""
        self.s3.begin()
        act(self.store(Patience()))
        return len(self.s3.requests)

    def assert_sound(self, snapshots):
        """What the store holds is complete, file by file and as a repository. `snapshots`: how many it may have."""
        files = self.s3.buckets[BUCKET]
        assert [path for path in files if path != "config" and hashlib.sha256(files[path]).hexdigest() != path[-64:]] == []
        report = check(Repository.open(MemoryStore(dict(files)), PASSWORD), read_data=True)
        assert report.problems == []
        assert report.snapshots in snapshots

    def assert_restorable(self):
        summary, is_same = self.restore(MemoryStore(self.s3.buckets[BUCKET]))
        assert (summary.errors, is_same) == (0, True)

    def write_to(self, directory: Path):
        for path, content in self.s3.buckets[BUCKET].items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        return directory


@pytest.fixture(scope="module")
def s3():
    with object_store() as store:
        yield store


@pytest.fixture(scope="module")
def made_site(s3, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Store, "settle_s", 0.0)
        # Hundreds of backups: of what costs time, one worker shows as much as several.
        patch.setattr(backup_verb, "start_workers", lambda settings, count: start_workers(settings, 1))
        yield Site(s3, tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(s3, made_site):
    s3.begin()
    return made_site


@pytest.mark.restic
@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_bears_the_failure_of_any_one_request(site, s3, fault, restic, tmp_path):
    store = site.store(WAITS)
    for number in range(1, site.requests(site.back_up) + 1):
        s3.begin(fault, number)
        assert site.back_up(store).errors == 0
        assert s3.faults == 1
        site.assert_sound(snapshots=[2])
    site.assert_restorable()
    assert "no errors were found" in restic(site.write_to(tmp_path / "copy"), "check", "--read-data")


@pytest.mark.parametrize("fault", LASTING)
def test_a_backup_whose_store_goes_for_good_says_so_and_leaves_a_sound_repository(site, s3, fault):
    store = site.store(GIVES_UP)
    for number in range(1, site.requests(site.back_up) + 1):
        s3.begin(fault, number, FOR_GOOD)
        try:
            site.back_up(store)
        except StoreError as error:
            why, snapshots = str(error), [1, 2]
        else:  # only the lock could not be deleted
            why, snapshots = s3.url, [2]
            site.assert_restorable()
        assert s3.url in why
        site.assert_sound(snapshots)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_bears_the_failure_of_any_one_request(site, s3, fault):
    store = site.store(WAITS)
    site.back_up(store)
    for number in range(1, site.requests(site.restore) + 1):
        s3.begin(fault, number)
        summary, is_same = site.restore(store)
        assert (summary.errors, is_same, s3.faults) == (0, True, 1)


@pytest.mark.parametrize("fault", LASTING)
def test_a_restore_whose_store_goes_for_good_says_what_is_missing(site, s3, fault):
    site.back_up(site.store(WAITS))
    store = site.store(GIVES_UP)
    for number in range(1, site.requests(site.restore) + 1):
        s3.begin(fault, number, FOR_GOOD)
        try:
            summary, is_same = site.restore(store)
        except EngineError as error:
            summary, is_same, why = None, False, str(error)
        assert (s3.url in why) if summary is None else summary.errors > 0
        assert not is_same
