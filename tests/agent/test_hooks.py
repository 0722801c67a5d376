"""Commands around a backup: in their order, within their time, and cleared up after whatever happens."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import hooks as agent_hooks
from agent import job as agent_job
from agent.center import Center
from agent.hooks import bounded, command_record
from agent.job import run_job
from engine import program
from engine.backends import open_store
from engine.commands.dump import dump_file
from engine.commands.snapshots import list_snapshots
from engine.repository import Repository
from tests.agent.center import TOKEN, FakeCenter
from tests.agent.conftest import PASSWORD
from tests.agent.test_job import child_of, run_in_thread
from tests.services.ports import wait_until

MakeJob = Callable[[Path], dict[str, Any]]

# Each command adds its own name, and what it is told, to a file.
NOTE = """
import json, os, sys
told = {k.removeprefix("BACKUPCENTER_").lower(): v for k, v in os.environ.items() if k.startswith("BACKUPCENTER_")}
with open(sys.argv[1], "a") as notes:
    notes.write(json.dumps({"name": sys.argv[2], "told": told, "environment": sorted(os.environ)}) + "\\n")
print("said by", sys.argv[2])
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_job, "REPORT_EVERY_S", 0.1)
    monkeypatch.setattr(agent_hooks, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(program, "GRACE_S", 0.5)


@pytest.fixture
def notes(tmp_path: Path, allow: Callable[[str], Path]) -> Callable[[], list[dict[str, Any]]]:
    """Allow commands that note that they were run, and return what reads the notes."""
    script, file = tmp_path / "note.py", tmp_path / "notes"
    script.write_text(NOTE)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holding = f"import time; f = open({str(fifo)!r}, 'w'); f.write('x'); f.flush(); time.sleep(1000)"
    commands = {"hold": [sys.executable, "-c", holding], "print": ["printf", "content of a dump"]}
    for name in ("one", "two", "three", "four"):
        commands[name] = [sys.executable, str(script), str(file), name, "0"]
        commands[f"{name}-fails"] = [sys.executable, str(script), str(file), name, "7"]
    allow("\n".join(f'[[command]]\nname = "{name}"\nrun = {json.dumps(command)}' for name, command in commands.items()))
    return lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def hook(command: str, **options: Any) -> dict[str, Any]:
    return {"command": [command], "timeout_s": 60, **options}


def run(center: FakeCenter, state: Path, specification: dict[str, Any], **backup: Any) -> dict[str, Any]:
    center.specification = {**specification, "backup": {**specification["backup"], **backup}}
    run_job(Center(center.url, TOKEN), state, "backup-12", 1)
    report: dict[str, Any] = center.bodies("finish")[-1]
    return report


def names(notes: list[dict[str, Any]]) -> list[str]:
    return [note["name"] for note in notes]


def snapshots(repository: Path) -> list[Any]:
    return list_snapshots(Repository.open(open_store(str(repository)), PASSWORD))


def test_commands_run_around_a_backup_and_are_told_of_it(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any
) -> None:
    around = {"before": [hook("one")], "on_success": [hook("two")], "on_failure": [hook("three")], "after": [hook("four")]}
    report = run(center, tmp_path, backup_job(source), hooks=around, plan={"uuid": "u", "name": "the plan"})
    assert (report["outcome"], report["error"]) == ("success", "")
    first, second, last = notes()
    assert names(notes()) == ["one", "two", "four"]
    assert first["told"] == {"job": "backup-12", "attempt": "1", "plan": "u", "plan_name": "the plan", "state": "running"}
    assert second["told"]["state"] == last["told"]["state"] == "success"
    assert second["told"]["snapshot"] == report["result"]["snapshot_id"]
    # Nothing of the agent's own environment, which may hold anything.
    assert {name for name in last["environment"] if not name.startswith("BACKUPCENTER_")} <= {
        "HOME", "LANG", "LC_CTYPE", "LOGNAME", "PATH", "USER"
    }  # fmt: skip
    records = report["commands"]
    assert [(each["stage"], each["command"], each["status"], each["output"]) for each in records] == [
        ("before", "one", 0, "said by one\n"),
        ("on_success", "two", 0, "said by two\n"),
        ("after", "four", 0, "said by four\n"),
    ]


def test_a_command_that_fails_before_keeps_the_backup_from_being_run_unless_it_may(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, notes: Any
) -> None:
    around = {"before": [hook("one-fails"), hook("two")], "on_failure": [hook("three")], "after": [hook("four")]}
    report = run(center, tmp_path, backup_job(source), hooks=around)
    assert report["outcome"] == "failed"
    assert report["error"] == "the command “one-fails” (before) ended with exit status 7: said by one"
    assert names(notes()) == ["one", "three", "four"]
    assert notes()[1]["told"]["error"] == report["error"]
    assert snapshots(repository) == []
    around["before"][0]["on_failure"] = "continue"
    report = run(center, tmp_path, backup_job(source), hooks=around)
    assert (report["outcome"], report["error"]) == ("success", "")
    assert names(notes())[3:] == ["one", "two", "four"]


def test_a_command_that_fails_after_a_good_backup_is_a_warning(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, notes: Any
) -> None:
    report = run(center, tmp_path, backup_job(source), hooks={"after": [hook("one-fails"), hook("two")]})
    assert report["outcome"] == "warnings"
    assert "“one-fails” (after) ended with exit status 7" in report["error"]
    assert names(notes()) == ["one", "two"]
    assert [snapshot.id for snapshot in snapshots(repository)] == [report["result"]["snapshot_id"]]


def test_a_command_that_is_not_allowed_fails_the_job_before_anything_is_run(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, notes: Any
) -> None:
    around = {"before": [hook("one")], "after": [hook("reboot")]}
    report = run(center, tmp_path, backup_job(source), hooks=around)
    assert report["outcome"] == "failed"
    assert f"does not allow the command “reboot”; if it is to be run, add it to {tmp_path}/allowed.toml" in report["error"]
    assert (notes(), report["commands"], snapshots(repository)) == ([], [], [])


def test_a_command_is_ended_when_its_time_is_over(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any
) -> None:
    os.close(os.open(tmp_path / "fifo", os.O_RDWR))
    around = {"before": [hook("hold", timeout_s=0.3)], "after": [hook("one")]}
    report = run(center, tmp_path, backup_job(source), hooks=around)
    assert "took longer than 0.3 s and was ended" in report["error"]
    assert (report["outcome"], names(notes())) == ("failed", ["one"])


def test_a_stream_is_a_file_of_the_snapshot_and_its_command_stands_in_the_record(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, notes: Any
) -> None:
    streams = [{"name": "/dumps/db.sql", "command": ["print"], "timeout_s": 60}]
    report = run(center, tmp_path, backup_job(source), streams=streams)
    assert (report["outcome"], report["result"]["files_total"]) == ("success", 3)
    opened = Repository.open(open_store(str(repository)), PASSWORD)
    assert b"".join(dump_file(opened, "latest", b"/dumps/db.sql")) == b"content of a dump"
    (record,) = report["commands"]
    assert (record["stage"], record["command"], record["status"]) == ("stream", "print", 0)


def test_a_stream_that_fails_fails_the_job_without_a_snapshot(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, notes: Any
) -> None:
    streams = [{"name": "/dumps/db.sql", "command": ["one-fails"], "timeout_s": 60}]
    report = run(center, tmp_path, backup_job(source), streams=streams, hooks={"on_failure": [hook("two")]})
    assert report["outcome"] == "failed"
    assert report["error"].startswith("the command “one-fails” for /dumps/db.sql ended with exit status 7")
    assert (snapshots(repository), names(notes())) == ([], ["one", "two"])


@pytest.mark.parametrize("what", ["a hook", "the engine"])
def test_what_is_to_be_cleared_up_is_so_after_a_cancel(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any, what: str
) -> None:
    held = hook("hold", name="/db.sql")
    backup = {"hooks": {"before": [held]}} if what == "a hook" else {"hooks": {}, "streams": [held]}
    backup["hooks"] |= {"after": [hook("one")]}
    specification = backup_job(source)
    center.specification = {**specification, "backup": {**specification["backup"], **backup}}
    thread = run_in_thread(center, tmp_path)
    with (tmp_path / "fifo").open() as pipe:
        assert pipe.read(1) == "x"
        center.cancel = True
        thread.join(30)
        assert pipe.read() == ""
    (report,) = center.bodies("finish")
    assert report["outcome"] == "cancelled"
    assert [(note["name"], note["told"]["state"]) for note in notes()] == [("one", "cancelled")]


def test_what_is_to_be_cleared_up_is_so_after_a_crash_of_the_engine(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any
) -> None:
    specification = backup_job(source)
    around = {"after": [hook("one")]}
    streams = [hook("hold", name="/db.sql")]
    center.specification = {**specification, "backup": {**specification["backup"], "hooks": around, "streams": streams}}
    thread = run_in_thread(center, tmp_path)
    with (tmp_path / "fifo").open() as pipe:
        assert pipe.read(1) == "x"
        os.kill(child_of("backup-12"), signal.SIGKILL)
        # What the engine's process has started ends with it.
        assert pipe.read() == ""
    thread.join(30)
    (report,) = center.bodies("finish")
    assert (report["outcome"], names(notes())) == ("crashed", ["one"])


def test_a_stopped_agent_clears_up_and_hands_the_job_back(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_job, "_stopping", threading.Event())
    specification = backup_job(source)
    around = {"before": [hook("one"), hook("hold")], "after": [hook("two")]}
    center.specification = {**specification, "backup": {**specification["backup"], "hooks": around}}
    thread = run_in_thread(center, tmp_path)
    with (tmp_path / "fifo").open() as pipe:
        assert pipe.read(1) == "x"
        agent_job.hand_back_jobs()
        assert pipe.read() == ""
    thread.join(30)
    (report,) = center.bodies("finish")
    assert (report["outcome"], names(notes())) == ("handed_back", ["one", "two"])


def test_a_killed_agent_takes_its_commands_along(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any
) -> None:
    specification = backup_job(source)
    center.specification = {**specification, "backup": {**specification["backup"], "hooks": {"before": [hook("hold")]}}}
    child = os.fork()
    if child == 0:
        run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
        os._exit(0)
    with (tmp_path / "fifo").open() as pipe:
        assert pipe.read(1) == "x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert pipe.read() == ""


def test_jobs_with_commands_take_turns_and_the_one_that_waits_keeps_its_lease(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, notes: Any
) -> None:
    assert agent_hooks._turn.acquire(timeout=1)
    specification = backup_job(source)
    center.specification = {**specification, "backup": {**specification["backup"], "hooks": {"before": [hook("one")]}}}
    thread = run_in_thread(center, tmp_path)
    wait_until(lambda: len(center.bodies("progress")) > 1, "the lease to be renewed")
    assert notes() == []
    agent_hooks._turn.release()
    thread.join(30)
    assert (center.bodies("finish")[0]["outcome"], names(notes())) == ("success", ["one"])


def test_a_record_keeps_the_end_of_what_commands_wrote_and_no_more() -> None:
    records = [command_record("before", str(number), 0, 1.0, f"{number}" * 100_000) for number in range(9)]
    kept = bounded(records)
    assert [len(record["output"]) for record in kept] == [0] * 5 + [64 << 10] * 4
    assert [record["command"] for record in kept] == [str(number) for number in range(9)]
