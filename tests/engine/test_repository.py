"""A repository that we make is one for restic, opens with its password alone, and shows every damage."""

import hashlib
import os
import threading

import pytest

from engine.backends import open_store
from engine.blob import BlobType
from engine.errors import (
    BlobMissing,
    DataDamaged,
    RepositoryExists,
    RepositoryNotFound,
    TooLarge,
    UnsupportedRepository,
    WrongPassword,
)
from engine.polynomial import is_irreducible
from engine.repository import Repository, RepositoryConfig
from engine.store import FileKind
from tests.engine.conftest import PASSWORD


def opened(location):
    repository = Repository.open(open_store(str(location)), PASSWORD)
    repository.load_index()
    return repository


def add(repository, *contents):
    with repository.writer() as writer:
        return [writer.add_blob(BlobType.DATA, hashlib.sha256(content).digest(), content) for content in contents]


def flip(path, at):
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.restic
@pytest.mark.parametrize("version", [1, 2])
def test_restic_finds_a_new_repository_sound(tmp_path, restic, version):
    repository = Repository.init(open_store(str(tmp_path / "new")), PASSWORD, version=version)
    add(repository, b"text " * 1000, os.urandom(5000))
    assert "no errors were found" in restic(tmp_path / "new", "check", "--read-data")
    assert is_irreducible(int(repository.config.chunker_polynomial, 16))


@pytest.mark.restic
@pytest.mark.parametrize("version", [1, 2])
def test_we_open_what_restic_made(tmp_path, restic, version):
    restic(tmp_path / "new", "init", "--repository-version", str(version))
    assert opened(tmp_path / "new").config.version == version


def test_a_repository_is_not_made_over_another(location):
    with pytest.raises(RepositoryExists):
        Repository.init(open_store(str(location)), "another")
    with pytest.raises(UnsupportedRepository):
        Repository.init(open_store(str(location)), "another", version=3)


def test_one_whose_maker_died_before_it_was_whole_is_finished_by_who_has_its_password(location):
    (location / "config").unlink()
    with pytest.raises(RepositoryExists):
        Repository.init(open_store(str(location)), "another")
    made = Repository.init(open_store(str(location)), PASSWORD)
    assert Repository.open(open_store(str(location)), PASSWORD).config == made.config
    assert len(list((location / "keys").iterdir())) == 1


def test_a_wrong_password_and_an_empty_place_are_told_apart(location, tmp_path):
    with pytest.raises(WrongPassword):
        Repository.open(open_store(str(location)), "wrong")
    with pytest.raises(RepositoryNotFound):
        Repository.open(open_store(str(tmp_path / "nothing")), PASSWORD)


def test_a_blob_is_stored_once_and_read_back_by_another_process(location):
    content = b"content" * 100
    assert add(opened(location), content, content) == [True, False]
    repository = opened(location)
    assert add(repository, content) == [False]
    assert repository.load_blob(BlobType.DATA, hashlib.sha256(content).digest()) == content
    with pytest.raises(BlobMissing):
        repository.load_blob(BlobType.TREE, hashlib.sha256(content).digest())


@pytest.mark.parametrize("at", [0, 20, -1])
@pytest.mark.parametrize("kind", ["config", "index"])
def test_a_flipped_bit_in_configuration_or_index_is_damage(location, kind, at):
    add(opened(location), b"content")
    flip(location / "config" if kind == "config" else next((location / "index").iterdir()), at)
    with pytest.raises(DataDamaged):
        opened(location)


@pytest.mark.parametrize("at", [0, 20, 40])
def test_a_flipped_bit_in_a_blob_is_damage(location, at):
    content = os.urandom(100)
    add(opened(location), content)
    flip(next((location / "data").glob("*/*")), at)
    with pytest.raises(DataDamaged):
        opened(location).load_blob(BlobType.DATA, hashlib.sha256(content).digest())


def test_one_index_file_under_the_name_of_another_is_damage(location):
    repository = opened(location)
    add(repository, b"first")
    first = next((location / "index").iterdir())
    add(repository, b"second")
    second = next(path for path in (location / "index").iterdir() if path != first)
    second.chmod(0o600)
    second.write_bytes(first.read_bytes())
    with pytest.raises(DataDamaged, match="altered"):
        opened(location)


def test_a_long_run_begins_new_index_files(location, monkeypatch):
    monkeypatch.setattr("engine.writer.BLOBS_PER_FILE", 10)
    monkeypatch.setattr("engine.packer.PACK_SIZE", 1000)
    contents = [os.urandom(200) for _ in range(100)]
    add(opened(location), *contents)
    assert len(list((location / "index").iterdir())) > 3
    repository = opened(location)
    assert add(repository, *contents) == [False] * 100


def test_a_run_that_fails_leaves_nothing_that_is_named(location):
    def fail():
        with opened(location).writer() as writer:
            writer.add_blob(BlobType.DATA, hashlib.sha256(b"x").digest(), b"x")
            raise RuntimeError("the run ends here")

    with pytest.raises(RuntimeError):
        fail()
    assert len(opened(location).index) == 0


@pytest.mark.restic
def test_writers_beside_each_other_keep_each_others_blobs(location, restic):
    shared = [b"%d" % number * 50 for number in range(50)]

    def work(own):
        add(opened(location), *shared, *(own + content for content in shared))

    threads = [threading.Thread(target=work, args=(own,)) for own in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened(location).index) == 200
    assert "no errors were found" in restic(location, "check", "--read-data")


def test_threads_of_one_writer_store_each_blob_once(location):
    contents = [b"%d" % number * 50 for number in range(300)]
    new = []
    with opened(location).writer() as writer:

        def work():
            for content in contents:
                new.append(writer.add_blob(BlobType.DATA, hashlib.sha256(content).digest(), content))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert new.count(True) == 300
    assert len(opened(location).index) == 300


def test_a_claim_is_forgotten_when_the_index_has_the_blob(location):
    """Else a backup of millions of new blobs would remember each, at several times the memory of the index."""
    blob_id = hashlib.sha256(b"content").digest()
    with opened(location).writer() as writer:
        assert writer.add_blob(BlobType.DATA, blob_id, b"content")
        assert not writer.claim(BlobType.DATA, blob_id)
        writer.flush()
        assert not writer.indexing._claimed
        assert not writer.claim(BlobType.DATA, blob_id)


def test_nothing_readable_is_stored(location):
    add(opened(location), b"a very secret sentence")
    repository = opened(location)
    repository.save_file(FileKind.SNAPSHOTS, b'{"a very secret":"sentence"}')
    stored = b"".join(path.read_bytes() for path in location.rglob("*") if path.is_file())
    assert b"secret" not in stored
    assert PASSWORD.encode() not in stored


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff", b'{"version":1e999,"id":"a","chunker_polynomial":"b"}',
     b'{"version":[],"id":"a","chunker_polynomial":"b"}'],
)  # fmt: skip
def test_what_is_no_configuration_is_damage(content):
    with pytest.raises(DataDamaged):
        RepositoryConfig.decode(content)


def test_an_index_file_that_grows_more_than_ids_can_is_refused(repository, location):
    plaintext = b'{"packs":[' + b" " * (1 << 20) + b"]}"
    name = repository.save_file(FileKind.INDEX, plaintext)
    assert (location / "index" / name).stat().st_size < 1000
    with pytest.raises(TooLarge, match=name):
        repository.load_file(FileKind.INDEX, name)


def test_files_that_are_loaded_one_after_another_come_in_their_order(repository):
    names = [repository.save_file(FileKind.INDEX, b'{"packs":[]}' + b" " * number) for number in range(20)]
    loaded = list(repository.load_files(FileKind.INDEX, dict.fromkeys(names, 100)))
    assert [name for name, _ in loaded] == names
    assert [len(content) for _, content in loaded] == list(range(12, 32))
