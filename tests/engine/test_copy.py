"""Copying snapshots to a repository of another key and version, with restic as the judge of what arrives and what is skipped."""

import json
import os
import subprocess
import threading
from datetime import UTC, datetime

import pytest

from engine.backends import Credentials, open_store
from engine.blob import BlobType, PackedBlob
from engine.cli import main
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.copy import copy
from engine.commands.ls import find_node
from engine.commands.repair_index import repair_index
from engine.commands.repair_snapshots import repair_snapshots
from engine.commands.snapshots import list_snapshots
from engine.errors import Cancelled, EngineError, RepositoryLocked, SnapshotNotFound, StoreError
from engine.index import Index, IndexedPack
from engine.ranges import GAP_BYTES, RANGE_BYTES, pack_ranges
from engine.repository import Repository
from engine.snapshot import SnapshotFilter, load_snapshot
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.damage import flip_bit, is_killed, names, packs_of


def opened(location):
    return Repository.open(open_store(str(location)), PASSWORD)


def make(location, version):
    Repository.init(open_store(str(location)), PASSWORD, version=version)
    return location


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """An empty repository of each version, made once; `target` is a copy of one."""
    root = tmp_path_factory.mktemp("targets")
    return {version: make(root / str(version), version) for version in (1, 2)}


@pytest.fixture
def target(targets, tmp_path):
    subprocess.run(["cp", "-a", targets[2], tmp_path / "target"], check=True)
    return tmp_path / "target"


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "plain"
    (root / "sub").mkdir(parents=True)
    (root / "one").write_bytes(os.urandom(700_000))
    (root / "text").write_bytes(b"many words " * 20_000)
    (root / "sub" / "two").write_bytes(os.urandom(50_000))
    return root


@pytest.fixture
def filled(location, repository, plain):
    """Two snapshots that share a file; the second has a parent and tags."""
    backup(repository, [plain], host="h", time=datetime(2024, 5, 1, tzinfo=UTC))
    (plain / "text").write_bytes(b"other words " * 20_000)
    backup(opened(location), [plain], host="h", tags=["b", "a"], excludes=["x"], time=datetime(2024, 5, 2, tzinfo=UTC))
    return location


def essence(location, snapshot):
    """All that its file says, to the nanosecond, but for what a copy has of its own."""
    return json.loads(opened(location).load_file(FileKind.SNAPSHOTS, snapshot.id)) | {"parent": None, "original": None}


def assert_sound(location):
    report = check(opened(location), read_data=True)
    assert (report.problems, report.notes) == ([], [])


@pytest.mark.restic
@pytest.mark.parametrize(("source_version", "target_version"), [(2, 1), (1, 2), (2, 2)])
def test_snapshots_arrive_whole_in_a_repository_of_another_key_and_version(
    source_version, target_version, targets, tmp_path, source, restic
):
    for role, version in (("from", source_version), ("to", target_version)):
        subprocess.run(["cp", "-a", targets[version], tmp_path / role], check=True)
    restic(tmp_path / "from", "backup", source, "--host", "box", "--tag", "x,y")
    restic(tmp_path / "from", "backup", source, "--host", "box")
    summary = copy(opened(tmp_path / "from"), opened(tmp_path / "to"))
    assert (len(summary.copied), summary.skipped, summary.failed) == (2, [], [])
    restic(tmp_path / "to", "check", "--read-data")
    old, new = list_snapshots(opened(tmp_path / "from")), list_snapshots(opened(tmp_path / "to"))
    for before, after in zip(old, new, strict=True):
        assert (after.original, after.parent) == (before.id, None)
        assert essence(tmp_path / "to", after) == essence(tmp_path / "from", before)
        assert after.id != before.id
    restic(tmp_path / "to", "restore", new[-1].id, "--target", tmp_path / "restored")
    assert subprocess.run(["diff", "-r", "--no-dereference", source / "deep", f"{tmp_path}/restored{source}/deep"]).returncode == 0


def test_what_is_compressed_is_compressed_anew_for_the_version_of_the_target(filled, targets, tmp_path):
    sizes = {}
    for version in (1, 2):
        subprocess.run(["cp", "-a", targets[version], tmp_path / str(version)], check=True)
        sizes[version] = copy(opened(filled), opened(tmp_path / str(version))).bytes_stored
    assert sizes[1] > sizes[2] + 400_000
    copied = opened(tmp_path / "1")
    copied.load_index()
    assert all(not place.uncompressed_length for kind in BlobType for _, place in copied.index.blobs(kind))


def test_each_blob_is_copied_once_and_none_that_the_target_has(filled, target, plain):
    backup(opened(target), [plain / "one"], host="elsewhere")
    before = opened(target)
    before.load_index()
    source = opened(filled)
    summary = copy(source, opened(target))
    here, there = source.index, opened(target)
    there.load_index()
    lacking = {(kind, blob) for kind in BlobType for blob, _ in here.blobs(kind) if not before.index.has(kind, blob)}
    assert summary.blobs_copied == len(lacking) < len(here)
    stored = [json.loads(there.load_file(FileKind.INDEX, name)) for name in names(target, FileKind.INDEX)]
    blobs = [blob["id"] for index in stored for pack in index["packs"] for blob in pack["blobs"]]
    assert len(blobs) == len(set(blobs))
    assert_sound(target)


@pytest.mark.restic
def test_what_we_copied_restic_skips_and_what_restic_copied_we_skip(filled, target, tmp_path, plain, restic, monkeypatch):
    monkeypatch.setenv("RESTIC_FROM_PASSWORD", PASSWORD)
    # restic's own has a time in nanoseconds, which restic compares.
    restic(filled, "backup", plain / "sub")
    copy(opened(filled), opened(target))
    restic(target, "copy", "--from-repo", filled)
    assert len(names(target, FileKind.SNAPSHOTS)) == 3
    assert len(copy(opened(filled), opened(target)).skipped) == 3
    third = make(tmp_path / "third", 2)
    restic(third, "copy", "--from-repo", target)
    originals = [snapshot.original for snapshot in list_snapshots(opened(third))]
    # The whole line keeps the first id, so that a copy of a copy is known where the first was copied to.
    assert originals == [snapshot.id for snapshot in list_snapshots(opened(filled))]
    for source in (filled, target):
        summary = copy(opened(source), opened(third))
        assert (summary.copied, len(summary.skipped), summary.bytes_stored) == ([], 3, 0)


@pytest.mark.restic
def test_a_snapshot_whose_tags_were_changed_is_copied_again_as_restic_does(filled, target, restic, monkeypatch):
    monkeypatch.setenv("RESTIC_FROM_PASSWORD", PASSWORD)
    copy(opened(filled), opened(target))
    restic(filled, "tag", "--add", "new", "latest")
    summary = copy(opened(filled), opened(target))
    assert (len(summary.copied), len(summary.skipped), summary.blobs_copied) == (1, 1, 0)
    restic(target, "copy", "--from-repo", filled)
    assert len(names(target, FileKind.SNAPSHOTS)) == 3


def test_a_name_or_a_filter_chooses_what_is_copied(filled, target):
    first, second = list_snapshots(opened(filled))
    chosen = [copied.snapshot.id for copied in copy(opened(filled), opened(target), [first.id[:10]]).copied]
    assert chosen == [first.id]
    only = SnapshotFilter(tags=(("a", "b"),))
    assert [copied.snapshot.id for copied in copy(opened(filled), opened(target), only=only).copied] == [second.id]
    assert copy(opened(filled), opened(target), only=SnapshotFilter(hosts=("nobody",))).copied == []
    assert [one.snapshot.id for one in copy(opened(filled), opened(target), ["latest"]).skipped] == [second.id]
    with pytest.raises(SnapshotNotFound):
        copy(opened(filled), opened(target), ["ffff0000"])
    with pytest.raises(EngineError, match="give no filter"):
        copy(opened(filled), opened(target), [first.id], only=only)


def test_a_damaged_blob_is_not_copied_and_only_the_snapshots_that_need_it_fail(filled, target, plain):
    first, second = list_snapshots(opened(filled))
    source = opened(filled)
    source.load_index()
    # The second snapshot alone has it.
    (text,) = find_node(source, second, os.fsencode(plain / "text")).content
    place = source.index.find(BlobType.DATA, text)
    flip_bit(filled / "data" / place.pack_id.hex()[:2] / place.pack_id.hex(), place.offset + 20)
    summary = copy(opened(filled), opened(target))
    assert [one.snapshot.id for one in summary.copied] == [first.id]
    ((failed, reason),) = summary.failed
    assert failed == second.id
    assert text.hex() in reason
    assert check(opened(target), read_data=True).problems == []
    # The damage is remembered neither there nor here: once the source is whole again, so is the copy.
    flip_bit(filled / "data" / place.pack_id.hex()[:2] / place.pack_id.hex(), place.offset + 20)
    assert len(copy(opened(filled), opened(target)).copied) == 1
    assert_sound(target)


def test_two_snapshots_with_the_same_damage_both_fail(filled, target):
    for pack in packs_of(filled):
        if pack.stat().st_size > 600_000:
            flip_bit(pack, 50)
    summary = copy(opened(filled), opened(target))
    assert (summary.copied, len(summary.failed)) == ([], 2)
    assert names(target, FileKind.SNAPSHOTS) == set()


def test_a_missing_pack_fails_the_snapshots_that_need_it(filled, target):
    max(packs_of(filled), key=lambda pack: pack.stat().st_size).unlink()
    summary = copy(opened(filled), opened(target))
    assert (summary.copied, len(summary.failed)) == ([], 2)


@pytest.mark.parametrize("beyond", [b'{"odd\xff":1,', b'{"odd":"\xff",'])
def test_a_snapshot_whose_unknown_fields_cannot_be_read_fails_alone(filled, target, beyond):
    source = opened(filled)
    oldest = min(list_snapshots(source), key=lambda snapshot: snapshot.time)
    odd = source.save_file(FileKind.SNAPSHOTS, beyond + source.load_file(FileKind.SNAPSHOTS, oldest.id)[1:])
    summary = copy(source, opened(target))
    assert (len(summary.copied), [snapshot_id for snapshot_id, _ in summary.failed]) == (2, [odd])


def test_a_copy_that_is_killed_at_any_change_leaves_whole_snapshots_and_the_next_ends_it(filled, targets, tmp_path):
    for number in range(40):
        target = tmp_path / f"target-{number}"
        subprocess.run(["cp", "-a", targets[2], target], check=True)
        source, repository = opened(filled), opened(target)
        if not is_killed(lambda s=source, t=repository: copy(s, t), repository, number):
            break
        assert check(opened(target), read_data=True).problems == []
        copy(opened(filled), opened(target))
        assert [one.original for one in list_snapshots(opened(target))] == [one.id for one in list_snapshots(opened(filled))]
        assert check(opened(target), read_data=True).problems == []
    else:
        pytest.fail("it never got through")


def test_a_target_that_fails_ends_the_copy_and_leaves_no_snapshot(filled, target):
    repository = opened(target)
    put = repository.store.put

    def failing(kind, name, data):
        if kind is FileKind.INDEX:
            raise StoreError("the store is away")
        put(kind, name, data)

    repository.store.put = failing
    with pytest.raises(StoreError, match="away"):
        copy(opened(filled), repository)
    assert (names(target, FileKind.SNAPSHOTS), names(target, FileKind.LOCKS), names(filled, FileKind.LOCKS)) == (set(),) * 3


def test_a_copy_can_be_cancelled_and_respects_the_locks_of_both(filled, target):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        copy(opened(filled), opened(target), cancel=cancel)
    assert (names(target, FileKind.SNAPSHOTS), names(target, FileKind.LOCKS)) == (set(), set())
    for held in (filled, target):
        with opened(held).lock(exclusive=True), pytest.raises(RepositoryLocked):
            copy(opened(filled), opened(target))


def test_the_command_takes_the_options_of_restic(filled, target, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    words = ["-r", str(target), "copy", "--from-repo", str(filled), "--from-password-file", str(tmp_path / "password")]
    assert main([*words, "--json", "--host", "h", "--tag", "a"]) == 0
    message = json.loads(capfd.readouterr().out.splitlines()[-1])
    (pair,) = message["copied"]
    assert load_snapshot(opened(target), pair["copy"]).original == pair["source"]
    assert main(words) == 0
    assert "1 snapshots copied, 1 skipped, 0 failed" in capfd.readouterr().out
    assert main(["-r", str(target), "copy"]) == 1
    assert "--from-repo or RESTIC_FROM_REPOSITORY" in capfd.readouterr().err


@pytest.mark.ceph
@pytest.mark.restic
def test_snapshots_are_copied_to_an_object_store_and_the_index_there_is_repaired(filled, ceph_endpoint):
    access_key, secret_key = ceph_endpoint.make_user("engine-copy")
    location = f"s3:{ceph_endpoint.url}/engine-copy/host"
    target = Repository.init(open_store(location, credentials=Credentials(access_key, secret_key)), PASSWORD)
    assert len(copy(opened(filled), target).copied) == 2
    for name, _ in list(target.store.list(FileKind.INDEX)):
        target.store.delete(FileKind.INDEX, name)
    assert len(repair_index(target).added) == len(list(target.store.list(FileKind.DATA)))
    assert repair_snapshots(target).whole == 2
    env = os.environ | {"RESTIC_PASSWORD": PASSWORD, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    checked = subprocess.run(["restic", "--no-cache", "-r", location, "check", "--read-data"], env=env, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_ranges_go_through_packs_in_order_and_join_what_lies_close():
    index = Index()
    ids = [bytes([number]) * 32 for number in range(6)]
    offsets = [0, 100, 100 + GAP_BYTES + 101, RANGE_BYTES * 2]
    index.add_pack(IndexedPack(b"b" * 32, [PackedBlob(BlobType.DATA, ids[n], offsets[n], 100) for n in (3, 1, 0, 2)]))
    index.add_pack(IndexedPack(b"a" * 32, [PackedBlob(BlobType.DATA, ids[4], 7, 100)]))
    ranges = list(pack_ranges(index, BlobType.DATA, ids))
    assert [(found.pack_id[:1], found.offset, found.length, [blob for blob, _ in found.blobs]) for found in ranges] == [
        (b"a", 7, 100, [ids[4]]),
        (b"b", 0, 200, [ids[0], ids[1]]),
        (b"b", offsets[2], 100, [ids[2]]),
        (b"b", offsets[3], 100, [ids[3]]),
    ]
