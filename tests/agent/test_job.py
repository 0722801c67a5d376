"""A job is claimed, run in a child process, reported while it runs, and finished as what it was."""

import errno
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from urllib3.util.retry import Retry

from agent import job as agent_job
from agent.center import Center
from agent.job import run_job, running_jobs
from agent.outbox import deliver_reports
from agent.scratch import sweep_left
from engine.backends import open_store
from engine.commands.key import change_password
from engine.commands.snapshots import list_snapshots
from engine.compare import compare_trees
from engine.locks import WAITING
from engine.repository import Repository
from tests.agent.center import TOKEN, FakeCenter
from tests.agent.conftest import PASSWORD
from tests.services.ports import wait_until

MakeJob = Callable[[Path], dict[str, Any]]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports come often, so that tests need not wait for them."""
    monkeypatch.setattr(agent_job, "REPORT_EVERY_S", 0.1)
    monkeypatch.setattr(agent_job, "TERMINATE_AFTER_S", 0.5)
    monkeypatch.setattr(agent_job, "KILL_AFTER_S", 1.0)


def run_in_thread(center: FakeCenter, state: Path) -> threading.Thread:
    thread = threading.Thread(target=run_job, args=(Center(center.url, TOKEN), state, "backup-12", 1))
    thread.start()
    return thread


def child_of(job: str) -> int:
    def child() -> subprocess.Popen[str] | None:
        running = agent_job._running.get((job, 1))
        return running.child if running else None

    wait_until(lambda: child() is not None, "the child to start")
    found = child()
    assert found is not None
    return found.pid


def stopped_child(center: FakeCenter, state: Path) -> tuple[threading.Thread, int]:
    """Run a job whose child is stopped by a signal before it gets far, so that it is there to be ended."""
    thread = run_in_thread(center, state)
    pid = child_of("backup-12")
    os.kill(pid, signal.SIGSTOP)
    return thread, pid


def test_a_backup_is_reported_with_its_snapshot(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "success"
    assert report["attempt"] == 1
    opened = Repository.open(open_store(str(repository)), PASSWORD)
    (snapshot,) = list_snapshots(opened)
    assert report["result"]["snapshot_id"] == snapshot.id
    assert report["result"]["files_total"] == 2
    phases = [name for name, _since in report["course"]["phases"]]
    assert phases == ["opening the repository", "backup", "saving the snapshot"]
    assert snapshot.hostname == "here"
    assert snapshot.tags == ("plan-x",)
    assert {authorization for _, _, authorization in center.requests} == {f"Agent {TOKEN}"}


def test_a_dry_run_tells_what_would_change_and_writes_nothing(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    snapshot = center.bodies("finish")[0]["result"]["snapshot_id"]
    target = tmp_path / "back"
    recovery = {"snapshot": snapshot, "destination": str(target), "include": [], "overwrite": "always", "verify": True}
    center.specification = {**center.specification, "kind": "recovery", "recovery": {**recovery, "dry_run": True}}
    run_job(Center(center.url, TOKEN), tmp_path, "recovery-1", 1)
    report = center.bodies("finish")[1]
    assert report["outcome"] == "success"
    told = report["result"]["preview"]
    assert (told["created"], told["overwritten"], told["kept"], told["removed"]) == (2, 0, 0, 0)
    assert sorted(told["changes"]["created"]) == [[f"{source}/random", 100_000], [f"{source}/text", 5]]
    assert not target.exists()


@pytest.fixture
def drill_job(center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob) -> dict[str, Any]:
    """A drill of a backup that was just made."""
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    snapshot = center.bodies("finish").pop()["result"]["snapshot_id"]
    center.requests.clear()
    asked = {"extent": "whole", "sample_bytes": 1 << 20, "limit_bytes": 1 << 30}
    recovery = {"snapshot": snapshot, "drill": asked, "checks": [{"command": ["look"], "timeout_s": 60}]}
    del center.specification["backup"]
    center.specification |= {"kind": "recovery", "job": "recovery-1", "recovery": recovery}
    return recovery


def drilled(center: FakeCenter, state: Path) -> dict[str, Any]:
    run_job(Center(center.url, TOKEN), state, "recovery-1", 1)
    assert list((state / "drills").glob("*")) == []
    return center.bodies("finish").pop()


LOOK = """[[command]]
name = "look"
run = ["sh", "-c", "cat $BACKUPCENTER_RESTORED%s/text; exit %d"]
"""


@pytest.mark.parametrize("extent", ["whole", "sample"])
def test_a_drill_restores_compares_has_a_command_look_and_leaves_nothing(
    center: FakeCenter, tmp_path: Path, source: Path, drill_job: dict[str, Any], allow: Callable[[str], Path], extent: str
) -> None:
    allow(LOOK % (source, 0))
    drill_job["drill"]["extent"] = extent
    left = tmp_path / "drills" / "drill-recovery-0-1"
    (left / "restored").mkdir(parents=True)
    (tmp_path / "drills").chmod(0o711)
    report = drilled(center, tmp_path)
    assert (report["outcome"], report["error"]) == ("success", "")
    assert report["result"]["drill"] == {"files": 2, "of_files": 2, "failures": 0, "notes": 0}
    assert report["result"]["files_verified"] == 2
    (command,) = report["commands"]
    assert (command["stage"], command["status"], command["output"]) == ("check", 0, "hello")


def test_a_drill_whose_command_finds_something_wrong_has_failed(
    center: FakeCenter, tmp_path: Path, source: Path, drill_job: dict[str, Any], allow: Callable[[str], Path]
) -> None:
    allow(LOOK % (source, 3))
    report = drilled(center, tmp_path)
    assert report["outcome"] == "failed"
    assert report["commands"][0]["status"] == 3
    assert "look" in report["error"]


def test_a_drill_runs_no_command_that_its_host_does_not_allow(
    center: FakeCenter, tmp_path: Path, drill_job: dict[str, Any], allow: Callable[[str], Path]
) -> None:
    allow("")
    report = drilled(center, tmp_path)
    assert (report["outcome"], report["result"]) == ("failed", {})
    assert "does not allow the command" in report["error"]


def test_a_drill_of_a_damaged_backup_tells_what_differs_and_asks_no_command(
    center: FakeCenter, tmp_path: Path, repository: Path, source: Path, drill_job: dict[str, Any], allow: Callable[[str], Path]
) -> None:
    allow(LOOK % (source, 0))
    pack = max((path for path in (repository / "data").glob("*/*")), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[100] ^= 1
    pack.write_bytes(content)
    report = drilled(center, tmp_path)
    assert (report["outcome"], report["commands"]) == ("failed", [])
    assert report["result"]["drill"]["failures"] >= 1
    assert report["unreadable"]


def test_a_drill_that_would_restore_too_much_does_not(
    center: FakeCenter, tmp_path: Path, source: Path, drill_job: dict[str, Any], allow: Callable[[str], Path]
) -> None:
    allow(LOOK % (source, 0))
    drill_job["drill"]["limit_bytes"] = 10
    report = drilled(center, tmp_path)
    assert report["outcome"] == "failed"
    assert "may restore 10" in report["error"]


def test_a_drill_is_cancelled_while_its_command_looks(
    center: FakeCenter, tmp_path: Path, drill_job: dict[str, Any], allow: Callable[[str], Path]
) -> None:
    looks = tmp_path / "looks"
    allow(f'[[command]]\nname = "look"\nrun = ["sh", "-c", "touch {looks}; sleep 600"]\n')
    center.finished.clear()
    # It is not waited for if it does not end.
    thread = threading.Thread(target=run_job, args=(Center(center.url, TOKEN), tmp_path, "recovery-1", 1), daemon=True)
    thread.start()
    wait_until(looks.exists, "the command to look")
    center.cancel = True
    assert center.finished.wait(60)
    thread.join()
    (report,) = center.bodies("finish")
    assert (report["outcome"], report["error"]) == ("cancelled", "")
    assert list((tmp_path / "drills").iterdir()) == []


def test_what_the_drill_of_a_killed_agent_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "drills" / "drill-recovery-1-1" / "restored").mkdir(parents=True)
    (tmp_path / "drills").chmod(0o711)
    sweep_left(tmp_path)
    assert list((tmp_path / "drills").iterdir()) == []


def test_a_recovery_brings_the_files_back(center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob) -> None:
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    snapshot = center.bodies("finish")[0]["result"]["snapshot_id"]
    target = tmp_path / "back"
    recovery = {"snapshot": snapshot, "destination": str(target), "include": [], "overwrite": "always", "verify": True}
    center.specification = {**center.specification, "kind": "recovery", "recovery": recovery}
    run_job(Center(center.url, TOKEN), tmp_path, "recovery-1", 1)
    report = center.bodies("finish")[1]
    assert report["outcome"] == "success"
    assert report["result"]["files_verified"] == 2
    assert compare_trees(os.fsencode(source), os.fsencode(target / source.relative_to("/"))) == []


def test_a_refused_claim_is_dropped(center: FakeCenter, tmp_path: Path) -> None:
    center.answers["claim"] = (409, {"error": "This attempt does not count any more."})
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    assert [path for path, _, _ in center.requests] == ["/api/agent/job/backup-12/claim"]


def test_an_engine_error_is_a_failure_with_its_sentence(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.specification["repository"]["password"] = "wrong"
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "failed"
    assert "no key" in report["error"]
    assert "wrong" not in str(report)


def test_a_killed_child_is_a_crash(center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob) -> None:
    center.specification = backup_job(source)
    thread, pid = stopped_child(center, tmp_path)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "crashed"
    assert "signal 9" in report["error"]


def test_a_job_that_meets_an_exclusive_lock_says_that_it_waits_and_can_be_cancelled(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)

    def is_waiting() -> bool:
        return any(said["progress"].get("phase") == WAITING for said in center.bodies("progress"))

    with Repository.open(open_store(str(repository)), PASSWORD).lock(exclusive=True):
        thread = run_in_thread(center, tmp_path)
        wait_until(is_waiting, "the job to wait")
        center.cancel = True
        thread.join()
    (report,) = center.bodies("finish")
    assert report["outcome"] == "cancelled"


def test_a_cancelled_child_that_does_not_listen_is_killed(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.cancel = True
    thread, _pid = stopped_child(center, tmp_path)
    thread.join(30)
    assert not thread.is_alive()
    (report,) = center.bodies("finish")
    assert report["outcome"] == "cancelled"


def test_a_stale_attempt_ends_its_child_and_reports_nothing(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.answers["progress"] = (409, {"error": "stale"})
    thread, pid = stopped_child(center, tmp_path)
    thread.join(30)
    assert center.bodies("finish") == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_work_goes_on_while_the_server_is_away_and_its_outcome_is_delivered_later(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.answers["finish"] = (500, {"error": "away"})
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 1
    del center.answers["finish"]
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 0
    assert center.bodies("finish")[-1]["outcome"] == "success"
    assert list((tmp_path / "outbox").iterdir()) == []


def test_an_outcome_is_kept_for_the_updated_agent_when_the_server_does_not_understand_this_one(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.answers["finish"] = (426, {"error": "This agent is too old for the server."})
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 1
    center.answers.clear()
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 0
    assert center.bodies("finish")[-1]["outcome"] == "success"


def test_no_secret_stands_in_the_childs_arguments_or_environment(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    thread, pid = stopped_child(center, tmp_path)
    seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    os.kill(pid, signal.SIGCONT)
    thread.join(30)
    assert PASSWORD.encode() not in seen
    assert TOKEN.encode() not in seen


def test_the_key_of_a_repository_is_derived_for_its_first_job_alone_and_stands_in_no_file(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    note = agent_job._Attempt._note
    monkeypatch.setattr(agent_job._Attempt, "_note", lambda self, line: said.append(json.loads(line)) or note(self, line))
    center.specification = backup_job(source)
    for attempt in (1, 2):
        run_job(Center(center.url, TOKEN), tmp_path, "backup-12", attempt)
    assert [report["outcome"] for report in center.bodies("finish")] == ["success", "success"]
    (derived,) = [one["keys"] for one in said if one["event"] == "derived"]
    assert agent_job._derived_keys[str(repository)] == derived
    (key,) = derived.values()
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key not in str(center.requests)


def test_a_changed_password_is_derived_anew_and_the_old_key_forgotten(
    center: FakeCenter, tmp_path: Path, source: Path, repository: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    old = agent_job._derived_keys[str(repository)]
    change_password(Repository.open(open_store(str(repository)), PASSWORD), "another")
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 2)
    center.specification["repository"]["password"] = "another"
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 3)
    assert [report["outcome"] for report in center.bodies("finish")] == ["success", "failed", "success"]
    new = agent_job._derived_keys[str(repository)]
    assert (len(new), new.keys() & old.keys()) == (1, set())


def test_a_file_that_cannot_be_read_makes_warnings(center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob) -> None:
    center.specification = backup_job(source)
    center.specification["backup"]["include"].append(str(tmp_path / "vanished"))
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "warnings"
    assert [item["path"] for item in report["unreadable"]] == [str(tmp_path / "vanished")]


def test_two_attempts_at_one_job_do_not_stand_in_each_others_way(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    first, pid = stopped_child(center, tmp_path)
    center.stale = {1}
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 2)
    first.join(30)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    outcomes = {report["attempt"]: report["outcome"] for report in center.bodies("finish")}
    assert outcomes[2] == "success"
    assert running_jobs() == []


def test_a_next_attempt_is_not_begun_while_the_one_before_it_still_runs_and_counts(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    first, pid = stopped_child(center, tmp_path)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 2)
    os.kill(pid, signal.SIGCONT)
    first.join(30)
    (claim,), (report,) = center.bodies("claim"), center.bodies("finish")
    assert (claim["attempt"], report["attempt"], report["outcome"]) == (1, 1, "success")


@pytest.mark.parametrize("is_server_back", [True, False])
def test_an_outcome_that_waits_is_told_before_the_next_attempt_is_claimed(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, is_server_back: bool
) -> None:
    center.specification = backup_job(source)
    center.answers["finish"] = (500, {"error": "away"})
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    if is_server_back:
        del center.answers["finish"]
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 2)
    steps = [path.rsplit("/", 1)[1] for path, _, _ in center.requests]
    first_claim = steps.index("claim")
    after_first = [step for step in steps[first_claim + 1 :] if step != "progress"]
    assert after_first[:2] == ["finish", "finish"]
    assert ("claim" in after_first) is is_server_back


def test_an_outcome_is_told_although_the_disk_is_full(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_whole(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agent.outbox.write_whole", write_whole)
    center.specification = backup_job(source)
    center.answers["finish"] = (500, {"error": "away"})
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    del center.answers["finish"]
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 0
    assert center.bodies("finish")[-1]["outcome"] == "success"
    seen = len(center.bodies("finish"))
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 0
    assert len(center.bodies("finish")) == seen


@pytest.mark.parametrize("page", [b"<html>back soon</html>", b"[1]", b""])
def test_a_page_in_the_servers_place_loses_no_outcome(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, page: bytes
) -> None:
    center.specification = backup_job(source)
    center.answers["progress"] = center.answers["finish"] = (200, page)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    center.answers.clear()
    assert deliver_reports(Center(center.url, TOKEN), tmp_path) == 0
    assert center.bodies("finish")[-1]["outcome"] == "success"


def test_a_process_that_cannot_be_started_is_a_crash(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(agent_job.subprocess, "Popen", refuse)
    center.specification = backup_job(source)
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "crashed"


def test_an_agent_that_stops_claims_nothing_more(
    center: FakeCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_job, "_stopping", threading.Event())
    agent_job.hand_back_jobs()
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    assert center.requests == []


@pytest.mark.parametrize("listens", [True, False])
def test_an_agent_that_stops_hands_its_jobs_back(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    monkeypatch.setattr(agent_job, "_stopping", threading.Event())
    center.specification = backup_job(source)
    thread, pid = stopped_child(center, tmp_path)
    agent_job.hand_back_jobs()
    if listens:
        os.kill(pid, signal.SIGCONT)
    thread.join(30)
    assert not thread.is_alive()
    (report,) = center.bodies("finish")
    assert (report["outcome"], report["error"]) == ("handed_back", "the agent was stopped")


@pytest.mark.parametrize("status", [401, 403])
def test_an_agent_whose_token_was_revoked_ends_its_work(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob, status: int
) -> None:
    center.specification = backup_job(source)
    center.answers["progress"] = (status, {"error": "Log in again."})
    thread, pid = stopped_child(center, tmp_path)
    thread.join(30)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_names_that_are_no_text_do_not_keep_a_report_back(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.specification["backup"]["include"] = [os.fsdecode(b"/nowhere/\xff"), *(f"/nowhere/{n}" for n in range(2000))]
    run_job(Center(center.url, TOKEN), tmp_path, "backup-12", 1)
    (report,) = center.bodies("finish")
    assert report["outcome"] == "failed"
    assert len(report["error"]) <= 2000
    report["error"].encode()


def test_a_claim_is_repeated_while_the_server_is_restarted(center: FakeCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "get_backoff_time", lambda retries: 0.0)
    usual, refusals = center.answer, iter([503] * 5)

    def answer(*asked: Any) -> Any:
        status = next(refusals, None)
        return (status, {"error": "It is about to come."}) if status else usual(*asked)

    monkeypatch.setattr(center, "answer", answer)
    center.specification = {"job": "backup-12"}
    assert Center(center.url, TOKEN).claim("backup-12", 1) == {"job": "backup-12"}


def test_every_claim_has_a_nonce_of_its_own(center: FakeCenter) -> None:
    for _ in range(2):
        Center(center.url, TOKEN).claim("backup-12", 1)
    first, second = center.bodies("claim")
    assert len(first["nonce"]) == 32
    assert first["nonce"] != second["nonce"]


def test_a_job_is_reported_as_seldom_as_the_server_wants(
    center: FakeCenter, tmp_path: Path, source: Path, backup_job: MakeJob
) -> None:
    center.specification = backup_job(source)
    center.answers["progress"] = 200, {"cancel": False, "lease_s": 30, "report_every_s": 3600}
    thread, pid = stopped_child(center, tmp_path)
    assert center.progressed.wait(30)
    # The child is looked after a few times more, and not one of these is a report.
    looked = threading.Event()
    threading.Timer(1.0, looked.set).start()
    looked.wait(5)
    assert len(center.bodies("progress")) == 1
    os.kill(pid, signal.SIGCONT)
    thread.join(30)
    assert center.bodies("finish")[0]["outcome"] == "success"
