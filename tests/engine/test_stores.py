"""Every store keeps the same promises, in a directory as in a bucket of a real object store."""

import os
import threading
from pathlib import Path

import pytest

from engine.backends import Credentials, open_store
from engine.bounds import FILE_BYTES
from engine.errors import BucketMissing, EngineError, FileMissing, StoreError, TooLarge
from engine.store import FileKind
from tests.services.s3 import object_store

NAME = "ab" + "0" * 62


@pytest.fixture(scope="module")
def ceph_user(request):
    gateway = request.getfixturevalue("ceph_endpoint")
    return gateway.url, Credentials(*gateway.make_user("engine-stores"))


@pytest.fixture(scope="module")
def memory_user():
    with object_store() as server:
        yield server.url, Credentials("key", "secret")


LIMITS = {"limit_upload": 1 << 30, "limit_download": 1 << 30}


@pytest.fixture(
    params=[
        "directory",
        "limited directory",
        "memory",
        "limited memory",
        pytest.param("ceph", marks=pytest.mark.ceph),
        pytest.param("limited ceph", marks=pytest.mark.ceph),
        pytest.param("prefix ceph", marks=pytest.mark.ceph),
    ]
)
def place(request, tmp_path):
    """Return a function that opens the place again; `elsewhere` names one that does not exist."""
    limits = LIMITS if "limited" in request.param else {}
    if "directory" in request.param:
        return lambda name="repository": open_store(str(tmp_path / name), **limits)
    url, keys = request.getfixturevalue(f"{request.param.split()[-1]}_user")
    bucket = f"stores-{os.urandom(4).hex()}"
    prefix = "/a/b" if "prefix" in request.param else ""
    return lambda name="": open_store(f"s3:{url}/{bucket}{name}{prefix}", credentials=keys, **limits)


@pytest.fixture
def store(place):
    store = place()
    store.create()
    yield store
    store.close()


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.CONFIG])
def test_what_is_put_is_there_until_it_is_deleted(store, place, kind):
    assert not store.exists(kind, NAME)
    store.put(kind, NAME, b"content")
    assert store.exists(kind, NAME)
    assert place().get(kind, NAME) == b"content"
    assert list(store.list(kind)) == [(NAME, 7)]
    store.delete(kind, NAME)
    assert not store.exists(kind, NAME)
    assert list(store.list(kind)) == []


def test_the_configuration_has_no_name(store):
    assert list(store.list(FileKind.CONFIG)) == []
    store.put(FileKind.CONFIG, "", b"content")
    assert store.exists(FileKind.CONFIG, "")
    assert store.get(FileKind.CONFIG, "") == b"content"
    assert [size for _, size in store.list(FileKind.CONFIG)] == [7]


@pytest.mark.parametrize("data", [b"", bytearray(b"some bytes"), memoryview(b"a view"), os.urandom(17 << 20)])
def test_any_buffer_comes_back_as_it_was(store, data):
    store.put(FileKind.DATA, NAME, data)
    assert store.get(FileKind.DATA, NAME) == bytes(data)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 4, b"0123"), (3, 2, b"34"), (8, 10, b"89"), (10, 5, b""), (50, 5, b""), (0, 0, b"")],
)
def test_a_range_is_read_and_ends_with_the_file(store, offset, length, expected):
    store.put(FileKind.DATA, NAME, b"0123456789")
    assert store.get_range(FileKind.DATA, NAME, offset, length) == expected


def test_a_file_larger_than_any_program_writes_is_not_read(store):
    store.put(FileKind.LOCKS, NAME, bytes(FILE_BYTES[FileKind.LOCKS]))
    assert len(store.get(FileKind.LOCKS, NAME)) == FILE_BYTES[FileKind.LOCKS]
    store.put(FileKind.LOCKS, NAME, bytes(FILE_BYTES[FileKind.LOCKS] + 1))
    with pytest.raises(TooLarge, match=f"locks file {NAME} has {FILE_BYTES[FileKind.LOCKS] + 1} bytes"):
        store.get(FileKind.LOCKS, NAME)


@pytest.mark.parametrize("kind", [FileKind.KEYS, FileKind.LOCKS, FileKind.SNAPSHOTS, FileKind.INDEX])
def test_what_has_no_name_of_a_repositorys_file_is_not_listed(store, kind):
    for name in ("README", "Thumbs.db", NAME.upper(), NAME[1:], f"{NAME}0", NAME):
        store.put(kind, name, b"content")
    assert list(store.list(kind)) == [(NAME, 7)]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    store = open_store(str(tmp_path))
    os.mkfifo(tmp_path / "config")
    with pytest.raises(StoreError, match="is no file"):
        store.get(FileKind.CONFIG, "")
    with pytest.raises(StoreError, match="is no file"):
        store.get_range(FileKind.CONFIG, "", 0, 5)


def test_a_pack_that_cannot_be_read_by_its_name_is_not_listed():
    with object_store() as server:
        store = open_store(f"s3:{server.url}/a-bucket", credentials=Credentials("key", "secret"))
        store.create()
        store.put(FileKind.DATA, NAME, b"content")
        for key in (f"data/00/{NAME}", f"data/{NAME}", f"data/ab/deeper/{NAME}", f"index/deeper/{NAME}"):
            store._client.put_object(Bucket="a-bucket", Key=key, Body=b"content")
        assert list(store.list(FileKind.DATA)) == [(NAME, 7)]
        assert list(store.list(FileKind.INDEX)) == []


def test_a_file_that_is_not_there_is_missing_and_may_be_deleted(store):
    with pytest.raises(FileMissing, match=NAME):
        store.get(FileKind.INDEX, NAME)
    with pytest.raises(FileMissing):
        store.get_range(FileKind.DATA, NAME, 0, 5)
    store.delete(FileKind.INDEX, NAME)


def test_making_a_place_twice_keeps_what_is_in_it(store, place):
    store.put(FileKind.DATA, NAME, b"content")
    place().create()
    assert store.get(FileKind.DATA, NAME) == b"content"


def test_a_place_that_does_not_exist_is_told_as_such(place):
    absent = place("elsewhere")
    with pytest.raises((BucketMissing, FileMissing)):
        absent.get(FileKind.CONFIG, "")
    with pytest.raises(BucketMissing):
        absent.put(FileKind.INDEX, NAME, b"content")


def test_many_threads_may_use_one_store(store):
    def work(number):
        name = f"{number:02x}" * 32
        store.put(FileKind.DATA, name, name.encode())
        found[number] = store.get(FileKind.DATA, name) == name.encode()

    found = {}
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(16), True)
    assert len(list(store.list(FileKind.DATA))) == 16


def test_a_pack_appears_with_its_name(store):
    upload = store.begin_pack()
    piece = bytearray(b"one ")
    upload.write(piece)
    piece[:] = b"else"
    upload.write(memoryview(b"two"))
    assert list(store.list(FileKind.DATA)) == []
    upload.finish(NAME)
    assert store.get(FileKind.DATA, NAME) == b"one two"


def test_a_pack_that_is_abandoned_leaves_nothing(store):
    upload = store.begin_pack()
    upload.write(b"content")
    upload.abandon()
    upload.abandon()
    assert list(store.list(FileKind.DATA)) == []


def test_a_pack_that_is_abandoned_leaves_no_file(tmp_path):
    store = open_store(str(tmp_path))
    store.create()
    upload = store.begin_pack()
    upload.write(b"content")
    assert [name for _, _, names in os.walk(tmp_path / "data") for name in names] != []
    upload.abandon()
    assert [name for _, _, names in os.walk(tmp_path / "data") for name in names] == []


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.CONFIG])
def test_what_is_being_written_is_not_listed_though_it_be_restics(tmp_path, kind):
    store = open_store(str(tmp_path))
    store.put(kind, NAME, b"whole")
    place = next(tmp_path.rglob(NAME)).parent
    for name in (f"{NAME}-tmp-3886367736", ".partial-0123"):
        (place / name).write_bytes(b"half")
    assert list(store.list(kind)) == [(NAME, 5)]


def test_another_process_opens_the_same_place(store):
    store.put(FileKind.DATA, NAME, b"content")
    again = store.reopened()
    assert again.location == store.location
    assert again.get(FileKind.DATA, NAME) == b"content"
    again.close()


def test_a_file_that_cannot_be_written_whole_does_not_appear(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "repository"))
    store.create()
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(EngineError, match="Input/output error"):
        store.put(FileKind.INDEX, NAME, b"content")
    assert os.listdir(tmp_path / "repository" / "index") == []


def test_what_writes_that_were_cut_off_have_left_is_deleted_and_nothing_else(store):
    for kind in (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOTS, FileKind.LOCKS):
        store.put(kind, NAME, b"content")
    store.begin_pack().write(b"a part of a pack")
    if not store.location.startswith("s3:"):
        (Path(store.location) / "index" / f"{NAME}-tmp-1234").write_bytes(b"left by restic")
    store.delete_remains()
    assert [list(store.list(kind)) for kind in (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOTS)] == [[(NAME, 7)]] * 3
    if not store.location.startswith("s3:"):
        assert [names for _, _, names in os.walk(store.location) if names] == [[NAME]] * 4


def test_a_file_that_goes_during_a_listing_hides_no_other(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "repository"))
    store.create()
    names = {f"{number:064x}" for number in range(20)}
    for name in names:
        store.put(FileKind.LOCKS, name, b"content")
    listing = store.list(FileKind.LOCKS)
    first, _ = next(listing)
    gone = sorted(names - {first})[:10]
    for name in gone:
        store.delete(FileKind.LOCKS, name)
    assert {name for name, _ in listing} == names - {first} - set(gone)


@pytest.mark.parametrize(
    "address", ["", "s3:", "s3:http://host", "s3:ftp://host/bucket", "s3:http://key:secret@host/bucket", "a\0b"]
)
def test_an_address_of_no_known_form_is_refused(address):
    with pytest.raises(EngineError) as raised:
        open_store(address)
    assert "secret" not in str(raised.value)


def test_keys_show_in_no_representation():
    assert "hidden" not in repr(Credentials("name", "hidden", "hidden"))
