"""An index that is damaged or lost is brought back from the packs."""

import hashlib
import json
import os
import shutil
import threading

import msgspec
import pytest

from engine.blob import BlobType
from engine.commands.repair_index import PackEntry, agreed_packs, repair_index
from engine.errors import Cancelled, RepositoryLocked, StoreError
from engine.index import IndexedPack, decode_index, encode_index
from engine.store import FileKind
from tests.engine.damage import flip_bit, is_killed, names, packs_of
from tests.engine.repair.looking import blobs, opened, problems


@pytest.mark.restic
@pytest.mark.parametrize("all_packs", [False, True])
def test_an_index_that_is_lost_is_made_anew_from_the_packs(filled, restic, all_packs):
    before = blobs(filled)
    for name in names(filled, FileKind.INDEX):
        (filled / "index" / name).unlink()
    report = repair_index(opened(filled), read_all_packs=all_packs)
    assert (len(report.added), report.unreadable, report.files_replaced) == (len(packs_of(filled)), [], 0)
    assert blobs(filled) == before
    restic(filled, "check", "--read-data")


@pytest.mark.restic
@pytest.mark.parametrize("at", [0, 40, -1])
def test_an_index_file_with_a_flipped_bit_is_replaced(filled, restic, at):
    before = blobs(filled)
    damaged = sorted(names(filled, FileKind.INDEX))[0]
    flip_bit(filled / "index" / damaged, at)
    report = repair_index(opened(filled))
    assert ([name for name, _ in report.damaged_files], report.files_replaced) == ([damaged], 1)
    assert damaged not in names(filled, FileKind.INDEX)
    contents = [opened(filled).load_file(FileKind.INDEX, name) for name in names(filled, FileKind.INDEX)]
    assert [damaged] in [json.loads(content).get("supersedes") for content in contents]
    assert blobs(filled) == before
    restic(filled, "check", "--read-data")


def test_an_index_without_fault_is_left_as_it_is(filled):
    before = names(filled, FileKind.INDEX)
    report = repair_index(opened(filled))
    assert (report.added, report.corrected, report.gone, report.files_replaced) == ([], [], [], 0)
    assert names(filled, FileKind.INDEX) == before


def test_reading_all_packs_replaces_every_index_file_and_corrects_what_it_said(filled):
    before = blobs(filled)
    name, *_ = sorted(names(filled, FileKind.INDEX))
    repository = opened(filled)
    (pack, *rest) = decode_index(repository.load_file(FileKind.INDEX, name))
    wrong = [msgspec.structs.replace(blob, id=bytes(31) + b"x") for blob in pack.blobs]
    repository.save_file(FileKind.INDEX, encode_index([IndexedPack(pack.id, wrong), *rest]))
    (filled / "index" / name).unlink()
    # All sizes are right, so that only the headers can tell.
    assert repair_index(opened(filled)).corrected == []
    report = repair_index(opened(filled), read_all_packs=True)
    assert (report.corrected, report.files_replaced) == ([pack.id.hex()], 2)
    assert blobs(filled) == before


def test_a_pack_of_which_two_index_files_say_different_things_is_read(filled):
    before = blobs(filled)
    repository = opened(filled)
    pack = next(iter(decode_index(repository.load_file(FileKind.INDEX, sorted(names(filled, FileKind.INDEX))[0]))))
    repository.save_file(FileKind.INDEX, encode_index([IndexedPack(pack.id, pack.blobs[:1])]))
    assert repair_index(opened(filled)).corrected == [pack.id.hex()]
    assert blobs(filled) == before
    assert problems(filled) == []


def test_a_pack_that_is_gone_leaves_the_index_and_the_others_stay(filled):
    gone = packs_of(filled)[0]
    kept = {key for key, place in blobs(filled).items() if place.pack_id.hex() != gone.name}
    gone.unlink()
    report = repair_index(opened(filled))
    assert (report.gone, report.files_replaced) == ([gone.name], 1)
    assert blobs(filled).keys() == kept


@pytest.mark.parametrize(
    "damage", [lambda pack: flip_bit(pack, -10), lambda pack: os.truncate(pack, 100), lambda pack: os.truncate(pack, 0)]
)
def test_a_pack_whose_header_cannot_be_read_is_told_and_leaves_the_index(filled, damage):
    pack = packs_of(filled)[0]
    pack.chmod(0o600)
    damage(pack)
    report = repair_index(opened(filled), read_all_packs=True)
    assert [name for name, _ in report.unreadable] == [pack.name]
    assert pack.exists()
    assert all(place.pack_id.hex() != pack.name for place in blobs(filled).values())


def test_a_header_that_is_longer_than_the_first_guess_is_read_too(repository, location):
    with repository.writer() as writer:
        for number in range(1000):
            content = number.to_bytes(4, "big")
            writer.add_blob(BlobType.DATA, hashlib.sha256(content).digest(), content)
    before = blobs(location)
    (index,) = names(location, FileKind.INDEX)
    (location / "index" / index).unlink()
    repair_index(opened(location))
    assert blobs(location) == before


@pytest.mark.parametrize("kind", [FileKind.INDEX, FileKind.DATA])
def test_a_store_that_fails_is_no_damage_and_nothing_is_deleted(filled, kind):
    before = names(filled, FileKind.INDEX)
    packs_of(filled)[0].rename(filled / "data" / "aside")
    repository = opened(filled)

    def failing(*arguments):
        raise StoreError("the store is away")

    if kind is FileKind.INDEX:
        get = repository.store.get
        repository.store.get = lambda wanted, name: failing() if wanted is kind else get(wanted, name)
    else:
        repository.store.get_range = failing
    with pytest.raises(StoreError, match="away"):
        repair_index(repository, read_all_packs=True)
    assert before <= names(filled, FileKind.INDEX)


def test_a_repair_of_the_index_that_is_killed_at_any_change_loses_nothing_and_the_next_ends_it(filled, tmp_path):
    lost = packs_of(filled)[0]
    shutil.copy(lost, tmp_path / "kept")
    kept = {key for key, place in blobs(filled).items() if place.pack_id.hex() != lost.name}
    lost.unlink()
    damaged = sorted(names(filled, FileKind.INDEX))[1]
    flip_bit(filled / "index" / damaged, 30)
    for number in range(20):
        location = shutil.copytree(filled, tmp_path / f"dying-{number}")
        repository = opened(location)
        if not is_killed(lambda r=repository: repair_index(r), repository, number):
            break
        repair_index(opened(location))
        assert blobs(location).keys() == kept
    else:
        pytest.fail("it never got through")
    assert number >= 4


def test_the_index_is_repaired_under_an_exclusive_lock_and_can_be_cancelled(filled):
    with opened(filled).lock(), pytest.raises(RepositoryLocked):
        repair_index(opened(filled))
    cancel = threading.Event()
    cancel.set()
    before = names(filled, FileKind.INDEX)
    with pytest.raises(Cancelled):
        repair_index(opened(filled), cancel=cancel)
    assert (names(filled, FileKind.INDEX), names(filled, FileKind.LOCKS)) == (before, set())


def test_packs_agree_if_all_files_say_the_same_and_the_store_has_that_size():
    one, other = PackEntry(10, 1), PackEntry(10, 2)
    files = [{b"a": one, b"b": one, b"c": one, b"d": None}, {b"a": one, b"b": other, b"e": one}, {b"b": other}]
    assert agreed_packs(files, {b"a": 10, b"b": 10, b"c": 11, b"d": 10}) == {b"a": one}
