"""Keys come and go with their passwords, never the last one, and restic opens what we lock."""

import getpass
import json
import sys
from datetime import UTC, datetime

import pytest

from engine import keys
from engine.backends import open_store
from engine.commands.key import add_key, change_password, list_keys, remove_key
from engine.errors import DataDamaged, EngineError, RepositoryLocked, StoreUnreachable, WrongPassword
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.conftest import PASSWORD

NEW = 'nöuveau "mot" $&\''


@pytest.fixture
def new_password_file(tmp_path):
    file = tmp_path / "new password"
    file.write_text(NEW + "\n", encoding="utf-8")
    return file


def opens(location, password):
    try:
        return Repository.open(open_store(str(location)), password).key_name
    except WrongPassword:
        return None


def ids(repository):
    return {key.id for key in list_keys(repository, pytest.fail)}


def test_an_added_key_opens_the_same_repository_beside_the_first(repository, location):
    added = add_key(repository, NEW, username="somebody", hostname="elsewhere")
    assert (opens(location, NEW), opens(location, PASSWORD)) == (added, repository.key_name)
    assert Repository.open(open_store(str(location)), NEW).key.material == repository.key.material
    first, second = list_keys(repository, pytest.fail)
    assert (first.id, first.is_current, first.username) == (repository.key_name, True, getpass.getuser())
    assert (second.id, second.is_current, second.username, second.hostname) == (added, False, "somebody", "elsewhere")
    assert first.created < second.created <= datetime.now(UTC)


def test_a_removed_key_opens_nothing_any_more(repository, location):
    added = add_key(repository, NEW)
    assert remove_key(repository, added[:10]) == added
    assert (opens(location, NEW), ids(repository)) == (None, {repository.key_name})


def test_the_key_in_use_stays(repository):
    with pytest.raises(EngineError, match="cannot be removed"):
        remove_key(repository, repository.key_name[:8])
    assert ids(repository) == {repository.key_name}


def test_who_was_opened_with_a_key_that_is_gone_does_not_remove_the_last_one(repository, location):
    other = add_key(repository, NEW)
    remove_key(Repository.open(open_store(str(location)), NEW), repository.key_name)
    with pytest.raises(EngineError, match="is gone"):
        remove_key(repository, other)
    assert ids(repository) == {other}


def test_a_key_to_remove_is_named_by_one_id(repository):
    name = repository.key_name
    other = name[:20] + ("1" if name[20] == "0" else "0") * 44
    repository.store.put(FileKind.KEYS, other, b"{}")
    for key_id, sentence in (("", "there is no key ''"), ("g", "there is no key 'g'"), (name[:20], "it begins 2 ids")):
        with pytest.raises(EngineError, match=sentence):
            remove_key(repository, key_id)
    remove_key(repository, other[:21])
    assert ids(repository) == {name}


def test_a_changed_password_opens_in_place_of_the_old_one(repository, location):
    added = change_password(repository, NEW)
    assert (opens(location, PASSWORD), opens(location, NEW), repository.key_name) == (None, added, added)
    assert ids(repository) == {added}


def test_a_change_of_password_that_is_cut_off_leaves_both_keys(repository, location, monkeypatch):
    delete = repository.store.delete

    def delete_locks_only(kind, name):
        if kind is FileKind.KEYS:
            raise StoreUnreachable("cut off")
        delete(kind, name)

    monkeypatch.setattr(repository.store, "delete", delete_locks_only)
    with pytest.raises(StoreUnreachable):
        change_password(repository, NEW)
    assert opens(location, PASSWORD) == repository.key_name
    assert opens(location, NEW) is not None


@pytest.mark.parametrize("change", [add_key, change_password])
def test_a_key_that_does_not_open_is_taken_back_before_the_old_one_goes(repository, monkeypatch, change):
    monkeypatch.setattr(keys.KeyFile, "open", lambda *_: None)
    with pytest.raises(DataDamaged, match="the new key does not open the repository"):
        change(repository, NEW)
    assert ids(repository) == {repository.key_name}


@pytest.mark.parametrize("change", [add_key, change_password])
def test_an_empty_password_is_refused(repository, change):
    with pytest.raises(EngineError, match="the new password is empty"):
        change(repository, "")
    assert ids(repository) == {repository.key_name}


def test_keys_are_not_taken_away_under_a_running_backup_but_may_be_added(repository, location):
    with Repository.open(open_store(str(location)), PASSWORD).lock():
        added = add_key(repository, NEW)
        for take_away in (lambda: remove_key(repository, added), lambda: change_password(repository, "third")):
            with pytest.raises(RepositoryLocked):
                take_away()
        assert ids(repository) == {repository.key_name, added}


def test_damaged_keys_are_told_beside_the_sound_ones_and_a_date_may_be_missing(repository, engine):
    store = repository.store
    fields = json.loads(store.get(FileKind.KEYS, repository.key_name))
    del fields["created"]
    store.put(FileKind.KEYS, "1" * 64, json.dumps(fields | {"username": None}).encode())
    store.put(FileKind.KEYS, "2" * 64, b"{")
    told = []
    undated, dated = list_keys(repository, told.append)
    assert (undated.id, undated.created, undated.username, dated.id) == ("1" * 64, None, "", repository.key_name)
    assert told == [f"key {'2' * 64}: a key file is damaged"]
    status, out, err = engine("key", "list")
    assert (status, len(out.splitlines()), err.decode()) == (0, 3, told[0] + "\n")


def test_the_command_reads_the_new_password_from_a_file_and_never_shows_it(engine, location, new_password_file):
    status, out, err = engine("key", "add", "--new-password-file", new_password_file, "--user", "u", "--host", "h")
    assert (status, err, NEW.encode() in out) == (0, b"", False)
    added = opens(location, NEW)
    assert out.decode() == f"saved new key with ID {added}\n"
    _, out, _ = engine("key", "list")
    assert out.decode().splitlines()[0].split() == ["ID", "User", "Host", "Created"]
    assert any(line.startswith(f" {added[:8]}  u ") for line in out.decode().splitlines())
    assert any(line.startswith("*") for line in out.decode().splitlines())
    assert engine("key", "remove", added) == (0, f"removed key {added}\n".encode(), b"")
    status, out, _ = engine("key", "passwd", "--new-password-file", new_password_file, "--json")
    assert (status, json.loads(out)) == (0, {"message_type": "summary", "action": "passwd", "id": opens(location, NEW)})


def test_the_command_asks_twice_on_a_terminal_and_fails_without_one(engine, location, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert engine("key", "add") == (1, b"", b"engine: a new password is needed: give --new-password-file\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter([NEW, "mistyped", NEW, NEW])
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(answers))
    assert engine("key", "add") == (1, b"", b"engine: the passwords are not the same\n")
    status, out, _ = engine("key", "add")
    assert (status, out.decode()) == (0, f"saved new key with ID {opens(location, NEW)}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["remove"], "key remove takes the id of a key"),
        (["list", "0123"], "list, add and passwd take none"),
        (["list", "--user", "u"], "are of key add and key passwd"),
        (["remove", "0123", "--new-password-file", "f"], "are of key add and key passwd"),
        (["add", "--new-password-file", "/nonexistent"], "/nonexistent: No such file or directory"),
        (["passwd", "--new-password-file", "/dev/null"], "the new password is empty"),
    ],
)
def test_words_that_make_no_sense_change_nothing(engine, repository, words, sentence):
    status, out, err = engine("key", *words)
    assert (status, out, sentence in err.decode()) == (1, b"", True)
    assert ids(repository) == {repository.key_name}


@pytest.mark.restic
def test_restic_lists_our_keys_as_we_do(engine, location, restic, new_password_file):
    engine("key", "add", "--new-password-file", new_password_file, "--user", "<u> ü", "--host", "h")
    ours, theirs = (
        # Before 0.16 restic shows ids in short.
        {key.pop("id")[:8]: key for key in json.loads(listed)}
        for listed in (engine("key", "list", "--json")[1], restic(location, "key", "list", "--json"))
    )
    assert ours == theirs
    assert {key["userName"] for key in ours.values()} == {getpass.getuser(), "<u> ü"}


@pytest.mark.restic
def test_restic_opens_with_a_password_that_we_changed_and_we_with_one_that_it_changes(
    repository, location, restic, new_password_file, tmp_path
):
    change_password(repository, NEW)
    (tmp_path / "third").write_text("third")
    as_changed = ("--password-file", new_password_file)
    restic(location, *as_changed, "check")
    restic(location, *as_changed, "key", "passwd", "--new-password-file", tmp_path / "third")
    assert (opens(location, NEW), opens(location, "third") in ids(repository)) == (None, True)


@pytest.mark.restic
def test_restic_does_not_open_with_a_password_whose_key_we_removed(repository, location, restic, new_password_file):
    restic(location, "key", "add", "--new-password-file", new_password_file)
    (added,) = ids(repository) - {repository.key_name}
    restic(location, "--password-file", new_password_file, "snapshots")
    remove_key(repository, added)
    with pytest.raises(AssertionError, match="wrong password"):
        restic(location, "--password-file", new_password_file, "snapshots")
