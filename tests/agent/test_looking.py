"""What the agent shows of its host: a page of a directory, and how much there is; nothing behind links or out of bounds."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import app
from agent.allowed import AllowedFileBroken, NotAllowed, load_allowed
from agent.center import Center
from agent.config import AgentConfig
from agent.login import Login
from agent.looking import ENTRIES_AT_ONCE, CannotLook, estimate, list_directory, look
from engine.filter import InvalidPattern
from tests.agent.center import TOKEN, FakeCenter

Allow = Callable[[str], Path]
NUMBER = "n" * 32


def listed(path: Path | str, **more: Any) -> dict[str, Any]:
    return list_directory(load_allowed(), str(path), **more)


def by_name(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in listed(path)["entries"]}


def test_a_directory_is_told_with_kinds_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    os.utime(tmp_path / "file", (0, 1_600_000_000))
    (tmp_path / "zoo").mkdir()
    os.mkfifo(tmp_path / "pipe")
    seen = listed(tmp_path)
    assert [entry["name"] for entry in seen["entries"]] == ["zoo", "file", "pipe"]
    assert (seen["path"], seen["total"], seen["is_whole"]) == (str(tmp_path), 3, True)
    file = by_name(tmp_path)["file"]
    assert file == {"name": "file", "is_text": True, "type": "file", "size": 5, "mtime": 1_600_000_000}
    assert by_name(tmp_path)["pipe"]["type"] == "fifo"


def test_links_are_shown_and_never_followed_neither_at_the_end_nor_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    assert by_name(tmp_path)["link"] == {**by_name(tmp_path)["link"], "type": "symlink", "target": "/etc", "size": None}
    for path in (tmp_path / "link", tmp_path / "link/ssl", tmp_path / "inside/../link"):
        with pytest.raises(CannotLook, match="link is a symbolic link to /etc; links are not followed"):
            listed(path)


@pytest.mark.parametrize(("name", "reason"), [("gone", "No such file"), ("file", "Not a directory"), ("a\0b", "is no path")])
def test_what_is_no_directory_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotLook, match=reason):
        listed(f"{tmp_path}/{name}")


def test_ten_thousand_entries_come_in_pages(tmp_path: Path) -> None:
    for number in range(10_000):
        os.close(os.open(tmp_path / f"{number:05}", os.O_CREAT))
    first, last, beyond = (listed(tmp_path, offset=offset) for offset in (0, 9_990, 10_000))
    assert (first["total"], len(first["entries"])) == (10_000, ENTRIES_AT_ONCE)
    assert [entry["name"] for entry in last["entries"]] == [f"{number:05}" for number in range(9_990, 10_000)]
    assert beyond["entries"] == []


def test_a_directory_of_more_than_are_counted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.looking.MOST_NAMES", 2)
    for name in "abc":
        (tmp_path / name).touch()
    assert (listed(tmp_path)["total"], listed(tmp_path)["is_whole"]) == (2, False)


@pytest.mark.root
def test_what_may_not_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (tmp_path / "secret").touch(mode=0o600)
    for each in (tmp_path, *list(tmp_path.parents)[:-2]):
        each.chmod(0o755)
    # In a process of its own: whose rights are gone does not get them back.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            said = repr({name: entry.get("reason") for name, entry in by_name(tmp_path).items()})
            try:
                listed(closed)
            except CannotLook as error:
                said += f" {error}"
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told == f"{{'closed': 'Permission denied', 'secret': 'Permission denied'}} {closed}: Permission denied"


def test_a_name_that_is_no_text_is_told_as_such(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/odd\xff")).touch()
    (entry,) = listed(tmp_path)["entries"]
    assert (entry["name"], entry["is_text"]) == ("odd\ufffd", False)


def test_the_hosts_owner_bounds_what_is_seen_and_above_it_is_the_way_alone(tmp_path: Path, allow: Allow) -> None:
    for name in ("open/sub", "other", "deep/er/place"):
        (tmp_path / name).mkdir(parents=True)
    allow(f'browse = ["{tmp_path}/open", "{tmp_path}/deep/er"]')
    assert set(by_name(tmp_path)) == {"open", "deep"}
    assert set(by_name(tmp_path / "deep")) == {"er"}
    assert set(by_name(tmp_path / "open")) == {"sub"}
    assert set(by_name(tmp_path / "deep/er/place")) == set()
    for path in (tmp_path / "other", f"{tmp_path}/open/../other", "/etc", f"{tmp_path}/opener"):
        with pytest.raises(NotAllowed, match=r"does not allow to look at .*add it to “browse” in"):
            listed(path)
    with pytest.raises(NotAllowed):
        estimate(load_allowed(), [str(tmp_path)], [], 20)
    (tmp_path / "open/out").symlink_to(tmp_path / "other")
    with pytest.raises(NotAllowed):
        estimate(load_allowed(), [f"{tmp_path}/open/out/file"], [], 20)


def test_nowhere_and_a_file_that_does_not_count_both_show_nothing(allow: Allow) -> None:
    allow("browse = []")
    with pytest.raises(NotAllowed):
        listed("/")
    allow('browse = ["srv"]')
    with pytest.raises(AllowedFileBroken, match="no absolute path"):
        listed("/")


def test_an_estimate_counts_each_file_once_and_not_what_is_excluded(source: Path) -> None:
    (source / "text.tmp").write_text("not this")
    seen = estimate(load_allowed(), [str(source), f"{source}/text", f"{source}/gone"], ["*.tmp"], 20)
    assert seen == {"files": 2, "bytes": 100_005, "is_whole": True, "missing": []}
    apart = estimate(load_allowed(), [f"{source}/text", f"{source}/gone"], [], 20)
    assert (apart["files"], apart["missing"]) == (1, [f"{source}/gone"])
    with pytest.raises(InvalidPattern):
        estimate(load_allowed(), [str(source)], ["[a"], 20)


def test_an_estimate_whose_time_is_over_says_that_it_is_not_whole(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_stopped(targets: Any, excludes: Any, stopped: Any) -> tuple[int, int]:
        assert stopped.wait(30)
        return 3, 14

    monkeypatch.setattr("agent.looking.count_files", until_stopped)
    seen = estimate(load_allowed(), [str(source)], [], 0.01)
    assert (seen["files"], seen["bytes"], seen["is_whole"]) == (3, 14, False)


@pytest.mark.parametrize(("question", "answer"), [
    ({"kind": "list", "path": "/nowhere/at/all"}, {"problem": "/nowhere: No such file or directory"}),
    ({"kind": "sing"}, {"problem": "this agent is too old to answer that"}),
    ({"kind": "list"}, {"problem": "the agent does not understand what it is asked"}),
])  # fmt: skip
def test_a_look_is_answered_whatever_is_asked(center: FakeCenter, question: dict[str, Any], answer: dict[str, Any]) -> None:
    center.answers["question"] = (200, question)
    look(Center(center.url, TOKEN), NUMBER)
    assert center.bodies("answer") == [answer]


def test_a_look_is_answered_while_jobs_run_of_which_there_are_two_at_once(
    center: FakeCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, ended = threading.Semaphore(0), threading.Event(), []

    def run_job(_center: Any, _state: Path, job: str, _attempt: int) -> None:
        begun.release()
        assert may_end.wait(30)
        ended.append(job)

    monkeypatch.setattr(app, "run_job", run_job)
    config = AgentConfig(center.url, 7, "here", "client.7", TOKEN, "redis://127.0.0.1:1/0")
    tasks = app.make_app(config, tmp_path, Login(tmp_path, config), Center(center.url, TOKEN)).tasks
    names = [f"backup-{number}" for number in range(app.JOBS_AT_ONCE + 1)]
    threads = [threading.Thread(target=tasks[app.RUN_JOB], args=({"job": name, "attempt": 1},)) for name in names]
    for thread in threads[: app.JOBS_AT_ONCE]:
        thread.start()
        assert begun.acquire(timeout=30)
    threads[-1].start()
    center.answers["question"] = (200, {"kind": "list", "path": str(tmp_path)})
    tasks[app.LOOK]({"look": NUMBER})
    tasks[app.LOOK]({"look": "../job"})
    assert [body["listing"]["path"] for body in center.bodies("answer")] == [str(tmp_path)]
    assert not begun.acquire(blocking=False), "a third job waits for one of the two"
    may_end.set()
    for thread in threads:
        thread.join()
    assert sorted(ended) == names
    assert app.worker_options(config)["concurrency"] == app.JOBS_AT_ONCE + 1


def test_a_look_that_nobody_waits_for_is_left(center: FakeCenter) -> None:
    center.answers["question"] = (404, {"error": "Nobody waits for this."})
    look(Center(center.url, TOKEN), NUMBER)
    assert center.bodies("answer") == []
