"""Whatever happens to any file of a repository: a check that reads the data finds it, and a restore writes no wrong byte."""

import os
import shutil
from itertools import pairwise

import pytest

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.key import add_key
from engine.commands.restore import restore
from engine.errors import EngineError
from engine.keys import DerivedKeys
from engine.repository import Repository
from tests.engine.conftest import PASSWORD
from tests.engine.faulty_store import MemoryStore

KINDS = ("config", "keys", "index", "snapshots", "data")
# So that the password is derived once for all.
DERIVED: DerivedKeys = {}


def opened(files):
    return Repository.open(MemoryStore(files), PASSWORD, DERIVED)


def fill(location, source):
    """Take two snapshots, each with a pack of data and one of trees, and add a second key; return all files and the last id."""
    source.mkdir()
    repository = Repository.open(open_store(str(location)), PASSWORD)
    for number in range(2):
        (source / f"small-{number}").write_bytes(os.urandom(5000))
        (source / f"large-{number}").write_bytes(os.urandom(700_000))
        last = backup(repository, [source], host="h").snapshot_id
    add_key(repository, "another")
    files = {str(path.relative_to(location)): path.read_bytes() for path in location.rglob("*") if path.is_file()}
    return files, last


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tmp_path_factory.mktemp("damage") / "source"


@pytest.fixture(scope="module")
def filled(empty_repository, tmp_path_factory, source):
    return fill(shutil.copytree(empty_repository, tmp_path_factory.mktemp("sound") / "repository"), source)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The files of another repository with the same password."""
    home = tmp_path_factory.mktemp("foreign")
    Repository.init(open_store(str(home / "repository")), PASSWORD)
    return fill(home / "repository", home / "source")[0]


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "first bit": lambda content, others: flipped(content, 0),
    "a bit in the middle": lambda content, others: flipped(content, len(content) // 2),
    "last bit": lambda content, others: flipped(content, len(content) - 1),
    "cut": lambda content, others: content[:-1],
    "longer": lambda content, others: content + b"\0",
    "empty": lambda content, others: b"",
    "foreign": lambda content, others: others[0],
}


def of_kind(files, kind):
    return [path for path in sorted(files) if path.split("/")[0] == kind]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_whose_content_is_another_is_found_and_nothing_wrong_is_restored(filled, foreign, source, tmp_path, kind, damage):
    files, last = filled
    others = [foreign[path] for path in of_kind(foreign, kind)]
    for path in of_kind(files, kind):
        damaged = files | {path: DAMAGES[damage](files[path], others)}
        assert is_found(damaged), path
        assert_nothing_wrong_is_restored(damaged, last, source, tmp_path / "target")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_files_that_changed_places_are_found_and_nothing_wrong_is_restored(filled, source, tmp_path, kind):
    files, last = filled
    paths = of_kind(files, kind)
    for one, other in pairwise(paths):
        damaged = files | {one: files[other], other: files[one]}
        assert is_found(damaged), (one, other)
        assert_nothing_wrong_is_restored(damaged, last, source, tmp_path / "target")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_missing_is_found_if_anything_tells_of_it_and_nothing_wrong_is_restored(filled, source, tmp_path, kind):
    files, last = filled
    for path in of_kind(files, kind):
        damaged = {name: content for name, content in files.items() if name != path}
        # Nothing tells that there was another key, or another snapshot.
        assert is_found(damaged) or kind in ("keys", "snapshots"), path
        assert_nothing_wrong_is_restored(damaged, last, source, tmp_path / "target")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_foreign_file_beside_ours_changes_nothing_that_is_restored(filled, foreign, source, tmp_path, kind):
    files, last = filled
    for path in of_kind(foreign, kind):
        assert_nothing_wrong_is_restored(files | {path: foreign[path]}, last, source, tmp_path / "target")


def is_found(files):
    try:
        return check(opened(files), read_data=True).problems != []
    except EngineError:
        return True


def assert_nothing_wrong_is_restored(files, snapshot, source, target):
    told = set()
    try:
        restore(opened(files), snapshot, str(target), on_error=lambda path, why: told.add(os.fsdecode(path)))
    except EngineError:
        told.add("/")
    for path in source.iterdir():
        restored = target / path.relative_to("/")
        if restored.exists():
            assert restored.read_bytes() == path.read_bytes()
        else:
            assert told & {str(path), *map(str, path.parents)}, "what is missing is told, itself or by a directory above it"
    shutil.rmtree(target, ignore_errors=True)
