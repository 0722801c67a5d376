"""A plan's newest backup is restored, compared and removed, and what that showed is kept."""

import json
import os
import re
import stat
import subprocess
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from engine.commands.backup import backup
from engine.drills import scratch
from engine.drills.choosing import SAMPLE_FILES, choose_sample, choose_whole
from engine.drills.scratch import require_space, scratch_directory, sweep
from engine.errors import EngineError
from jobs.drills import drill_plan
from jobs.models import BackupPlan
from jobs.proof import proof_of
from records import maintenance
from records.drills import drilling
from records.drills.command import run_command
from records.maintenance import lose_expired_runs, run_maintenance
from records.models import DrillRecord, Event, MaintenanceRun, State
from storage.repositories import open_repository
from tests.factories import make_plan, make_record

IS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def scratch_top(settings, tmp_path: Path) -> Path:
    settings.DRILL_DIRECTORY = str(tmp_path / "drills")
    return tmp_path / "drills"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "deep" / "deeper").mkdir(parents=True)
    for number in range(20):
        (source / "deep" / f"file-{number}").write_bytes(os.urandom(1000 + number))
    (source / "deep" / "deeper" / "empty").touch()
    os.link(source / "deep" / "file-1", source / "other-name")
    (source / "to-nowhere").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    (source / b"no-utf8-\xff".decode("utf-8", "surrogateescape")).write_text("odd")
    (source / "closed").mkdir()
    (source / "closed" / "in").write_text("in")
    (source / "closed").chmod(0o500)
    return source


@pytest.fixture
def plan(db, tmp_path: Path, source: Path) -> BackupPlan:
    (tmp_path / "store").mkdir()
    plan = make_plan(tmp_path / "store")
    opened = open_repository(plan.repository)
    summary = backup(opened, [source], host="here")
    hour_ago = timezone.now() - timedelta(hours=1)
    make_record(plan, snapshot=summary.snapshot_id, start_time=hour_ago, end_time=hour_ago)
    return plan


def drilled(plan: BackupPlan, extent: str = "whole", command: str = "") -> DrillRecord:
    drill = drilling.request_drill(plan.uuid, plan.backup_name, extent, command)
    assert drill.run is not None
    run_maintenance(drill.run.pk, 1)
    drill.refresh_from_db()
    return drill


def packs(plan: BackupPlan) -> list[Path]:
    return [path for path in (Path(plan.repository.location) / "data").glob("*/*") if path.is_file()]


def test_a_whole_backup_is_restored_compared_and_removed(plan, scratch_top) -> None:
    drill = drilled(plan)
    assert (drill.state, drill.error, drill.problems) == (State.SUCCESS, "", [])
    # 20 files, of which one has two names, an empty, an odd one and one in a closed directory.
    assert (drill.files, drill.of_files, drill.compared, drill.mismatches) == (23, 24, 23, 0)
    assert drill.bytes_restored == sum(1000 + number for number in range(20)) + 5
    assert drill.duration_s > 0
    assert 3600 <= drill.age_s < 3700
    assert drill.snapshot == drill.backup_record.snapshot
    assert list(scratch_top.iterdir()) == []
    event = Event.objects.get(plan_uuid=plan.uuid)
    assert (event.level, event.topic) == (Event.Level.SUCCESS, Event.Topic.MAINTENANCE)
    assert plan.backup_name in event.title


def test_a_sample_is_drawn_by_chance_and_within_its_limit(plan) -> None:
    repository, snapshot = open_repository(plan.repository), plan_snapshot(plan)
    everything = choose_whole(repository, snapshot)
    sample = choose_sample(repository, snapshot, 5000)
    assert 0 < sample.size <= 5000
    assert sample.files <= len(sample.include) <= SAMPLE_FILES
    assert sample.of_files == everything.of_files == 24
    drawn = {tuple(choose_sample(repository, snapshot, 5000).include) for _ in range(5)}
    assert len(drawn) > 1
    smallest = choose_sample(repository, snapshot, -1)
    assert [Path(path).name for path in smallest.include] == ["empty"]


def plan_snapshot(plan: BackupPlan) -> str:
    record = drilling.newest_restorable(plan.uuid)
    assert record is not None
    return record.snapshot


def test_a_sample_is_restored_and_compared(plan, settings) -> None:
    settings.DRILL_SAMPLE_MIB = 1
    drill = drilled(plan, "sample")
    assert drill.state == State.SUCCESS, drill.error
    assert drill.compared == drill.files == 23


def test_a_damaged_backup_is_not_proven(plan, scratch_top) -> None:
    pack = max(packs(plan), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[100] ^= 1
    pack.write_bytes(content)
    drill = drilled(plan)
    assert drill.state == State.FAILED
    assert drill.mismatches >= 1
    assert drill.error == drill.problems[0] != ""
    assert Event.objects.filter(plan_uuid=plan.uuid, level=Event.Level.ERROR).count() == 1
    assert proof_of(plan).state == "failed"
    assert list(scratch_top.iterdir()) == []


def test_a_file_that_was_not_compared_is_no_proof(plan, monkeypatch) -> None:
    real = drilling.restore

    def forgets_one(*arguments, **options):
        found = real(*arguments, **options)
        found.compared -= 1
        return found

    monkeypatch.setattr(drilling, "restore", forgets_one)
    drill = drilled(plan)
    assert (drill.state, drill.mismatches) == (State.FAILED, 1)


def test_a_backup_that_is_gone_is_not_proven(plan, scratch_top) -> None:
    for snapshot in (Path(plan.repository.location) / "snapshots").iterdir():
        snapshot.unlink()
    drill = drilled(plan)
    assert drill.state == State.FAILED
    assert drill.error
    assert (drill.duration_s, drill.snapshot) == (None, plan_snapshot(plan))
    assert list(scratch_top.iterdir()) == []


def test_a_drill_whose_repository_is_in_use_waits(plan, scratch_top) -> None:
    with open_repository(plan.repository).lock(exclusive=True):
        drill = drilled(plan)
    assert drill.state == State.QUEUED
    assert drill.run.state == State.QUEUED
    run_maintenance(drill.run.pk, 1)
    drill.refresh_from_db()
    assert drill.state == State.SUCCESS, drill.error


def test_a_queued_drill_is_cancelled_at_once(plan, api) -> None:
    drill = drill_plan(plan)
    answer = api("operator").post(f"/api/record/drill/{drill.pk}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, State.CANCELLED)
    run_maintenance(drill.run.pk, 1)
    drill.refresh_from_db()
    assert (drill.state, drill.start_time, drill.run.state) == (State.CANCELLED, None, State.CANCELLED)
    assert Event.objects.filter(plan_uuid=plan.uuid, level=Event.Level.WARNING).count() == 1
    assert api("operator").post(f"/api/record/drill/{drill.pk}/cancel").status_code == 409
    assert drill_plan(plan).state == State.QUEUED


@pytest.mark.parametrize("moment", ["choosing", "restoring", "command"])
def test_a_running_drill_is_cancelled_and_removed(plan, scratch_top, monkeypatch, moment) -> None:
    """Somebody cancels it at a moment of it; what is asked after that says that nobody wants it."""
    monkeypatch.setattr(drilling, "LOOK_EVERY_S", 0)
    steps = {"choosing": "_choose", "restoring": "restore", "command": "run_command"}
    real = getattr(drilling, steps[moment])

    def cancelled(*arguments, **options):
        drilling.cancel_drill(DrillRecord.objects.get())
        return real(*arguments, **options)

    monkeypatch.setattr(drilling, steps[moment], cancelled)
    drill = drilled(plan, command="sleep 600")
    assert (drill.state, drill.error, drill.command_status) == (State.CANCELLED, "", None)
    assert drill.end_time is not None
    assert proof_of(plan).state == "none"
    assert drill.run.state == State.CANCELLED
    assert list(scratch_top.iterdir()) == []
    # The engine's process has ended by itself, and left no lock.
    assert not list((Path(plan.repository.location) / "locks").iterdir())


def test_the_page_of_a_drill_has_a_button_that_cancels_it(plan, account) -> None:
    drill, browser = drill_plan(plan), Browser()
    address = reverse("admin:records_drillrecord_change", args=[drill.pk])
    button = reverse("admin:records_drillrecord_cancel", args=[drill.pk])
    for role, shown in (("viewer", False), ("operator", True)):
        browser.force_login(account(role))
        assert (button in browser.get(address).content.decode()) == shown
    browser.post(button)
    drill.refresh_from_db()
    assert drill.state == State.CANCELLED
    assert button not in browser.get(address).content.decode()


def test_a_drill_whose_worker_died_for_good_is_lost(plan, settings) -> None:
    settings.JOB_ATTEMPTS = 1
    drill = drill_plan(plan)
    past = timezone.now() - timedelta(hours=1)
    MaintenanceRun.objects.update(state=State.RUNNING, lease_until=past)
    assert lose_expired_runs() == 1
    drill.refresh_from_db()
    assert drill.state == State.LOST
    assert proof_of(plan).state == "failed"


def test_the_command_sees_what_was_restored_and_nothing_of_the_servers(plan, source, monkeypatch) -> None:
    monkeypatch.setenv("BACKUPCENTER_SECRET_KEY", "canary")
    drill = drilled(plan, command="id -u; env; cat ." + str(source) + "/closed/in; ls -ld .; exit 0")
    assert drill.state == State.SUCCESS, drill.command_output
    said = drill.command_output
    assert "canary" not in said
    assert "BACKUPCENTER" not in said
    assert f"DRILL_PLAN={plan.backup_name}" in said
    assert re.search(r"^in\S", said, re.MULTILINE)
    if IS_ROOT:
        assert said.splitlines()[0] != "0"


@pytest.mark.parametrize(("command", "status", "reason"), [
    ("echo broken >&2; exit 3", 3, "status 3"),
    ("kill -9 $$", 137, "status 137"),
    ("sleep 60", None, "after 1 seconds"),
])  # fmt: skip
def test_a_command_that_fails_fails_the_drill(plan, settings, command, status, reason) -> None:
    settings.DRILL_COMMAND_S = 1
    drill = drilled(plan, command=command)
    assert (drill.state, drill.command_status) == (State.FAILED, status)
    assert reason in drill.error
    assert ("broken" in drill.command_output) == (status == 3)


def test_a_command_leaves_nothing_running_and_of_much_output_the_end(tmp_path) -> None:
    restored = tmp_path / "home" / "restored"
    restored.mkdir(parents=True)
    tmp_path.chmod(0o711)
    marker = "sleep 987654"
    outcome = run_command(f"{marker} & yes | head -c 100000; echo end", restored, user="nobody", limit_s=60, named={})
    assert outcome.status == 0
    assert len(outcome.output) <= 4096
    assert outcome.output.endswith("end")
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"987654" in line for line in running)


@pytest.mark.root
def test_what_a_command_is_given_lends_it_no_rights_and_follows_no_link(tmp_path) -> None:
    restored = tmp_path / "home" / "restored"
    restored.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_text("ours")
    outside.chmod(0o600)
    (restored / "link").symlink_to(outside)
    (restored / "directory").symlink_to(tmp_path)
    shell = restored / "shell"
    shell.write_bytes(Path("/bin/sh").read_bytes())
    shell.chmod(0o4755)
    os.mknod(restored / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(restored / "fifo")
    said = run_command(
        "ls; ./shell -p -c 'id -u'; grep NoNewPrivs /proc/self/status; cat link", restored, user="nobody", limit_s=60, named={}
    ).output
    assert "null" not in said
    assert "fifo" not in said
    assert "\n0\n" not in said
    assert re.search(r"NoNewPrivs:\s*1", said)
    assert "ours" not in said
    assert outside.stat().st_uid == 0
    assert tmp_path.stat().st_uid == 0


def test_there_must_be_the_user_to_run_a_command_as(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EngineError, match="BACKUPCENTER_DRILL_USER"):
        run_command("true", tmp_path, user="no-such-user", limit_s=1, named={})


def test_what_is_too_large_is_not_restored(plan, settings, monkeypatch, tmp_path) -> None:
    with pytest.raises(EngineError, match="BACKUPCENTER_DRILL_GIB"):
        require_space(tmp_path, 2, 1, 1, "name another")
    monkeypatch.setattr(scratch, "KEPT_FREE", 1 << 60)
    drill = drilled(plan)
    assert drill.state == State.FAILED
    assert "BACKUPCENTER_DRILL_DIRECTORY" in drill.error


def test_what_a_drill_left_that_died_is_removed_by_the_next(plan, scratch_top) -> None:
    left = scratch_top / "drill-99-1"
    (left / "closed").mkdir(parents=True)
    (left / "closed" / "file").touch()
    (left / "closed").chmod(0)
    (left / "link").symlink_to(scratch_top.parent)
    scratch_top.chmod(0o711)
    with scratch_directory(scratch_top, "100-1") as directory:
        assert not left.exists()
        (directory / "file").touch()
        assert sweep(scratch_top) == 0
        assert (directory / "file").exists()
    assert not directory.exists()
    assert (scratch_top.parent / "store").exists()


def test_a_directory_that_others_may_write_to_is_refused(scratch_top) -> None:
    scratch_top.mkdir()
    scratch_top.chmod(0o777)
    with pytest.raises(EngineError, match="nobody else"), scratch_directory(scratch_top, "1-1"):
        pass


def test_a_fault_during_a_drill_leaves_nothing_behind(plan, scratch_top, monkeypatch) -> None:
    def fault(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(drilling, "run_command", fault)
    drill = drilled(plan, command="true")
    assert drill.state == State.FAILED
    assert list(scratch_top.iterdir()) == []


def test_a_plan_shows_what_is_proven_of_it(plan, api, account) -> None:
    viewer, address = api("viewer"), f"/api/backup/{plan.uuid}"
    assert viewer.get(address).json()["proof"] == {"state": "none", "at": None, "duration_s": None, "age_s": None}
    drill = drilled(plan)
    proof = viewer.get("/api/backup").json()["Data"][0]["proof"]
    assert proof["state"] == "proven"
    assert proof["at"] == int(drill.start_time.timestamp())
    assert (proof["duration_s"], proof["age_s"]) == (drill.duration_s, drill.age_s)
    DrillRecord.objects.create(plan_uuid=plan.uuid, state=State.FAILED, end_time=timezone.now())
    assert viewer.get(address).json()["proof"] == {**proof, "state": "failed"}
    browser = Browser()
    browser.force_login(account("viewer"))
    page = browser.get(reverse("admin:jobs_backupplan_change", args=[plan.pk])).content.decode()
    assert "last proven restorable" in page
    assert "the last drill failed" in page


def test_a_run_remembers_its_plan_without_its_proof(plan, api) -> None:
    assert "proof" not in api("operator").post(f"/api/backup/{plan.uuid}/run").json()["backup_detail"]


def test_the_evidence_is_listed_and_not_to_be_deleted(plan, api, account) -> None:
    drill = drilled(plan, command="echo loaded")
    shown = api("viewer").get("/api/record/drill", {"backup": str(plan.uuid), "state": 0}).json()
    assert (shown["page"], shown["total"]) == (1, 1)
    evidence = shown["Data"][0]
    assert evidence == api("viewer").get(f"/api/record/drill/{drill.pk}").json()
    assert (evidence["compared"], evidence["mismatches"], evidence["command_status"]) == (23, 0, 0)
    assert evidence["command_output"] == "loaded"
    assert api("viewer").get("/api/record/drill", {"since": 4102444800}).json()["total"] == 0
    assert api("administrator").delete(f"/api/record/drill/{drill.pk}").status_code == 405
    browser = Browser()
    browser.force_login(account("viewer"))
    page = browser.get(reverse("admin:records_drillrecord_change", args=[drill.pk])).content.decode()
    assert "loaded" in page


def test_a_drill_outlives_its_backup_record_its_run_and_its_plan(plan) -> None:
    drill = drilled(plan)
    drill.backup_record.delete()
    MaintenanceRun.objects.all().delete()
    plan.delete()
    drill.refresh_from_db()
    assert (drill.state, drill.compared, drill.backup_record, drill.run) == (State.SUCCESS, 23, None, None)


def test_a_plan_without_a_backup_has_nothing_to_drill(db, tmp_path, api) -> None:
    plan = make_plan(tmp_path)
    make_record(plan, state=State.FAILED)
    answer = api("operator").post(f"/api/backup/{plan.uuid}/drill")
    assert answer.status_code == 409
    assert not DrillRecord.objects.exists()


def test_one_drill_of_a_plan_at_a_time(plan, api) -> None:
    assert api("operator").post(f"/api/backup/{plan.uuid}/drill").status_code == 201
    assert api("operator").post(f"/api/backup/{plan.uuid}/drill").status_code == 409


def test_the_command_drills_and_fails_if_nothing_is_proven(plan) -> None:
    out = StringIO()
    call_command("drill", plan.backup_name, "--extent", "whole", stdout=out)
    assert "23 of 24 files" in out.getvalue()
    for pack in packs(plan):
        pack.unlink()
    with pytest.raises(CommandError):
        call_command("drill", str(plan.uuid), stdout=out)
    with pytest.raises(CommandError, match="0 plans"):
        call_command("drill", "nobody's", stdout=out)


def test_no_secret_is_told_to_the_restores_process_but_on_its_input(plan, monkeypatch) -> None:
    seen = {}
    real = maintenance.WORK[MaintenanceRun.Kind.DRILL]
    popen = subprocess.Popen

    class Watched(popen):
        def __init__(self, command, **options):
            seen.update(command=command, environment=options["env"])
            super().__init__(command, **options)

    monkeypatch.setenv("BACKUPCENTER_SECRET_KEY", "canary")
    monkeypatch.setattr("records.enginechild.subprocess.Popen", Watched)
    assert drilled(plan).state == State.SUCCESS
    assert "canary" not in json.dumps(seen["environment"])
    assert plan.repository.password not in json.dumps([seen["command"], seen["environment"]])
    assert real is drilling.perform_drill
