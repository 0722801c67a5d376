"""Repositories that exist are adopted; snapshots without a record become records, and records without a snapshot say so."""

import json
import os
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from agent.child import _Out, run
from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.forget import forget
from engine.compare import compare_trees
from engine.repository import Repository as EngineRepository
from jobs.models import BackupPlan
from jobs.planning import run_plan
from jobs.recovery import request_recovery
from jobs.retention import apply_retention
from jobs.specification import job_specification
from records.adopting import sync_records
from records.deleting import delete_backup_record
from records.models import BackupRecord, Event, MaintenanceRun, State
from records.upkeep import request_due_maintenance
from storage.models import Repository, Tenant
from tests.factories import make_client, make_plan, make_record, make_tenant

PASSWORD = "password of restic's"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def tenant(db, tmp_path) -> Tenant:
    return make_tenant(tmp_path / "store")


@pytest.fixture
def source(tmp_path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_bytes(os.urandom(100_000))
    (directory / "other").write_text("other")
    return directory


@pytest.fixture
def existing(tmp_path) -> EngineRepository:
    """A repository that this server knows nothing of, at bucket `theirs`."""
    return EngineRepository.init(open_store(str(tmp_path / "store" / "theirs")), PASSWORD)


def adopt(api, tenant, **fields):
    key = {"username": tenant.username, "endpoint": {"address": tenant.endpoint.address}}
    return api("administrator").post(
        "/api/repository/adopt", {"tenant": key, "bucket": "theirs", "password": PASSWORD, **fields}, format="json"
    )


def opened(row: Repository) -> EngineRepository:
    return EngineRepository.open(open_store(row.location), row.password)


def test_its_snapshots_become_records_that_can_be_looked_into(api, tenant, existing, source) -> None:
    host = make_client(hostname="theirs")
    first = backup(existing, [str(source)], host="theirs", excludes=["*.tmp"], time=LONG_AGO)
    (source / "other").write_text("changed")
    second = backup(existing, [str(source)], host="theirs", excludes=["*.tmp"])
    answer = adopt(api, tenant)
    assert answer.status_code == 201
    assert answer.json()["records_added"] == 2
    assert PASSWORD not in answer.content.decode()
    older, newer = BackupRecord.objects.order_by("pk")
    assert (older.snapshot, newer.snapshot) == (first.snapshot_id, second.snapshot_id)
    assert older.plan_uuid == newer.plan_uuid
    assert {record.client for record in (older, newer)} == {host}
    assert (newer.state, newer.files_total, newer.bytes_read) == (State.SUCCESS, 2, second.bytes_total)
    assert newer.queued_at == newer.start_time
    shown = api("viewer").get(f"/api/record/backup/{older.pk}").json()
    assert json.loads(shown["backup_detail"]["backup_data"]) == {"include": [str(source)], "exclude": ["*.tmp"]}
    assert shown["adopted_time"] is not None
    files = api("viewer").get(f"/api/record/backup/{older.pk}/files", {"path": str(source)}).json()["files"]
    assert [entry["name"] for entry in files] == ["file", "other"]


def test_adopted_again_only_what_is_new_is_added(api, tenant, existing, source) -> None:
    backup(existing, [str(source)], host="theirs")
    assert adopt(api, tenant).status_code == 201
    again = adopt(api, tenant)
    assert (again.status_code, again.json()["records_added"]) == (200, 0)
    backup(existing, [str(source)], host="theirs")
    assert adopt(api, tenant).json()["records_added"] == 1
    assert Repository.objects.count() == 1
    assert BackupRecord.objects.count() == 2


@pytest.mark.restic
@pytest.mark.parametrize("version", ["1", "2"])
def test_what_restic_wrote_is_restored_by_an_agent_byte_by_byte(tenant, tmp_path, source, version) -> None:
    location = tmp_path / "store" / "bucket" / "deep" / "prefix"
    location.parent.mkdir(parents=True)
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(location)}
    for arguments in (["init", "--repository-version", version], ["backup", "--host", "elsewhere", str(source)]):
        subprocess.run(["restic", "--no-cache", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    out = StringIO()
    place = ["--endpoint", tenant.endpoint.address, "--bucket", "bucket", "--prefix", "deep/prefix"]
    call_command("adoptrepository", "--tenant", tenant.username, *place, "--password-file", str(password), stdout=out)
    assert "1 backups were new" in out.getvalue()
    record = BackupRecord.objects.get()
    assert record.client is None
    target = make_client(hostname="target")
    recovery = request_recovery(target, record, json.dumps({"destination": str(tmp_path / "back")}))
    specification = job_specification(recovery)
    result = run({**specification, "derived_keys": {}}, _Out(), threading.Event())
    assert result["errors"] == 0
    assert compare_trees(os.fsencode(source), os.fsencode(f"{tmp_path}/back{source}")) == []


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"password": "another"}, "password", "opens with this password"),
        ({"prefix": "nowhere"}, "bucket", "There is no repository at"),
        ({"bucket": "a/b"}, None, "cannot be the name of a bucket"),
    ],
)
def test_what_cannot_be_adopted_is_a_clear_400(api, tenant, existing, fields, field, sentence) -> None:
    answer = adopt(api, tenant, **fields)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert list(answer.json().get("fields", {})) == ([field] if field else [])
    assert not Repository.objects.exists()


def test_another_repository_in_its_place_is_refused(api, tenant, existing, tmp_path) -> None:
    adopt(api, tenant)
    (tmp_path / "store" / "theirs").rename(tmp_path / "away")
    EngineRepository.init(open_store(str(tmp_path / "store" / "theirs")), PASSWORD)
    assert adopt(api, tenant).status_code == 409


def test_the_console_adopts_too(account, tenant, existing, source) -> None:
    backup(existing, [str(source)], host="theirs")
    browser = Browser()
    browser.force_login(account("administrator"))
    form = {"tenant": tenant.pk, "bucket": "theirs", "prefix": "", "password": "wrong"}
    page = browser.post(reverse("admin:storage_repository_add"), form)
    assert "opens with this password" in page.content.decode()
    page = browser.post(reverse("admin:storage_repository_add"), {**form, "password": PASSWORD}, follow=True)
    assert "1 backup was found in it." in page.content.decode()
    assert PASSWORD not in page.content.decode()
    assert BackupRecord.objects.get().repository.password == PASSWORD


def test_what_was_adopted_is_held_for_ever_and_takes_nobodys_place(db, tmp_path, source) -> None:
    plan = make_plan(tmp_path, hold_type=BackupPlan.HoldType.COUNT, hold_time=1)
    repository = opened(plan.repository)
    tags = [f"plan-{plan.uuid}"]
    orphans = [backup(repository, [str(source)], host="h", tags=tags, time=LONG_AGO).snapshot_id for _ in range(2)]
    mine = make_record(plan, snapshot=backup(repository, [str(source)], host="h", tags=tags).snapshot_id)
    found = sync_records(plan.repository)
    assert len(found.adopted) == 2
    adopted = BackupRecord.objects.filter(pk__in=found.adopted)
    assert {(each.plan_uuid, each.plan_name, each.client) for each in adopted} == {(plan.uuid, plan.backup_name, plan.client)}
    assert {each.snapshot for each in adopted} == set(orphans)
    assert apply_retention(timezone.now() + timedelta(days=10_000)) == 0
    assert BackupRecord.objects.filter(pk=mine.pk).exists()


def test_what_an_agent_is_about_to_report_is_left_to_it(db, tmp_path, source) -> None:
    plan = make_plan(tmp_path)
    record = run_plan(plan)
    saved = backup(opened(plan.repository), [str(source)], host="h", tags=[f"plan-{plan.uuid}"])
    assert sync_records(plan.repository).adopted == []
    # Its agent dies, and the job is given up.
    BackupRecord.objects.filter(pk=record.pk).update(state=State.LOST)
    assert len(sync_records(plan.repository).adopted) == 1
    # Its agent comes back after all.
    BackupRecord.objects.filter(pk=record.pk).update(state=State.SUCCESS, snapshot=saved.snapshot_id, end_time=LONG_AGO)
    sync_records(plan.repository)
    assert list(BackupRecord.objects.values_list("pk", flat=True)) == [record.pk]
    assert not MaintenanceRun.objects.exists()


def test_a_snapshot_goes_with_its_last_record(db, tmp_path, settings) -> None:
    settings.TRASH_DAYS = 0
    plan = make_plan(tmp_path)
    first, second = (make_record(plan, snapshot="a" * 64) for _ in range(2))
    delete_backup_record(first)
    request_due_maintenance()
    assert MaintenanceRun.objects.get().arguments == {"snapshots": []}
    delete_backup_record(second)
    MaintenanceRun.objects.all().delete()
    request_due_maintenance()
    assert MaintenanceRun.objects.get().arguments == {"snapshots": ["a" * 64]}


def test_what_is_in_the_trash_or_still_to_be_forgotten_does_not_come_back(db, tmp_path, source, settings) -> None:
    plan = make_plan(tmp_path)
    saved = backup(opened(plan.repository), [str(source)], host="h", tags=[f"plan-{plan.uuid}"])
    delete_backup_record(make_record(plan, snapshot=saved.snapshot_id))
    assert sync_records(plan.repository).adopted == []
    settings.TRASH_DAYS = 0
    assert request_due_maintenance() == 1
    assert sync_records(plan.repository).adopted == []
    MaintenanceRun.objects.update(state=State.FAILED)
    assert sync_records(plan.repository).adopted == []


def test_a_record_whose_snapshot_was_removed_says_so_and_is_not_restored(api, db, tmp_path, source) -> None:
    plan = make_plan(tmp_path)
    repository = opened(plan.repository)
    saved = backup(repository, [str(source)], host="h")
    record = make_record(plan, snapshot=saved.snapshot_id)
    young = make_record(plan, snapshot="f" * 64, end_time=timezone.now())
    file = Path(plan.repository.location) / "snapshots" / saved.snapshot_id
    content = file.read_bytes()
    forget(repository, [saved.snapshot_id])
    out = StringIO()
    call_command("syncrecords", plan.repository.location, stdout=out)
    assert "0 found, 1 missing" in out.getvalue()
    told = Event.objects.filter(topic=Event.Topic.STORAGE, level=Event.Level.ERROR).get()
    assert f"#{record.pk}" in told.message
    shown = api("viewer").get(f"/api/record/backup/{record.pk}").json()
    assert shown["vanished_time"] is not None
    for step in ("files", "download"):
        answer = api("viewer").get(f"/api/record/backup/{record.pk}/{step}", {"path": "/"})
        assert (answer.status_code, "no longer in its repository" in answer.json()["error"]) == (409, True)
    body = {"client": {"ipv4": plan.client.ipv4}, "backup_record": {"id": record.pk}, "recovery_data": '{"destination": "/b"}'}
    assert api("operator").post("/api/recovery", body, format="json").status_code == 409
    young.refresh_from_db()
    assert young.vanished_at is None, "a store may list late what was just written"
    # Somebody has put it back.
    file.write_bytes(content)
    call_command("syncrecords", stdout=out)
    record.refresh_from_db()
    assert record.is_restorable


def test_a_repository_that_cannot_be_read_is_told_and_stops_no_other(db, tmp_path, source) -> None:
    gone, well = make_plan(tmp_path / "gone").repository, make_plan(tmp_path / "well").repository
    backup(opened(well), [str(source)], host="h")
    (tmp_path / "gone").rename(tmp_path / "away")
    with pytest.raises(CommandError):
        call_command("syncrecords", stdout=StringIO(), stderr=StringIO())
    assert BackupRecord.objects.filter(repository=well).count() == 1
    assert gone.location in Event.objects.get(level=Event.Level.WARNING).message


def test_damaged_snapshots_are_named_and_the_others_adopted(api, tenant, existing, source, tmp_path) -> None:
    saved = [backup(existing, [str(source)], host="theirs").snapshot_id for _ in range(2)]
    damaged = tmp_path / "store" / "theirs" / "snapshots" / saved[0]
    damaged.chmod(0o600)
    damaged.write_bytes(b"\0" * 300)
    answer = adopt(api, tenant).json()
    assert (answer["records_added"], answer["unreadable"]) == (1, [saved[0]])


def test_a_list_costs_no_key(db, tmp_path, source, monkeypatch) -> None:
    plan = make_plan(tmp_path)
    saved = backup(opened(plan.repository), [str(source)], host="h")
    make_record(plan, snapshot=saved.snapshot_id)
    monkeypatch.setattr(EngineRepository, "open", lambda *arguments: pytest.fail("there is nothing to read in it"))
    assert sync_records(plan.repository).adopted == []
