"""A check finds each kind of damage and calls a sound repository sound."""

import os
import threading

import pytest

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.check import _Check, check
from engine.errors import Cancelled
from engine.repository import Repository
from tests.engine.conftest import PASSWORD


@pytest.fixture
def filled(location, repository, tmp_path):
    """A repository with a snapshot: one pack of data, one of trees, one index file."""
    source = tmp_path / "plain"
    source.mkdir()
    for number in range(5):
        (source / str(number)).write_bytes(os.urandom(20_000))
    backup(repository, [source], host="h")
    return location


def found(location, **options):
    return check(Repository.open(open_store(str(location)), PASSWORD), **options).problems


def packs(location):
    """The packs, the largest (of data) first."""
    return sorted((location / "data").glob("*/*"), key=lambda path: -path.stat().st_size)


def rewrite(path, change):
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


def test_a_sound_repository_has_no_problems(filled):
    report = check(Repository.open(open_store(str(filled)), PASSWORD), read_data=True)
    assert (report.problems, report.notes, report.snapshots, report.packs) == ([], [], 1, 2)
    assert report.bytes_read == sum(path.stat().st_size for path in packs(filled))


def test_a_flipped_bit_is_found_by_reading_the_data_and_not_without(filled):
    pack = packs(filled)[0]
    rewrite(pack, lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:])
    assert found(filled) == []
    assert [pack.name in problem for problem in found(filled, read_data=True)] == [True]


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: b"", lambda content: content + b"x"])
def test_a_pack_of_another_size_is_found_without_reading_it(filled, change):
    pack = packs(filled)[0]
    rewrite(pack, change)
    assert any(pack.name in problem and "bytes where the index needs" in problem for problem in found(filled))


def test_a_missing_pack_of_data_is_found(filled):
    pack = packs(filled)[0]
    pack.unlink()
    assert found(filled) == [f"pack {pack.name} is missing"]


def test_a_pack_in_a_directory_that_is_not_its_own_is_missing(filled):
    pack = packs(filled)[0]
    pack.rename(filled / "data" / ("00" if pack.parent.name != "00" else "01") / pack.name)
    assert f"pack {pack.name} is missing" in found(filled)


def test_what_is_no_pack_among_the_packs_is_a_note(filled):
    packs(filled)[0].with_name("not a pack").write_bytes(b"")
    report = check(Repository.open(open_store(str(filled)), PASSWORD))
    assert (report.problems, report.notes) == ([], ["not a pack among the packs is no pack"])


def test_a_missing_pack_of_trees_is_found_with_the_trees_in_it(filled):
    pack = packs(filled)[1]
    pack.unlink()
    problems = found(filled)
    assert f"pack {pack.name} is missing" in problems
    assert any(problem.startswith("tree ") for problem in problems)


def test_a_missing_index_is_found(filled):
    next((filled / "index").iterdir()).unlink()
    assert any("not in the index" in problem for problem in found(filled))


@pytest.mark.parametrize("kind", ["index", "snapshots"])
def test_a_damaged_file_is_found_and_named(filled, kind):
    damaged = next((filled / kind).iterdir())
    rewrite(damaged, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert any(damaged.name in problem for problem in found(filled))


def test_what_a_run_left_that_was_cut_off_is_a_note_and_no_problem(filled):
    (filled / "data" / "00" / ("00" * 32)).write_bytes(b"left")
    report = check(Repository.open(open_store(str(filled)), PASSWORD))
    assert (report.problems, len(report.notes)) == ([], 1)


def test_a_backup_that_ends_beside_a_check_is_no_damage(filled, tmp_path, monkeypatch):
    real = _Check.check_packs

    def check_packs(self):
        sizes = real(self)
        (tmp_path / "plain" / "new").write_bytes(b"new")
        backup(Repository.open(open_store(str(filled)), PASSWORD), [tmp_path / "plain"], host="h")
        return sizes

    monkeypatch.setattr(_Check, "check_packs", check_packs)
    assert found(filled) == []


def test_a_check_holds_a_lock_and_can_be_cancelled(filled):
    cancel, seen = threading.Event(), []
    cancel.set()
    repository = Repository.open(open_store(str(filled)), PASSWORD)
    delete = repository.store.delete
    repository.store.delete = lambda kind, name: (seen.append(kind.value), delete(kind, name))
    with pytest.raises(Cancelled):
        check(repository, cancel=cancel)
    assert seen == ["locks"]
