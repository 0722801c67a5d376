"""Key files open with their password alone, with restic as with the engine."""

import hashlib
import json
import shutil

import pytest

from engine.backends import open_store
from engine.crypto import KeyMaterial
from engine.errors import DataDamaged, RepositoryNotFound, TooLarge, WrongPassword
from engine.keys import SCRYPT_N, WORK_LIMIT, WORK_LIMIT_OF_ALL, KeyFile, add_key, open_key
from engine.repository import Repository
from engine.store import FileKind


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "keys only"))
    store.create()
    return store


def test_each_password_opens_the_same_keys_and_no_other_does(store):
    material = KeyMaterial.generate()
    first, second = add_key(store, "öne", material), add_key(store, "two", material)
    assert open_key(store, "öne") == first
    assert open_key(store, "two") == second
    assert first.material == second.material
    with pytest.raises(WrongPassword):
        open_key(store, "three")


@pytest.mark.restic
def test_restic_opens_our_key_and_we_the_one_it_adds(location, tmp_path, restic, monkeypatch):
    # What the tests' keys cost is not what a user's do.
    monkeypatch.setattr("engine.keys.SCRYPT_N", SCRYPT_N)
    shutil.rmtree(location)
    Repository.init(open_store(str(location)), "secret")
    (key,) = (location / "keys").iterdir()
    assert json.loads(key.read_bytes())["N"] == 1 << 15
    (tmp_path / "new password").write_text("nouveau")
    restic(location, "key", "add", "--new-password-file", tmp_path / "new password")
    ours, theirs = (Repository.open(open_store(str(location)), word) for word in ("secret", "nouveau"))
    assert ours.key.material == theirs.key.material
    assert ours.key_name != theirs.key_name


def test_a_damaged_key_file_does_not_hide_a_sound_one(store):
    store.put(FileKind.KEYS, "0" * 64, b"{not json")
    with pytest.raises(DataDamaged):
        open_key(store, "word")
    sound = add_key(store, "word", KeyMaterial.generate())
    assert open_key(store, "word") == sound


ABSURD = [
    {"N": 1 << 40}, {"N": 1 << 30}, {"N": 12345}, {"N": "x"}, {"N": -8}, {"N": 1e999}, {"N": 10**400}, {"N": 1 << 19}, {"r": 0},
    {"r": 1 << 20}, {"p": 0}, {"p": 10**6}, {"N": 1 << 18, "p": 9}, {"kdf": "md5"}, {"kdf": []}, {"salt": 5}, {"data": None},
]  # fmt: skip


@pytest.mark.parametrize("change", ABSURD)
def test_a_key_file_that_asks_for_absurd_work_is_damaged(store, change):
    name = add_key(store, "word", KeyMaterial.generate()).name
    fields = json.loads(store.get(FileKind.KEYS, name))
    store.delete(FileKind.KEYS, name)
    store.put(FileKind.KEYS, name, json.dumps(fields | change).encode())
    with pytest.raises(DataDamaged):
        open_key(store, "word")


def test_keys_that_would_take_very_long_to_try_are_given_up(store, monkeypatch):
    tried = []
    monkeypatch.setattr(KeyFile, "open", lambda key, password, derived: tried.append(key))
    fields = {"kdf": "scrypt", "N": 1 << 15, "r": 8, "p": WORK_LIMIT, "salt": "", "data": ""}
    for number in range(10):
        store.put(FileKind.KEYS, f"{number:064x}", json.dumps(fields).encode())
    with pytest.raises(TooLarge, match="10 keys"):
        open_key(store, "word")
    assert len(tried) == WORK_LIMIT_OF_ALL // WORK_LIMIT


def test_very_many_keys_that_ask_for_little_are_given_up_too(store, monkeypatch):
    tried = []
    monkeypatch.setattr(KeyFile, "open", lambda key, password, derived: tried.append(key))
    for number in range(WORK_LIMIT_OF_ALL + 10):
        fields = {"kdf": "scrypt", "N": 2, "r": 1, "p": 1, "salt": "", "data": ""}
        store.put(FileKind.KEYS, f"{number:064x}", json.dumps(fields).encode())
    with pytest.raises(TooLarge):
        open_key(store, "word")
    assert len(tried) == WORK_LIMIT_OF_ALL


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b'{"N":1}', b"\xff", b'{"salt":"\xc3\xa9","data":""}'])
def test_what_is_no_key_file_is_damage(content):
    with pytest.raises(DataDamaged):
        KeyFile.parse(content)


def test_a_place_without_keys_is_no_repository(store):
    with pytest.raises(RepositoryNotFound):
        open_key(store, "word")


def test_the_password_is_in_no_key_file(store):
    name = add_key(store, "a long password", KeyMaterial.generate()).name
    assert b"a long password" not in store.get(FileKind.KEYS, name)


def test_what_a_password_was_derived_to_opens_its_key_again_without_deriving_and_no_other_password_does(store, monkeypatch):
    first, derived = add_key(store, "word", KeyMaterial.generate()), {}
    assert open_key(store, "word", derived) == first
    counted, scrypt = [], hashlib.scrypt
    monkeypatch.setattr(hashlib, "scrypt", lambda *args, **more: counted.append(args[0]) or scrypt(*args, **more))
    assert open_key(store, "word", derived) == first
    assert counted == []
    with pytest.raises(WrongPassword):
        open_key(store, "other", derived)
    assert len(derived) == 1, "a password that opens nothing is not worth keeping"


def test_a_password_that_was_changed_is_noticed_though_the_key_of_the_old_one_is_kept(store):
    old, derived = add_key(store, "word", KeyMaterial.generate()), {}
    open_key(store, "word", derived)
    add_key(store, "new", old.material)
    store.delete(FileKind.KEYS, old.name)
    with pytest.raises(WrongPassword):
        open_key(store, "word", derived)
    assert open_key(store, "new", derived).material == old.material
