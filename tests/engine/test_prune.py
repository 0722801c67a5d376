"""A prune gives back what no snapshot needs, keeps all that one does, and changes nothing where anything is amiss."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from engine.backends import Credentials, open_store
from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.forget import forget
from engine.commands.ls import walk
from engine.commands.prune import PruneOptions, prune
from engine.commands.snapshots import list_snapshots
from engine.errors import BlobMissing, Cancelled, DataDamaged, LockLost, RepositoryLocked
from engine.index import IndexedPack, encode_index
from engine.locks import Lock
from engine.pack import encode_header
from engine.pruning import UnusedLimit
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.pruned import PACK_SIZE, add_files, blobs_in, contents, files, fill, needed, opened, packs, write_files

NOTHING_UNUSED = PruneOptions(UnusedLimit(percent=0))


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr("engine.packer.PACK_SIZE", PACK_SIZE)


@pytest.fixture(scope="module")
def filled_once(empty_repository, tmp_path_factory):
    path = tmp_path_factory.mktemp("prune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.packer.PACK_SIZE", PACK_SIZE)
        fill(shutil.copytree(empty_repository, path / "repository"), path / "source")
    return path / "repository"


@pytest.fixture
def filled(filled_once, tmp_path):
    return shutil.copytree(filled_once, tmp_path / "filled")


def forget_all(location):
    forget(opened(location), [snapshot.id for snapshot in list_snapshots(opened(location))])


def flip(path, at):
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def add_index(location, packs):
    opened(location).save_file(FileKind.INDEX, encode_index(packs))


@pytest.mark.restic
def test_what_only_forgotten_snapshots_needed_goes_and_the_rest_can_be_restored(filled, restic):
    before = contents(filled)
    report = prune(opened(filled), NOTHING_UNUSED)
    assert report.packs_deleted > 0
    assert report.bytes.remaining_unused == 0
    assert contents(filled) == before
    assert "no errors were found" in restic(filled, "check", "--read-data")
    assert "this removes:          0 blobs" in restic(filled, "prune", "--max-unused", "0", "--dry-run")


@pytest.mark.restic
@pytest.mark.parametrize("version", [1, 2])
def test_a_repository_of_restic_is_pruned_as_restic_would(tmp_path, restic, version):
    ours, source = tmp_path / "ours", tmp_path / "source"
    source.mkdir()
    restic(ours, "init", "--repository-version", str(version))
    for content in (b"first", b"second"):
        for name in ("a", "b"):
            (source / name).write_bytes(content * 5000 + os.urandom(30_000))
        restic(ours, "backup", source)
    restic(ours, "forget", "--keep-last", "1")
    theirs = shutil.copytree(ours, tmp_path / "theirs")
    report = prune(opened(ours), NOTHING_UNUSED)
    restic(theirs, "prune", "--max-unused", "0")
    assert report.bytes.unused > 0
    held = [sorted((blob.type, blob.id) for _, blobs in blobs_in(place) for blob in blobs) for place in (ours, theirs)]
    assert held[0] == held[1]
    assert "no errors were found" in restic(ours, "check", "--read-data")
    assert {(source / name).read_bytes() for name in "ab"} == set(*(of.values() for of in contents(ours).values()))


@pytest.mark.ceph
@pytest.mark.restic
def test_a_bucket_is_pruned_as_a_directory_is(ceph_endpoint, tmp_path):
    access_key, secret_key = ceph_endpoint.make_user("engine-prune")
    store = open_store(f"s3:{ceph_endpoint.url}/engine-prune/host", credentials=Credentials(access_key, secret_key))
    repository = Repository.init(store, PASSWORD)
    write_files(tmp_path / "source", range(8))
    first = backup(repository, [tmp_path / "source"], host="h")
    write_files(tmp_path / "source", range(0, 8, 3))
    backup(repository, [tmp_path / "source"], host="h")
    forget(repository, [first.snapshot_id])
    report = prune(repository, NOTHING_UNUSED)
    assert (report.packs_deleted > 0, report.bytes.remaining_unused) == (True, 0)
    environment = {"RESTIC_PASSWORD": PASSWORD, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    command = ["restic", "--no-cache", "-r", store.location, "check", "--read-data"]
    checked = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_a_second_prune_finds_nothing_to_do(filled):
    prune(opened(filled), NOTHING_UNUSED)
    before = files(filled)
    report = prune(opened(filled), NOTHING_UNUSED)
    assert files(filled) == before
    assert (report.packs_deleted, report.bytes_added, report.packfiles.keep) == (0, 0, len(packs(filled)))


@pytest.mark.parametrize("limit", ["5%", "20%", "30000", "unlimited"])
def test_as_much_may_stay_unused_as_is_allowed(filled, limit):
    before = packs(filled)
    without = prune(opened(filled), PruneOptions(UnusedLimit(), dry_run=True)).bytes
    report = prune(opened(filled), PruneOptions(UnusedLimit.parse(limit)))
    used = report.bytes.used
    allowed = {"5%": used / 19, "20%": used / 4, "30000": 30_000, "unlimited": without.unused}[limit]
    assert report.bytes.remaining_unused <= allowed
    assert (report.packfiles.repack > 0) == (without.remaining_unused > allowed)
    again = prune(opened(filled), PruneOptions(UnusedLimit.parse("unlimited"), dry_run=True))
    assert (again.bytes.unused, again.bytes.used) == (report.bytes.remaining_unused, used)
    if limit == "unlimited":
        assert packs(filled) < before


def test_no_more_is_rewritten_than_is_allowed(filled):
    most = prune(opened(filled), PruneOptions(UnusedLimit(percent=0), dry_run=True))
    report = prune(opened(filled), PruneOptions(UnusedLimit(percent=0), max_repack_size=50_000))
    assert 0 < report.bytes.repack <= 50_000 < most.bytes.repack
    assert prune(opened(filled), PruneOptions(UnusedLimit(percent=0), max_repack_size=0)).bytes_added == 0


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(filled):
    before = files(filled)
    told = prune(opened(filled), PruneOptions(UnusedLimit(percent=0), dry_run=True))
    assert files(filled) == before
    assert (told.packs_deleted, told.bytes_added) == (0, 0)
    done = prune(opened(filled), NOTHING_UNUSED)
    assert (told.blobs, told.bytes, told.packfiles) == (done.blobs, done.bytes, done.packfiles)
    assert done.packs_deleted == told.packfiles.repack + told.packfiles.remove_total
    sizes = [sum(len(content) for name, content in of.items() if name.startswith("data")) for of in (before, files(filled))]
    assert done.bytes_deleted - done.bytes_added == sizes[0] - sizes[1]


@pytest.mark.restic
def test_without_snapshots_nothing_is_left(filled, restic):
    forget_all(filled)
    prune(opened(filled))
    assert packs(filled) == set()
    assert "no errors were found" in restic(filled, "check", "--read-data")


def test_what_killed_runs_left_goes_and_foreign_files_stay(filled):
    left = [
        filled / "data" / "ab" / ("ab" * 32),
        filled / "data" / "ab" / ".partial-0123",
        filled / "index" / ".partial-4567",
        filled / "snapshots" / ".partial-89ab",
    ]
    foreign = [filled / "data" / "ab" / "notes.txt", filled / "data" / "ab" / ("AB" * 32), filled / "keys" / ".partial-cdef"]
    for path in left + foreign:
        path.write_bytes(b"content")
    report = prune(opened(filled), PruneOptions(UnusedLimit()))
    assert [path.exists() for path in left + foreign] == [False] * 4 + [True] * 3
    assert (report.packfiles.unreferenced, report.bytes.unreferenced) == (1, 7)


def test_index_files_of_many_backups_are_put_together(filled):
    assert len(list((filled / "index").iterdir())) == 3
    prune(opened(filled), PruneOptions(UnusedLimit()))
    assert len(list((filled / "index").iterdir())) == 1


def test_only_the_last_of_the_new_index_files_says_what_they_all_supersede(filled, monkeypatch):
    monkeypatch.setattr("engine.commands.prune.BLOBS_PER_FILE", 1)
    before, saved = {path.name for path in (filled / "index").iterdir()}, []
    repository = opened(filled)
    save = repository.save_file
    repository.save_file = lambda kind, payload: saved.append((kind, payload)) or save(kind, payload)
    prune(repository, PruneOptions(UnusedLimit(percent=0), max_repack_size=50_000))
    rewritten = [json.loads(payload) for kind, payload in saved if kind is FileKind.INDEX]
    assert len(rewritten) > 2
    assert ["supersedes" in file for file in rewritten] == [False] * (len(rewritten) - 1) + [True]
    assert set(rewritten[-1]["supersedes"]) == before - {path.name for path in (filled / "index").iterdir()}


@pytest.mark.restic
def test_a_blob_that_lies_in_several_packs_is_kept_once(filled, tmp_path, restic):
    other = shutil.copytree(filled, tmp_path / "other")
    prune(opened(other), NOTHING_UNUSED)
    add_files(filled, other)
    before = contents(filled)
    assert prune(opened(filled), PruneOptions(dry_run=True)).blobs.duplicate > 0
    report = prune(opened(filled), NOTHING_UNUSED)
    held = [(blob.type, blob.id) for _, blobs in blobs_in(filled) for blob in blobs]
    assert len(held) == len(set(held)) == report.blobs.used
    assert report.bytes_added == 0
    assert contents(filled) == before
    assert "no errors were found" in restic(filled, "check", "--read-data")


def test_packs_that_several_index_files_list_are_listed_once_afterwards(filled):
    listed = blobs_in(filled)
    twice = [IndexedPack(bytes.fromhex(pack), blobs) for pack, blobs in listed[:3]]
    add_index(filled, twice)
    before = contents(filled)
    prune(opened(filled), PruneOptions(UnusedLimit()))
    names = [pack for pack, _ in blobs_in(filled)]
    assert len(names) == len(set(names))
    assert contents(filled) == before


def test_a_pack_that_is_listed_in_parts_keeps_all_of_them(filled):
    (pack, blobs), *rest = sorted(blobs_in(filled), key=lambda listed: -len(listed[1]))
    for path in (filled / "index").iterdir():
        path.unlink()
    add_index(filled, [IndexedPack(bytes.fromhex(pack), blobs[:2])])
    add_index(filled, [IndexedPack(bytes.fromhex(pack), blobs[1:]), *(IndexedPack(bytes.fromhex(one), of) for one, of in rest)])
    before = contents(filled)
    prune(opened(filled), PruneOptions(UnusedLimit()))
    assert contents(filled) == before
    prune(opened(filled), NOTHING_UNUSED)
    assert contents(filled) == before


@pytest.mark.restic
def test_trees_are_moved_to_packs_of_trees_and_data_to_packs_of_data(filled, restic):
    repository = opened(filled)
    mixed, blobs, seen = bytearray(), [], set()
    for pack, listed in blobs_in(filled):
        content = repository.store.get(FileKind.DATA, pack)
        for blob in listed:
            if (blob.type, blob.id) not in seen:
                seen.add((blob.type, blob.id))
                blobs.append(type(blob)(blob.type, blob.id, len(mixed), blob.length, blob.uncompressed_length))
                mixed += content[blob.offset : blob.offset + blob.length]
    mixed += encode_header(blobs, repository.key)
    for kind in (FileKind.DATA, FileKind.INDEX):
        for name, _ in list(repository.store.list(kind)):
            repository.store.delete(kind, name)
    repository.store.put(FileKind.DATA, hashlib.sha256(mixed).hexdigest(), mixed)
    add_index(filled, [IndexedPack(hashlib.sha256(mixed).digest(), blobs)])
    before = contents(filled)
    prune(opened(filled), NOTHING_UNUSED)
    assert [len({blob.type for blob in blobs}) for _, blobs in blobs_in(filled)] == [1] * len(packs(filled))
    assert contents(filled) == before
    assert "no errors were found" in restic(filled, "check", "--read-data")


def pack_of(location, blob_type):
    """Return the path of a pack of which something is needed, and its blobs; of data, something else in it is not."""
    of_use = needed(location)
    held = [(pack, blobs) for pack, blobs in blobs_in(location) if blobs[0].type is blob_type]
    pack, blobs = next(
        (pack, blobs)
        for pack, blobs in held
        if any(blob.id in of_use for blob in blobs) and (blob_type is BlobType.TREE or any(blob.id not in of_use for blob in blobs))
    )
    return location / "data" / pack[:2] / pack, blobs


@pytest.mark.parametrize("blob_type", BlobType)
@pytest.mark.parametrize("change", [os.unlink, lambda path: (path.chmod(0o600), path.write_bytes(path.read_bytes() + b"x"))])
def test_a_needed_pack_that_is_missing_or_of_another_size_ends_the_prune_before_anything_is_deleted(filled, blob_type, change):
    path, _ = pack_of(filled, blob_type)
    change(path)
    before = files(filled)
    with pytest.raises(BlobMissing, match="nothing was deleted"):
        prune(opened(filled), NOTHING_UNUSED)
    assert files(filled) == before


@pytest.mark.restic
def test_a_missing_pack_that_nobody_needs_is_forgotten(filled, restic):
    path, _ = pack_of(filled, BlobType.DATA)
    forget_all(filled)
    backup(opened(filled), [filled / "config"], host="h")
    path.unlink()
    before = contents(filled)
    report = prune(opened(filled), PruneOptions(UnusedLimit()))
    assert report.packs_missing == 1
    assert contents(filled) == before
    assert "no errors were found" in restic(filled, "check", "--read-data")


def test_a_missing_pack_whose_blobs_lie_elsewhere_too_is_forgotten(filled, tmp_path):
    other = shutil.copytree(filled, tmp_path / "other")
    before = packs(filled)
    prune(opened(other), NOTHING_UNUSED)
    add_files(filled, other)
    expected = contents(filled)
    for name in before - packs(other):
        (filled / "data" / name[:2] / name).unlink()
    prune(opened(filled))
    assert contents(filled) == expected


def test_a_lost_index_file_ends_the_prune_before_anything_is_deleted(filled):
    max((filled / "index").iterdir(), key=lambda path: path.stat().st_size).unlink()
    before = files(filled)
    with pytest.raises(BlobMissing, match=r"snapshot [0-9a-f]{8} needs the (tree|data) blob [0-9a-f]{64}.*nothing was deleted"):
        prune(opened(filled))
    assert files(filled) == before


@pytest.mark.parametrize("kind", ["index", "snapshots"])
def test_a_damaged_index_or_snapshot_file_ends_the_prune_before_anything_is_deleted(filled, kind):
    path = next((filled / kind).iterdir())
    flip(path, 40)
    before = files(filled)
    with pytest.raises(DataDamaged, match=path.name):
        prune(opened(filled))
    assert files(filled) == before


def test_a_damaged_blob_that_is_needed_is_not_moved_and_nothing_is_deleted(filled):
    of_use = needed(filled)
    path, blobs = pack_of(filled, BlobType.DATA)
    flip(path, next(blob.offset for blob in blobs if blob.id in of_use) + 30)
    before = files(filled)
    with pytest.raises(DataDamaged, match=rf"pack {path.name} is damaged.*nothing was deleted"):
        prune(opened(filled), NOTHING_UNUSED)
    assert before.items() <= files(filled).items()


def test_a_damaged_tree_ends_the_prune_before_anything_is_deleted(filled):
    path, blobs = pack_of(filled, BlobType.TREE)
    for blob in blobs:
        flip(path, blob.offset + 30)
    before = files(filled)
    with pytest.raises(DataDamaged, match=r"tree [0-9a-f]{64} cannot be read, so that nothing was deleted"):
        prune(opened(filled))
    assert files(filled) == before


def test_damage_in_what_nobody_needs_goes_with_it(filled):
    of_use = needed(filled)
    path, blobs = pack_of(filled, BlobType.DATA)
    flip(path, next(blob.offset for blob in blobs if blob.id not in of_use) + 30)
    before = contents(filled)
    prune(opened(filled), NOTHING_UNUSED)
    assert not path.exists()
    assert contents(filled) == before


def test_an_exclusive_lock_of_another_keeps_a_prune_from_beginning(filled):
    with opened(filled).lock(exclusive=True), pytest.raises(RepositoryLocked):
        prune(opened(filled))


def test_a_lock_that_was_lost_deletes_nothing_more(filled, monkeypatch):
    def lost(lock):
        raise LockLost("lost")

    monkeypatch.setattr(Lock, "require_held", lost)
    before = files(filled)
    with pytest.raises(LockLost):
        prune(opened(filled), NOTHING_UNUSED)
    assert before.items() <= files(filled).items()


def test_a_prune_can_be_cancelled_and_the_next_one_takes_it_from_there(filled, tmp_path):
    before = contents(filled)
    cancelled = 0

    class Cancel:
        """Asks for the end once, at its n-th look."""

        def __init__(self, looks):
            self.looks = looks

        def is_set(self):
            self.looks -= 1
            return self.looks == 0

    for looks in range(1, 100):
        copied = tmp_path / f"copy-{looks}"
        shutil.copytree(filled, copied)
        repository = opened(copied)
        try:
            prune(repository, NOTHING_UNUSED, cancel=Cancel(looks))
        except Cancelled:
            cancelled += 1
        assert list((copied / "locks").iterdir()) == []
        if cancelled < looks:
            break
        prune(repository, NOTHING_UNUSED)
        assert prune(repository, PruneOptions(UnusedLimit(percent=0), dry_run=True)).bytes.unused == 0
        assert contents(copied) == before
    assert 5 < cancelled < 99


def test_a_repository_that_was_pruned_is_read_anew(repository, tmp_path):
    (tmp_path / "source").write_bytes(b"content")
    snapshot = backup(repository, [tmp_path / "source"], host="here").snapshot_id
    prune(repository)
    prune(repository)
    assert [path for path, _ in walk(repository, snapshot)][-1].endswith(b"/source")
