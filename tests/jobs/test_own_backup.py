"""When the server's own database is backed up, what of it is kept, and that people hear if it is not."""

import os
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from backupcenter.api.exceptions import Conflict
from engine.errors import EngineError
from engine.snapshot import Snapshot, iter_snapshots, save_snapshot
from jobs.console.attention import needs
from jobs.models import OwnBackup
from jobs.ownbackup import dumping, keeping
from jobs.ownbackup.keeping import OURS, TAG, back_up_now, choose_place, outlived, request_due_backup
from records.adopting import sync_records
from records.maintenance import run_maintenance
from records.models import BackupRecord, MaintenanceRun, State
from records.verifying import request_due_checks
from storage.models import Verification
from storage.repositories import open_repository
from tests.factories import make_plan, make_tenant

pytestmark = pytest.mark.django_db
Kind = MaintenanceRun.Kind


@pytest.fixture(autouse=True)
def database(tmp_path, settings, monkeypatch):
    """What is dumped is a file of the test's: the tests' database is in memory."""
    import sqlite3

    path = tmp_path / "center.sqlite3"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE kept (name TEXT)")
        made.executemany("INSERT INTO kept VALUES (?)", [(f"row {number}",) for number in range(1000)])
    monkeypatch.setitem(settings.DATABASES, "default", {**settings.DATABASES["default"], "NAME": str(path)})
    return path


@pytest.fixture
def place(tmp_path):
    (tmp_path / "store").mkdir()
    chosen = choose_place(make_tenant(tmp_path / "store"), "server")
    assert request_due_backup() is True
    return chosen


def run(number: int | None = None) -> MaintenanceRun:
    found = MaintenanceRun.objects.get(pk=number) if number else MaintenanceRun.objects.filter(state=State.QUEUED).latest("pk")
    run_maintenance(found.pk, found.attempt)
    found.refresh_from_db()
    return found


def test_choosing_a_place_makes_the_first_backup_and_each_day_another(place):
    assert request_due_backup() is False
    first = run()
    assert (first.kind, first.state, first.error) == (Kind.OWN_BACKUP, State.SUCCESS, "")
    assert first.result["bytes"] > 10_000
    assert request_due_backup() is False
    assert request_due_backup(timezone.now() + timedelta(hours=25)) is True
    assert request_due_backup(timezone.now() + timedelta(hours=25)) is False
    repository = open_repository(place.repository)
    (snapshot,) = iter_snapshots(repository)
    assert snapshot.tags == (TAG,)


def test_no_place_is_no_backup():
    assert request_due_backup() is False
    with pytest.raises(Conflict):
        back_up_now()


def test_one_that_failed_is_tried_again_an_hour_later_and_told_of(place, monkeypatch):
    def fail(path):
        raise EngineError("pg_dump is not installed")

    monkeypatch.setattr(keeping, "dump_source", fail)
    failed = run()
    assert (failed.state, failed.error) == (State.FAILED, "pg_dump is not installed")
    assert request_due_backup() is False
    assert request_due_backup(timezone.now() + timedelta(minutes=61)) is True


def test_what_the_database_cannot_give_makes_no_snapshot(place, database):
    database.unlink()
    database.mkdir()
    assert run().state == State.FAILED
    assert list(iter_snapshots(open_repository(place.repository))) == []


def test_seven_days_four_weeks_and_twelve_months_are_kept(place):
    repository = open_repository(place.repository)
    now = datetime(2026, 11, 26, 3, tzinfo=UTC)
    common = {"tree": bytes(32), "paths": (keeping.PATH,), "hostname": "here", "tags": (TAG,)}
    for days in range(500):
        save_snapshot(repository, Snapshot(time=now - timedelta(days=days), **common))
    gone = outlived(repository, now)
    assert 500 - len(gone) == pytest.approx(20, abs=3)
    kept = [snapshot for snapshot in iter_snapshots(repository) if OURS.matches(snapshot) and snapshot.id not in gone]
    newest = sorted(snapshot.time for snapshot in kept)[-7:]
    assert newest == [now - timedelta(days=days) for days in range(6, -1, -1)]


def test_it_is_no_clients_record_but_is_checked_as_all_are(place):
    run()
    sync_records(place.repository)
    assert not BackupRecord.objects.exists()
    request_due_checks()
    assert Verification.objects.filter(repository=place.repository).exists()


def test_people_are_told_when_it_is_missing_and_not_before_there_is_a_plan(place, tmp_path):
    def titles(plans) -> str:
        return " ".join(need.title for need in needs([], plans, []))

    (tmp_path / "other").mkdir()
    plan = make_plan(tmp_path / "other")
    plans = {plan.pk: plan}
    assert "is not backed up" in titles(plans)
    run()
    assert "own database" not in titles(plans)
    MaintenanceRun.objects.update(end_time=timezone.now() - timedelta(hours=37))
    assert "has had no new backup" in titles(plans)
    assert "own database" not in titles({})


def test_the_console_chooses_a_place_and_backs_up(account, client, tmp_path):
    (tmp_path / "store").mkdir()
    tenant = make_tenant(tmp_path / "store")
    client.force_login(account("administrator"))
    page = reverse("admin:jobs_ownbackup_add")
    assert "cannot be the name" in client.post(page, {"tenant": tenant.pk, "bucket": "no/bucket"}).content.decode()
    assert client.post(page, {"tenant": tenant.pk, "bucket": "server"}).status_code == 302
    assert OwnBackup.objects.get().repository.prefix == keeping.PREFIX
    run()
    listed = reverse("admin:jobs_ownbackup_changelist")
    chosen = {"action": "back_up", "_selected_action": [OwnBackup.objects.get().pk]}
    assert "is queued" in client.post(listed, chosen, follow=True).content.decode()
    assert "queued or runs already" in client.post(listed, chosen, follow=True).content.decode()


def test_the_command_needs_a_place(tmp_path):
    with pytest.raises(CommandError, match="No place"):
        call_command("backupserver", stdout=StringIO())
    with pytest.raises(CommandError, match="no tenant"):
        call_command("backupserver", tenant="nobody", bucket="server", stdout=StringIO())


def test_a_password_is_in_no_argument(settings, monkeypatch):
    monkeypatch.setattr(dumping.connection, "vendor", "postgresql")
    place = {"NAME": "center", "USER": "center", "PASSWORD": "s3cr3t", "HOST": "db", "PORT": "5432"}
    monkeypatch.setitem(settings.DATABASES, "default", place)
    monkeypatch.setattr(dumping, "_program", lambda name: f"/usr/bin/{name}")
    source = dumping.dump_source("/x")
    assert "s3cr3t" not in str(source["arguments"])
    assert source["environment"]["PGPASSWORD"] == "s3cr3t"
    assert not any(name.startswith("BACKUPCENTER_") for name in source["environment"])
    assert os.environ.get("PGPASSWORD") is None


def test_the_api_chooses_a_place_backs_up_and_tells_how_it_went(api, tmp_path):
    (tmp_path / "store").mkdir()
    tenant = make_tenant(tmp_path / "store")
    people = api("administrator")
    assert people.get("/api/serverbackup").json() == {"repository": None, "newest_time": None, "error": ""}
    assert people.post("/api/serverbackup").status_code == 409
    place = {"tenant": {"username": tenant.username, "endpoint": {"address": tenant.endpoint.address}}, "bucket": "no/bucket"}
    assert people.put("/api/serverbackup", place, format="json").status_code == 400
    assert people.get("/api/serverbackup").json()["repository"] is None
    told = people.put("/api/serverbackup", {**place, "bucket": "server"}, format="json")
    assert (told.status_code, told.json()["repository"]) == (200, OwnBackup.objects.get().repository.location)
    queued = people.post("/api/serverbackup")
    assert queued.status_code == 201
    done = run(queued.json()["id"])
    assert people.get("/api/serverbackup").json()["newest_time"] == int(done.end_time.timestamp())
    assert people.delete("/api/serverbackup").status_code == 204
    assert not OwnBackup.objects.exists()
