"""From a store that lets wait, a restore asks for the next packs while it works on one."""

import hashlib
import threading

import pytest

from engine.backends import open_store
from engine.backends.local import LocalStore
from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.errors import StoreUnreachable
from engine.repository import Repository
from engine.restorer.workers import WORKERS
from tests.engine.conftest import PASSWORD

PACKS = 4 * WORKERS


class FarStore(LocalStore):
    """A store whose packs of data come once so many have been asked for at the same time; one may not come at all."""

    packs_ahead = 2

    def __init__(self, directory):
        super().__init__(directory)
        self.data_packs, self.lost = set(), ""
        self.asked = 0
        self.wanted = threading.Condition()

    def get_range(self, kind, name, offset, length):
        if name == self.lost:
            raise StoreUnreachable("away")
        if name in self.data_packs:
            with self.wanted:
                self.asked += 1
                self.wanted.notify_all()
                assert self.wanted.wait_for(lambda: self.asked > WORKERS + 1, timeout=30), "one at a time for each worker"
        return super().get_range(kind, name, offset, length)


@pytest.fixture
def root(location, tmp_path):
    """A saved tree each file of which lies in a pack of its own."""
    root = tmp_path / "root"
    root.mkdir()
    for number in range(PACKS):
        (root / f"file{number}").write_bytes(b"%d" % number * 1000)
        backup(Repository.open(open_store(str(location)), PASSWORD), [root], host="h")
    return root


@pytest.fixture
def far(location, root):
    """The repository on a far store that knows its packs of data."""
    store = FarStore(str(location))
    repository = Repository.open(store, PASSWORD)
    repository.load_index()
    ids = (hashlib.sha256(file.read_bytes()).digest() for file in sorted(root.iterdir()))
    packs = [repository.locate(BlobType.DATA, blob_id).pack_id.hex() for blob_id in ids]
    assert len(set(packs)) == PACKS
    store.data_packs = set(packs)
    return repository


def test_packs_are_asked_for_before_their_turn(far, root, tmp_path):
    summary = restore(far, "latest", str(tmp_path / "target"))
    assert (summary.errors, summary.files_restored) == (0, PACKS)
    assert compare_trees(bytes(root), f"{tmp_path}/target{root}".encode()) == []


def test_a_pack_that_cannot_be_read_ahead_costs_its_own_file_only(far, tmp_path):
    far.store.lost = sorted(far.store.data_packs)[1]
    errors = []
    summary = restore(far, "latest", str(tmp_path / "target"), on_error=lambda path, reason: errors.append(reason))
    assert (errors, summary.files_restored) == (["away"], PACKS - 1)
