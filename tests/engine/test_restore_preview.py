"""A dry run of a restore says what the restore then does, and leaves the target as it is."""

import json
import os
from pathlib import Path

import pytest

from engine.commands.backup import backup
from engine.commands.restore import OVERWRITE_MODES, restore
from engine.commands.restore_preview import PlannedChange, preview_restore
from engine.errors import EngineError, PathNotFound

DAY_NS = 86_400 * 10**9


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "same").write_bytes(b"same")
    (root / "older").write_bytes(b"older in the target")
    (root / "newer").write_bytes(b"newer in the target")
    (root / "new").write_bytes(b"n" * 1000)
    (root / "was-link").write_bytes(b"a link stands there")
    (root / "sub" / "deep" / "file").write_bytes(b"below what is a file there")
    (root / "link").symlink_to("same")
    os.link(root / "new", root / "other-name")
    (root / "empty-there").write_bytes(b"an empty directory stands there")
    return root


def fill(target: Path, source: Path) -> None:
    """Make a target in which something of each kind stands in the way."""
    there = Path(f"{target}{source}")
    there.mkdir(parents=True)
    for name, days in {"same": 0, "older": -1, "newer": 1}.items():
        (there / name).write_bytes((source / name).read_bytes() if name == "same" else b"other content")
        at = (source / name).stat().st_mtime_ns + days * DAY_NS
        os.utime(there / name, ns=(at, at))
    (there / "was-link").symlink_to("nowhere")
    (there / "sub").write_bytes(b"a file where a directory comes")
    (there / "link").symlink_to("elsewhere")
    (there / "empty-there").mkdir()
    (there / "not-in-the-backup").write_bytes(b"stays")


def look_of(path: Path | str) -> tuple[int, ...]:
    status = os.lstat(path)
    return (*tuple(status)[:9], status.st_mtime_ns, status.st_ctime_ns)


def snapshot_of(target: Path) -> dict[str, tuple[int, ...]]:
    """Return what a look at every entry tells, times of changes with it."""
    found = [target, *target.rglob("*")] if target.exists() else []
    return {str(path): look_of(path) for path in found}


@pytest.mark.parametrize("overwrite", OVERWRITE_MODES)
def test_it_says_what_the_restore_then_does_and_writes_nothing(repository, source, tmp_path, overwrite) -> None:
    saved = backup(repository, [str(source)], host="h").snapshot_id
    target = tmp_path / "target"
    fill(target, source)
    before = snapshot_of(target)
    changes: list[PlannedChange] = []
    problems: list[bytes] = []
    told = preview_restore(
        repository,
        saved,
        str(target),
        overwrite=overwrite,
        on_change=changes.append,
        on_error=lambda path, _why: problems.append(path),
    )
    assert snapshot_of(target) == before, "nothing was written, not even a time"
    failed: list[bytes] = []
    done = restore(repository, saved, str(target), overwrite=overwrite, on_error=lambda path, _why: failed.append(path))
    failed = [path for path in failed if path != os.fsencode(target)]
    assert told.created + told.overwritten == done.files_restored
    assert told.kept == done.files_skipped
    assert told.bytes_created + told.bytes_overwritten == done.bytes_restored
    assert problems == failed
    assert {action: getattr(told, action) for action in ("created", "overwritten", "kept", "removed")} == {
        action: sum(change.action == action for change in changes) for action in ("created", "overwritten", "kept", "removed")
    }
    # Each by itself: what the dry run said of it is what is there now.
    for change in changes:
        path = f"{target}{os.fsdecode(change.path)}"
        now = look_of(path)
        if change.action == "kept":
            assert before[path] == now, change
        elif change.action == "created":
            removed = any(other.action == "removed" and other.path == change.path for other in changes)
            assert removed or path not in before, change
        else:
            assert before[path][1] != now[1] or before[path][8:] != now[8:], change
    untouched = {path for path in before if path not in {f"{target}{os.fsdecode(change.path)}" for change in changes}}
    assert {path for path in untouched if Path(path).is_file()} == {f"{target}{source}/not-in-the-backup"} | (
        {f"{target}{source}/sub"} if overwrite == "never" else set()
    )


def test_a_target_that_is_not_there_is_not_made(repository, source, tmp_path) -> None:
    saved = backup(repository, [str(source)], host="h").snapshot_id
    told = preview_restore(repository, saved, str(tmp_path / "nowhere" / "target"))
    assert (told.created, told.overwritten, told.kept, told.removed) == (9, 0, 0, 0)
    assert not (tmp_path / "nowhere").exists()
    assert told.directories == 2 + len(source.parents)


def test_a_target_that_is_a_file_is_refused_as_by_the_restore(repository, source, tmp_path) -> None:
    saved = backup(repository, [str(source)], host="h").snapshot_id
    (tmp_path / "target").write_text("x")
    with pytest.raises(EngineError, match="cannot be used"):
        preview_restore(repository, saved, str(tmp_path / "target"))
    with pytest.raises(PathNotFound):
        preview_restore(repository, saved, str(tmp_path / "back"), include=["/not/there"])


def test_a_directory_with_something_in_it_is_told_as_what_the_restore_cannot_do(repository, source, tmp_path) -> None:
    saved = backup(repository, [str(source)], host="h").snapshot_id
    full = Path(f"{tmp_path}/target{source}/same")
    full.mkdir(parents=True)
    (full / "inside").write_text("x")
    problems: list[bytes] = []
    told = preview_restore(repository, saved, str(tmp_path / "target"), on_error=lambda path, _why: problems.append(path))
    assert problems == [os.fsencode(source / "same")]
    assert told.errors == 1
    failed: list[bytes] = []
    restore(repository, saved, str(tmp_path / "target"), on_error=lambda path, _why: failed.append(path))
    assert os.fsencode(source / "same") in failed


def test_the_command_lists_the_changes_and_says_that_nothing_was_written(engine, repository, source, tmp_path) -> None:
    backup(repository, [str(source)], host="h")
    status, out, _err = engine("restore", "latest", "--target", str(tmp_path / "target"), "--dry-run")
    assert status == 0
    assert f"{source}/new".encode() in out
    assert b"nothing was written" in out
    assert not (tmp_path / "target").exists()
    status, out, _err = engine("restore", "latest", "--target", str(tmp_path / "target"), "--dry-run", "--json")
    *changes, summary = map(json.loads, out.splitlines())
    assert (summary["dry_run"], summary["created"], len(changes)) == (True, 9, 9)
