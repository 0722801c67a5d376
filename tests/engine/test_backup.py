"""A backup is a snapshot that restic restores exactly, and reads no more than it has to."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from engine.archiver import directory
from engine.archiver.estimate import count_files
from engine.archiver.targets import NothingToBackUp
from engine.backends import open_store
from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.ls import find_node
from engine.filter import InvalidPattern, compile_patterns
from engine.repository import Repository
from engine.snapshot import find_snapshot, iter_snapshots
from engine.tree import iter_nodes
from tests.engine.conftest import PASSWORD


def names_in(repository, snapshot_id, *path):
    """The names below a path of a snapshot."""
    tree = find_snapshot(repository, snapshot_id).tree
    for part in path:
        entries = {node.name: node for node in iter_nodes(repository.load_blob(BlobType.TREE, tree))}
        tree = entries[os.fsencode(part)].subtree
    return {node.name for node in iter_nodes(repository.load_blob(BlobType.TREE, tree))}


def parts(path):
    return str(path).strip("/").split("/")


@pytest.mark.restic
def test_restic_finds_files_unmodified_since_our_snapshot_and_we_since_restics(repository, location, source, restic):
    first = backup(repository, [source], host="h")
    report = json.loads(restic(location, "backup", "--json", "--host", "h", source).splitlines()[-1])
    assert (report["files_unmodified"], report["files_new"], report["files_changed"]) == (first.files_total, 0, 0)
    assert report["data_blobs"] == 0
    again = backup(repository, [source], host="h")
    assert (again.files_unmodified, again.files_new, again.files_changed) == (first.files_total, 0, 0)


def test_an_unchanged_second_run_adds_nothing_and_a_change_adds_itself(repository, source):
    first = backup(repository, [source], host="h")
    again = backup(repository, [source], host="h", parent=first.snapshot_id)
    assert (again.files_unmodified, again.files_new, again.files_changed) == (first.files_total, 0, 0)
    assert again.dirs_unmodified >= 5
    (source / "plain.txt").write_bytes(b"changed now")
    (source / "deep" / "new").write_bytes(b"new")
    third = backup(repository, [source], host="h")
    # "plain.txt" has two names.
    assert (third.files_new, third.files_changed, third.files_unmodified) == (1, 2, first.files_total - 2)
    assert find_snapshot(repository, third.snapshot_id).parent == again.snapshot_id


@pytest.mark.root
def test_attributes_that_another_user_could_not_read_are_taken_up_without_reading_the_content(repository, source, monkeypatch):
    path = source / "plain.txt"
    os.setxattr(path, "trusted.kept", b"1")
    with monkeypatch.context() as patch:
        # As for anybody but root: the list lacks them.
        real = os.listxattr
        patch.setattr(
            os, "listxattr", lambda *args, **more: [name for name in real(*args, **more) if not name.startswith("trusted.")]
        )
        patch.setattr(os, "getuid", lambda: 65534)
        first = backup(repository, [source], host="h")
    assert "trusted.kept" not in dict(find_node(repository, first.snapshot_id, os.fsencode(path)).xattrs)
    second = backup(repository, [source], host="h")
    assert dict(find_node(repository, second.snapshot_id, os.fsencode(path)).xattrs)["trusted.kept"] == b"1"
    assert second.files_new + second.files_changed < first.files_new


def test_without_a_parent_everything_is_read_but_nothing_stored_twice(repository, source):
    backup(repository, [source], host="h")
    again = backup(repository, [source], host="h", parent=None)
    assert again.files_unmodified == 0
    assert again.files_new == again.files_total
    assert find_snapshot(repository, again.snapshot_id).parent is None
    # The directories above the source change with the repository, which lies beside it.
    assert again.bytes_added < 3000


def test_a_file_whose_content_got_lost_is_read_again(repository, location, source):
    backup(repository, [source], host="h")
    for name in os.listdir(location / "index"):
        os.unlink(location / "index" / name)
    fresh = Repository.open(open_store(str(location)), PASSWORD)
    again = backup(fresh, [source], host="h")
    assert again.bytes_added > 3 << 20


def test_what_is_excluded_is_not_in_the_snapshot(repository, source):
    summary = backup(repository, [source], host="h", excludes=["*.txt", "deep/a", "!*keep*"])
    assert {b"plain.txt", b"empty", b"deep"} & names_in(repository, summary.snapshot_id, *parts(source)) == {b"empty", b"deep"}
    assert names_in(repository, summary.snapshot_id, *parts(source), "deep") == {b"hard link"}
    assert find_snapshot(repository, summary.snapshot_id).excludes == ("*.txt", "deep/a", "!*keep*")


def test_a_malformed_pattern_is_refused_before_anything_is_written(repository, location, source):
    with pytest.raises(InvalidPattern):
        backup(repository, [source], host="h", excludes=["[a"])
    assert os.listdir(location / "snapshots") == []


def test_several_targets_share_the_directories_above_them(repository, tmp_path):
    for name in ("a/one", "a/two", "b/three", "a/not this"):
        (tmp_path / name).mkdir(parents=True)
    wanted = [tmp_path / "a" / "one", tmp_path / "a" / "two", tmp_path / "b", tmp_path / "b" / "three"]
    summary = backup(repository, [str(path) for path in wanted], host="h")
    assert names_in(repository, summary.snapshot_id, *parts(tmp_path)) == {b"a", b"b"}
    assert names_in(repository, summary.snapshot_id, *parts(tmp_path), "a") == {b"one", b"two"}
    assert names_in(repository, summary.snapshot_id, *parts(tmp_path), "b") == {b"three"}


def test_relative_paths_and_a_single_file_are_found_where_they_lie(repository, source, monkeypatch):
    monkeypatch.chdir(source / "deep")
    summary = backup(repository, ["../plain.txt", b"a/"], host="h")
    assert names_in(repository, summary.snapshot_id, *parts(source)) == {b"plain.txt", b"deep"}
    assert find_snapshot(repository, summary.snapshot_id).paths == (str(source / "plain.txt"), str(source / "deep" / "a"))


def test_a_snapshot_says_what_was_asked_for(repository, source):
    taken = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    summary = backup(repository, [source], host="client1", tags=["plan-1", "x"], time=taken)
    snapshot = find_snapshot(repository, summary.snapshot_id)
    assert (snapshot.hostname, snapshot.tags, snapshot.time, snapshot.paths) == ("client1", ("plan-1", "x"), taken, (str(source),))
    assert snapshot.summary.total_files_processed == summary.files_total
    assert snapshot.summary.data_added == summary.bytes_added


@pytest.mark.restic
def test_a_path_that_is_not_utf_8_finds_its_parent_and_is_written_as_restic_does(repository, location, tmp_path, restic):
    path = os.fsencode(tmp_path) + b"/\xff\xc3"
    os.mkdir(path)
    with open(path + b"/file", "wb") as file:
        file.write(b"content")
    backup(repository, [path], host="h")
    assert backup(repository, [path], host="h").files_unmodified == 1
    restic(location, "backup", path)
    assert {snapshot.paths for snapshot in iter_snapshots(repository)} == {(f"{tmp_path}/\ufffd\ufffd",)}


def test_the_parent_is_not_taken_from_another_host_nor_from_the_future(repository, source):
    now = datetime.now(UTC)
    backup(repository, [source], host="other")
    backup(repository, [source], host="h", time=now + timedelta(days=1))
    assert backup(repository, [source], host="h", time=now).files_unmodified == 0


def test_a_large_directory_is_shared_among_workers_and_stays_whole(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "ENTRIES_AT_ONCE", 10)
    (tmp_path / "many").mkdir()
    for number in range(95):
        (tmp_path / "many" / f"{number}").write_bytes(b"%d" % number)
    summary = backup(repository, [tmp_path / "many"], host="h")
    assert summary.files_new == 95
    assert len(names_in(repository, summary.snapshot_id, *parts(tmp_path / "many"))) == 95
    assert backup(repository, [tmp_path / "many"], host="h").files_unmodified == 95


def test_an_older_format_is_written_without_compression(tmp_path, source):
    repository = Repository.init(open_store(str(tmp_path / "old")), PASSWORD, version=1)
    summary = backup(repository, [source], host="h")
    assert summary.bytes_stored >= summary.bytes_added


def test_nothing_to_read_is_an_error_and_leaves_no_snapshot(repository, location, tmp_path):
    for paths in ([], [tmp_path / "missing"]):
        with pytest.raises(NothingToBackUp):
            backup(repository, paths, host="h")
    assert os.listdir(location / "snapshots") == []


def test_progress_ends_with_what_was_done_and_knows_the_total_beforehand(repository, source):
    seen = []
    summary = backup(repository, [source], host="h", excludes=["leaf"], on_progress=seen.append)
    assert (seen[-1].files_done, seen[-1].bytes_done) == (summary.files_total, summary.bytes_total)
    backup(repository, [source], host="h", excludes=["leaf"], on_progress=seen.append)
    assert (seen[-1].files_total, seen[-1].bytes_total) == (summary.files_total, summary.bytes_total)


def test_an_estimate_counts_what_a_backup_will_read(repository, source):
    excludes = compile_patterns(["leaf"])
    targets = [os.fsencode(source / "deep"), os.fsencode(source / "chunks"), os.fsencode(source / "link")]
    assert count_files(targets, excludes, threading.Event()) == (2, 10 + (5 << 20))
