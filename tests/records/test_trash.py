"""What was deleted can be brought back for a while; then it is forgotten. What is under legal hold is not deleted at all."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from jobs.models import BackupPlan
from jobs.planning import delete_plan
from jobs.recovery import request_recovery
from jobs.retention import apply_retention
from records.deleting import UnderLegalHold, delete_backup_record, undelete_backup_record
from records.legal_hold import place_legal_hold
from records.models import BackupRecord, Event, State
from records.upkeep import request_due_maintenance
from tests.factories import make_plan, make_record


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


@pytest.fixture
def held(plan) -> BackupRecord:
    record = make_record(plan, hold_until=timezone.now() - timedelta(days=1))
    place_legal_hold(record, "jane", "case 7")
    record.refresh_from_db()
    return record


def is_there(record: BackupRecord) -> bool:
    return BackupRecord.objects.filter(pk=record.pk).exists()


def test_a_deleted_record_is_listed_in_the_trash_and_brought_back(api, plan) -> None:
    record, other = make_record(plan), make_record(plan)
    operator, viewer = api("operator"), api("viewer")
    assert operator.delete(f"/api/record/backup/{record.pk}").status_code == 204
    (listed,) = viewer.get("/api/record/backup?deleted=true").json()["Data"]
    assert (listed["id"], listed["gone_time"] - listed["deleted_time"], listed["let_go"]) == (record.pk, 7 * 86_400, False)
    assert viewer.get(f"/api/record/backup/{record.pk}?deleted=1").status_code == 200
    assert viewer.post(f"/api/record/backup/{record.pk}/undelete").status_code == 403
    shown = operator.post(f"/api/record/backup/{record.pk}/undelete")
    assert (shown.status_code, shown.json()["deleted_time"]) == (200, None)
    assert [one["id"] for one in viewer.get("/api/record/backup").json()["Data"]] == [other.pk, record.pk]
    assert operator.post(f"/api/record/backup/{record.pk}/undelete").status_code == 404
    assert viewer.get("/api/record/backup?deleted=perhaps").status_code == 400


def test_who_deleted_and_brought_back_is_in_the_audit_log(api, plan) -> None:
    record = make_record(plan)
    api("operator").delete(f"/api/record/backup/{record.pk}")
    api("operator").post(f"/api/record/backup/{record.pk}/undelete")
    entries = api("administrator").get("/api/audit").json()["Data"][:2]
    assert [(entry["actor"], [each["name"] for each in entry["objects"]]) for entry in entries] == [("operator", [str(record)])] * 2


def test_a_deleted_record_that_was_not_let_go_keeps_its_hold_when_it_is_brought_back(plan) -> None:
    record = make_record(plan, hold_until=timezone.now() + timedelta(days=1))
    delete_backup_record(record)
    undelete_backup_record(record)
    assert apply_retention() == 0
    assert apply_retention(timezone.now() + timedelta(days=2)) == 1


def test_the_trash_is_a_page_of_the_console_and_gives_back(plan, account) -> None:
    record = make_record(plan)
    delete_backup_record(record)
    browser = Browser()
    browser.force_login(account("operator"))
    trash = reverse("admin:records_deletedbackup_changelist")
    assert str(record.plan_name) in browser.get(trash).content.decode()
    page = browser.post(trash, {"action": "undelete", "_selected_action": [record.pk]}, follow=True).content.decode()
    assert "was brought back" in page
    assert is_there(record)


def test_a_record_under_legal_hold_is_deleted_by_nobody(api, account, plan, held) -> None:
    answer = api("administrator").delete(f"/api/record/backup/{held.pk}")
    assert answer.status_code == 409
    assert "legal hold" in answer.json()["error"]
    browser = Browser()
    browser.force_login(account("administrator"))
    page = browser.post(reverse("admin:records_backuprecord_delete", args=[held.pk]), {"post": "yes"}, follow=True)
    assert "legal hold" in page.content.decode()
    many = {"action": "delete_selected", "_selected_action": [held.pk], "post": "yes"}
    browser.post(reverse("admin:records_backuprecord_changelist"), many)
    assert apply_retention() == 0
    delete_plan(plan)
    assert apply_retention() == 0
    for delete in (held.delete, BackupRecord.objects.filter(pk=held.pk).delete, BackupRecord.objects.all().delete):
        with pytest.raises(UnderLegalHold), transaction.atomic():
            delete()
    typed = {"post": "yes", "typed": held.repository.location}
    browser.post(reverse("admin:storage_repository_delete", args=[held.repository.pk]), typed)
    assert is_there(held)
    assert api("administrator").delete(f"/api/client/{plan.client.ipv4}").status_code == 204
    assert is_there(held)


def test_legal_hold_outlasts_the_grace_of_what_slipped_into_the_trash(held) -> None:
    BackupRecord.objects.update(deleted_at=timezone.now() - timedelta(days=30))
    assert request_due_maintenance() == 0
    assert BackupRecord.trash.filter(pk=held.pk).exists()


def test_administrators_place_and_lift_legal_hold_and_it_is_told(api, plan) -> None:
    record = make_record(plan)
    address = f"/api/record/backup/{record.pk}/legal-hold"
    assert api("operator").post(address, {"reason": "mine"}, format="json").status_code == 403
    administrator = api("administrator")
    assert administrator.post(address, {}, format="json").status_code == 400
    shown = administrator.post(address, {"reason": "case 7"}, format="json").json()["legal_hold"]
    assert (shown["by"], shown["reason"]) == ("administrator", "case 7")
    assert shown["time"] == pytest.approx(timezone.now().timestamp(), abs=60)
    assert administrator.post(address, {"reason": "again"}, format="json").status_code == 409
    assert api("operator").delete(address).status_code == 403
    assert administrator.delete(address).status_code == 204
    assert administrator.delete(address).status_code == 409
    assert administrator.get(f"/api/record/backup/{record.pk}").json()["legal_hold"] is None
    told = list(Event.objects.filter(topic=Event.Topic.BACKUP).order_by("pk").values_list("title", "message"))
    assert told == [
        (f"Backup {record} was put under legal hold by administrator", "case 7"),
        (f"The legal hold of backup {record} was lifted by administrator", "case 7"),
    ]
    entries = administrator.get("/api/audit?action=backup-record-legal-hold&outcome=done").json()["Data"]
    assert [entry["objects"][0]["name"] for entry in entries] == [str(record)] * 2
    assert administrator.delete(f"/api/record/backup/{record.pk}").status_code == 204


@pytest.mark.parametrize("fields", [{"state": State.FAILED, "snapshot": ""}, {"state": State.RUNNING, "snapshot": ""}])
def test_what_cannot_be_restored_cannot_be_held(api, plan, fields) -> None:
    record = make_record(plan, **fields)
    answer = api("administrator").post(f"/api/record/backup/{record.pk}/legal-hold", {"reason": "case 7"}, format="json")
    assert answer.status_code == 409


def test_the_console_asks_for_the_reason_of_a_legal_hold(account, plan) -> None:
    record = make_record(plan)
    browser = Browser()
    browser.force_login(account("administrator"))
    address = reverse("admin:records_backuprecord_changelist")
    form = {"action": "place_hold", "_selected_action": [record.pk]}
    assert 'name="legal_hold_reason"' in browser.post(address, form).content.decode()
    record.refresh_from_db()
    assert not record.is_under_legal_hold
    browser.post(address, {**form, "legal_hold_reason": "case 7"})
    record.refresh_from_db()
    assert (record.legal_hold_by, record.legal_hold_reason) == ("administrator", "case 7")
    assert "case 7" in browser.get(reverse("admin:records_backuprecord_change", args=[record.pk])).content.decode()
    browser.post(address, {**form, "action": "lift_hold"})
    record.refresh_from_db()
    assert not record.is_under_legal_hold


def test_what_is_being_restored_is_not_deleted(api, plan) -> None:
    record = make_record(plan)
    request_recovery(plan.client, record, '{"destination": "/back"}')
    assert api("operator").delete(f"/api/record/backup/{record.pk}").status_code == 409
