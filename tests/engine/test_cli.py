"""The command line: verbs, exit statuses, shapes of JSON, and what never shows."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import engine.cli
from engine.cli.main import WORDS_OF_MODULES, parse_arguments
from tests.engine.conftest import PASSWORD


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"some text\n")
    (root / "sub" / "b.log").write_bytes(b"b")
    return root


def only_json(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_repository_is_made_once(engine, tmp_path, monkeypatch):
    status, out, _ = engine("init", "-r", tmp_path / "new", "--json")
    (message,) = only_json(out)
    assert (status, message["message_type"], len(message["id"])) == (0, "initialized", 64)
    status, out, err = engine("init", "-r", tmp_path / "new")
    assert (status, out) == (1, b"")
    assert err.decode() == f"engine: there is a repository at {tmp_path}/new already\n"


def test_backup_restore_and_the_verbs_that_look_work_in_words(engine, source, tmp_path):
    status, out, err = engine("backup", source, "--tag", "one,two", "--host", "box")
    assert (status, err) == (0, b"")
    assert b"files: 2 new, 0 changed, 0 unmodified" in out
    status, out, _ = engine("snapshots")
    assert status == 0
    assert b"box" in out and b"[one,two]" in out and b"1 snapshots" in out  # noqa: PT018
    status, out, _ = engine("ls", "latest", source)
    assert out.decode().splitlines()[1:] == [f"{source}/a.txt", f"{source}/sub", f"{source}/sub/b.log"]
    status, out, _ = engine("restore", f"latest:{source}/sub", "--target", tmp_path / "target", "--verify")
    assert (status, (tmp_path / "target" / str(source)[1:] / "sub" / "b.log").read_bytes()) == (0, b"b")
    assert not (tmp_path / "target" / str(source)[1:] / "a.txt").exists()
    status, out, _ = engine("stats")
    assert (status, b"1 snapshots restore to 2 files" in out) == (0, True)
    status, out, _ = engine("check", "--read-data")
    assert (status, b"no problems found" in out) == (0, True)


def test_json_has_the_fields_that_restic_gives(engine, source, tmp_path):
    status, out, _ = engine("--json", "backup", source)
    summary = only_json(out)[-1]
    assert (status, summary["message_type"], summary["total_files_processed"], summary["files_new"]) == (0, "summary", 2, 2)
    assert {"snapshot_id", "data_added", "total_bytes_processed", "total_duration", "dirs_new"} <= summary.keys()
    _, out, _ = engine("snapshots", "--json")
    ((snapshot,),) = only_json(out)
    assert snapshot["id"] == summary["snapshot_id"]
    assert {"time", "tree", "paths", "hostname", "short_id"} <= snapshot.keys()
    _, out, _ = engine("ls", "--json", "latest")
    head, *nodes = only_json(out)
    assert head["struct_type"] == "snapshot"
    assert {node["struct_type"] for node in nodes} == {"node"}
    assert {"name", "type", "path", "mtime", "uid"} <= nodes[-1].keys()
    _, out, _ = engine("restore", "latest", "-t", tmp_path / "target", "--json")
    assert only_json(out)[-1]["files_restored"] == 2
    _, out, _ = engine("check", "--json")
    assert only_json(out)[-1]["num_errors"] == 0
    _, out, _ = engine("stats", "--json", "latest")
    assert only_json(out)[-1]["total_size"] == 11


def test_snapshots_are_listed_of_a_host_with_a_tag_or_a_path(engine, source):
    for host, tag in (("one", "a"), ("two", "a"), ("two", "b")):
        engine("backup", source, "--host", host, "--tag", tag)

    def listed(*words):
        return [(one["hostname"], one["tags"]) for one in only_json(engine("snapshots", "--json", *words)[1])[0]]

    assert listed("-H", "two", "--tag", "a", "--path", source) == [("two", ["a"])]
    assert listed("--host", "one", "--host", "two") == [("one", ["a"]), ("two", ["a"]), ("two", ["b"])]
    assert listed("--path", "/elsewhere") == []


def test_a_prune_tells_in_restics_shape_and_in_words_what_goes(engine, source, location):
    engine("backup", source)
    for snapshot in (location / "snapshots").iterdir():
        snapshot.unlink()
    status, out, _ = engine("prune", "--dry-run", "--json")
    summary = only_json(out)[-1]
    assert (status, summary["message_type"], summary["packfiles"]["remove"], summary["packs_deleted"]) == (0, "summary", 2, 0)
    assert {"used", "unused", "duplicate", "total", "repack", "remove", "remove_total", "remaining"} <= summary["blobs"].keys()
    assert {"unreferenced", "repack_remove", "remaining_unused"} <= summary["bytes"].keys()
    status, out, _ = engine("prune", "--max-unused", "10%", "--max-repack-size", "1G", "--retry-lock", "1h2m3s")
    assert (status, b"deleted 2 packs" in out) == (0, True)
    assert list((location / "data").glob("*/*")) == []


@pytest.mark.parametrize("words", [("--max-unused", "100%"), ("--max-repack-size", "1.5G"), ("--retry-lock", "5")])
def test_limits_that_are_none_are_usage_errors(engine, words, capfdbinary):
    with pytest.raises(SystemExit) as ended:
        engine("prune", *words)
    assert ended.value.code == 2
    assert words[1].encode() in capfdbinary.readouterr().err


def test_cat_shows_pieces_of_the_repository(engine, source):
    engine("backup", source)
    _, out, _ = engine("cat", "config")
    assert json.loads(out)["version"] == 2
    _, out, _ = engine("snapshots", "--json")
    (snapshot,) = json.loads(out)
    _, out, _ = engine("cat", "snapshot", snapshot["id"])
    assert json.loads(out)["tree"] == snapshot["tree"]
    _, out, _ = engine("cat", "blob", snapshot["tree"])
    assert "nodes" in json.loads(out)


@pytest.mark.parametrize("content", [b"{", b"[" * 5000, b"\xff", b'"\\ud800"', b"1" * 5000])
def test_cat_says_that_a_file_is_damaged_which_is_no_json(engine, location, content):
    name = "ab" * 32
    (location / "keys" / name).write_bytes(content)
    assert engine("cat", "key", name) == (1, b"", b"engine: the file is damaged: it is no JSON\n")


def test_dump_writes_a_file_or_a_directory_as_tar(engine, source):
    engine("backup", source)
    assert engine("dump", "latest", source / "a.txt")[:2] == (0, b"some text\n")
    status, out, _ = engine("dump", "latest", source)
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert (status, sorted(archive.getnames())) == (0, ["a.txt", "sub", "sub/b.log"])


def test_unreadable_files_make_a_backup_incomplete(engine, source, tmp_path):
    status, _, err = engine("backup", source, tmp_path / "not there", "--json")
    assert status == 3
    (message,) = only_json(err)
    assert (message["message_type"], message["item"]) == ("error", str(tmp_path / "not there"))
    assert b"saved, incomplete: 1 entries could not be read as they were\n" in engine("backup", source, tmp_path / "not there")[1]
    engine("backup", source)
    assert [line.endswith(b"  incomplete") for line in engine("snapshots")[1].splitlines()[:-1]] == [True, True, False]
    listed = json.loads(engine("snapshots", "--json")[1])
    assert [one["summary"].get("errors", 0) for one in listed] == [1, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ls", "0123abcd"], "there is no snapshot '0123abcd'"),
        (["restore", "latest", "-t", "/proc/none"], "there is no snapshot yet that fits"),
        (["snapshots", "--password-file", "/nonexistent"], "/nonexistent: No such file or directory"),
        (["snapshots", "-r", "s3:nothing"], "an S3 repository's address has the form s3:http[s]://host[:port]/bucket[/prefix]"),
    ],
)
def test_an_error_is_one_sentence_and_status_1(engine, arguments, sentence):
    assert engine(*arguments) == (1, b"", f"engine: {sentence}\n".encode())


def test_an_error_in_json_says_status_and_sentence(engine):
    status, out, err = engine("ls", "0123abcd", "--json")
    assert (status, out) == (1, b"")
    assert only_json(err) == [{"message_type": "exit_error", "code": 1, "message": "there is no snapshot '0123abcd'"}]


def test_a_damaged_repository_fails_the_check(engine, source, location):
    engine("backup", source)
    for pack in (location / "data").glob("*/*"):
        pack.unlink()
    status, out, err = engine("check")
    assert status == 1
    assert b"is missing" in err
    assert b"problems found" in out


def test_a_damaged_snapshot_is_told_and_keeps_nobody_from_the_others(engine, source, location, tmp_path):
    engine("backup", source)
    sound = {path.name for path in (location / "snapshots").iterdir()}
    engine("backup", source)
    (damaged,) = (path for path in (location / "snapshots").iterdir() if path.name not in sound)
    damaged.chmod(0o600)
    damaged.write_bytes(b"no snapshot")
    told = f"snapshots/{damaged.name}: ".encode()
    status, out, err = engine("snapshots")
    assert (status, out.splitlines()[-1], told in err) == (0, b"1 snapshots", True)
    status, out, err = engine("backup", source)
    assert (status, b"2 unmodified" in out, told in err) == (0, True, True)
    status, out, err = engine("restore", "latest", "-t", tmp_path / "target")
    assert (status, b"restored 2 files" in out, told in err) == (1, True, True)


def test_the_password_may_stand_in_a_file(engine, monkeypatch, tmp_path):
    monkeypatch.delenv("RESTIC_PASSWORD")
    assert engine("snapshots")[2] == b"engine: a password is needed: give --password-file or RESTIC_PASSWORD\n"
    (tmp_path / "password").write_text(f" {PASSWORD}\t \r\n\n")
    assert engine("snapshots", "-p", tmp_path / "password")[0] == 0
    monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(tmp_path / "password"))
    assert engine("snapshots")[0] == 0


def test_a_wrong_password_is_an_error_that_does_not_show_it(engine, monkeypatch, location):
    monkeypatch.setenv("RESTIC_PASSWORD", "another one")
    status, _, err = engine("snapshots")
    assert (status, err.count(b"\n"), b"another one" in err) == (12, 1, False)


def test_what_scripts_may_want_to_tell_apart_has_a_status_of_its_own_as_with_restic(engine, repository, tmp_path):
    status, _, err = engine("snapshots", "-r", tmp_path / "none")
    assert (status, err) == (10, f"engine: there is no repository at {tmp_path}/none\n".encode())
    with repository.lock(exclusive=True):
        status, _, err = engine("check", "--json")
    assert (status, only_json(err)[0]["code"]) == (11, 11)


def test_no_repository_named_is_an_error(engine, monkeypatch):
    monkeypatch.delenv("RESTIC_REPOSITORY")
    assert engine("snapshots")[2] == b"engine: which repository? name it with -r or RESTIC_REPOSITORY\n"


def test_a_misspelt_command_is_a_usage_error_and_leaves_no_traceback(location):
    done = subprocess.run([sys.executable, "-m", "engine", "bakup"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_a_backup_with_status_130_and_no_snapshot(location, tmp_path):
    os.mkfifo(tmp_path / "patterns")  # the command waits for them, so that the signal meets it at a known place
    command = [sys.executable, "-m", "engine", "-r", location, "backup", "/usr/lib", "--exclude-file", tmp_path / "patterns"]
    process = subprocess.Popen(
        list(map(str, command)), env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with open(tmp_path / "patterns", "w") as patterns:
        process.send_signal(signal.SIGINT)
        patterns.write("*.nothing\n")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"engine: interrupted\n")
    assert list((location / "snapshots").iterdir()) == []
    assert list((location / "locks").iterdir()) == []


def test_every_verb_is_known_by_its_first_word_before_its_module_is_read():
    for module, words in WORDS_OF_MODULES.items():
        verbs = importlib.import_module(f"engine.cli.{module}").VERBS
        assert {verb.name.split()[0] for verb in verbs} == words
    modules = {path.stem for path in Path(engine.cli.__file__).parent.glob("*.py") if "\nVERBS = " in path.read_text()}
    assert modules == set(WORDS_OF_MODULES)


def test_a_word_that_is_no_verb_is_answered_with_all_that_are(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["-r", "there", "bakcup"])
    told = capsys.readouterr().err
    assert all(word in told for word in set().union(*WORDS_OF_MODULES.values()))
