"""A month's report tells auditors what was backed up, proven and checked, in either language, signed and not to be forged."""

import base64
import re
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from jobs.auditreport.content import collect
from jobs.auditreport.reporting import make_due_report, parse_month, signed_report
from jobs.auditreport.signing import SignatureInvalid, fingerprint, sign, verify
from jobs.models import AuditReport, BackupPlan, SigningKey
from jobs.signing import public_key
from jobs.tasks import report as report_task
from records.deleting import delete_backup_record
from records.maintenance import request_maintenance
from records.models import BackupRecord, DeletedBackup, DeletedRuns, DrillRecord, Event, MaintenanceRun, State
from records.verification import verification_of
from storage.models import Verification
from storage.rotation import rotate_secrets
from tests.factories import make_plan, make_record

MARCH = date(2026, 3, 1)
IN_MARCH = datetime(2026, 3, 15, 12, tzinfo=UTC)
IN_APRIL = datetime(2026, 4, 2, 12, tzinfo=UTC)


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    """A plan with two good runs and a failed one in March, a drill and a failed check."""
    plan = make_plan(tmp_path, backup_name="<b>files</b>")
    BackupPlan.objects.update(created_at=IN_MARCH)
    for state in (State.SUCCESS, State.WARNINGS, State.FAILED):
        make_record(plan, state=state, end_time=IN_MARCH)
    make_record(plan, end_time=datetime(2026, 4, 1, tzinfo=UTC))
    make_record(plan, state=State.QUEUED, end_time=None)
    DrillRecord.objects.create(
        plan_uuid=plan.uuid,
        plan_name=plan.backup_name,
        state=State.SUCCESS,
        start_time=IN_MARCH,
        end_time=IN_MARCH,
        snapshot="c0ffee" + "0" * 58,
        files=23,
        of_files=4000,
        compared=23,
        bytes_restored=5 << 20,
        mismatches=0,
        duration_s=12.5,
        age_s=7200.0,
    )
    verification_of(plan.repository)
    Verification.objects.update(begun_at=IN_MARCH)
    request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    found = {"bytes_read": 3 << 20, "problems": ["pack is missing"]}
    MaintenanceRun.objects.update(state=State.FAILED, end_time=IN_MARCH, result=found, error="pack is missing")
    return plan


def test_a_month_is_what_ended_in_it(plan) -> None:
    content = collect(MARCH, IN_APRIL)
    told = content["plans"][0]
    assert told["runs"] == {"success": 1, "failed": 1, "warnings": 1}
    assert told["last_success"] == int(IN_MARCH.timestamp())
    assert [(drill["compared"], drill["duration_s"], drill["age_s"]) for drill in told["drills"]] == [(23, 12.5, 7200.0)]
    repository = content["repositories"][0]
    assert (repository["checks"], repository["failed"], repository["bytes_read"]) == (1, 1, 3 << 20)
    assert repository["problems"] == ["pack is missing"]
    assert content["is_complete"]
    assert collect(date(2026, 2, 1), IN_APRIL)["plans"] == []


def test_what_is_deleted_is_still_counted(plan) -> None:
    before = collect(MARCH, IN_APRIL)["plans"]
    DrillRecord.objects.update(backup_record=None)
    for record in BackupRecord.objects.exclude(state=State.QUEUED):
        delete_backup_record(record)
    assert collect(MARCH, IN_APRIL)["plans"] == before
    for model in (BackupRecord.trash, DeletedBackup.objects):
        record = model.first()
        record.delete()
    for record in BackupRecord.trash.all():
        record.delete()
    assert collect(MARCH, IN_APRIL)["plans"] == before
    assert DeletedRuns.objects.count() == 4
    plan.delete()
    assert collect(MARCH, IN_APRIL)["plans"] == before


def test_a_plan_that_did_nothing_is_in_the_report(plan, tmp_path) -> None:
    idle = make_plan(tmp_path, backup_name="idle")
    BackupPlan.objects.filter(pk=idle.pk).update(created_at=IN_MARCH)
    told = {found["name"]: found for found in collect(MARCH, IN_APRIL)["plans"]}
    assert (told["idle"]["runs"], told["idle"]["drills"]) == ({}, [])


@pytest.mark.parametrize(("language", "title", "proof"), [
    ("en", "Backup report of 2026-03", "recovery time"),
    ("zh-hans", "2026-03 备份报告", "恢复用时"),
])  # fmt: skip
def test_the_page_is_whole_and_in_either_language(plan, language, title, proof) -> None:
    page = signed_report(MARCH, language, IN_APRIL).decode()
    assert title in page
    assert proof in page
    assert "12.5 s" in page
    assert "&lt;b&gt;files" in page
    assert "<b>files" not in page
    assert not re.search(r'(?:src|href)="|url\(|@import|<script', page), "it needs nothing else"


def test_a_signed_report_is_valid_until_it_is_changed(plan) -> None:
    page = signed_report(MARCH, "en", IN_APRIL)
    verify(page, public_key())
    assert signed_report(MARCH, "en", IN_APRIL) == page
    with pytest.raises(SignatureInvalid, match="changed"):
        verify(page.replace(b"12.5 s", b"1.5 s"), public_key())
    with pytest.raises(SignatureInvalid, match="does not end"):
        verify(page + b"more", public_key())
    with pytest.raises(SignatureInvalid, match="does not end"):
        verify(b"", public_key())
    assert fingerprint(public_key()) in page.decode()


def test_a_report_that_another_signed_is_not_valid(plan) -> None:
    known = public_key()
    other = Ed25519PrivateKey.generate()
    SigningKey.objects.update(
        private_key=base64.b64encode(other.private_bytes_raw()).decode(),
        public_key=base64.b64encode(other.public_key().public_bytes_raw()).decode(),
    )
    forged = sign(b"all is well\n")
    with pytest.raises(SignatureInvalid, match="another key"):
        verify(forged, known)
    with pytest.raises(SignatureInvalid, match="changed"):
        verify(forged.replace(public_key().encode(), known.encode()), known)


def test_the_private_key_is_encrypted_and_goes_with_the_encryption_keys(db, settings) -> None:
    page = sign(b"page\n")
    private = SigningKey.objects.get().private_key
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_key FROM jobs_signingkey")
        assert private not in cursor.fetchone()[0]
    settings.ENCRYPTION_KEYS = ["new", *settings.ENCRYPTION_KEYS]
    assert {rotation.field: rotation.rows for rotation in rotate_secrets()}["jobs.SigningKey.private_key"] == 1
    settings.ENCRYPTION_KEYS = ["new"]
    assert sign(b"page\n") == page


def test_the_report_of_a_month_is_kept_when_it_has_ended(plan) -> None:
    assert make_due_report(IN_APRIL).content == collect(MARCH, IN_APRIL)
    assert make_due_report(IN_APRIL) is None
    assert Event.objects.filter(title__contains="2026-03").count() == 1
    DrillRecord.objects.all().delete()
    assert b"12.5 s" in signed_report(MARCH, "en", IN_APRIL)


def test_there_is_no_report_of_what_was_before_and_of_what_is_to_come(plan) -> None:
    assert make_due_report(IN_MARCH) is None
    assert not AuditReport.objects.exists()
    assert signed_report(date(2026, 5, 1), "en", IN_APRIL) is None
    assert b"The month has not ended" in signed_report(date(2026, 4, 1), "en", IN_APRIL)
    assert [parse_month(text) for text in ("2026-03", "2026-13", "26-03", "2026-3")] == [MARCH, None, None, None]


def test_beat_makes_the_last_months_report(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    BackupPlan.objects.update(created_at=timezone.now() - timedelta(days=70))
    report_task()
    assert AuditReport.objects.get().content["plans"][0]["uuid"] == str(plan.uuid)


def test_administrators_get_reports_over_the_api(plan, api) -> None:
    AuditReport.objects.create(month=MARCH, content=collect(MARCH, IN_APRIL))
    administrator = api("administrator")
    listed = administrator.get("/api/auditreport").json()
    assert [report["month"] for report in listed["reports"]] == ["2026-03"]
    answer = administrator.get("/api/auditreport/2026-03", {"lang": "zh-hans"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    verify(answer.content, listed["public_key"])
    assert "备份报告" in answer.content.decode()
    for address in ("/api/auditreport/2099-01", "/api/auditreport/2026-13"):
        assert administrator.get(address).status_code == 404
    assert administrator.get("/api/auditreport/2026-03", {"lang": "fr"}).status_code == 400
    assert api("operator").get("/api/auditreport/2026-03").status_code == 403


def test_the_console_links_to_the_pages(plan, account) -> None:
    AuditReport.objects.create(month=MARCH, content=collect(MARCH, IN_APRIL))
    browser = Browser()
    browser.force_login(account("administrator"))
    page = browser.get(reverse("admin:jobs_auditreport_changelist")).content.decode()
    link = "/api/auditreport/2026-03?lang=en"
    assert link in page
    assert browser.get(link).status_code == 200


def test_the_commands_write_and_verify(plan, tmp_path) -> None:
    out, page = StringIO(), tmp_path / "report.html"
    call_command("auditreport", "2026-03", "--output", str(page), stdout=out)
    call_command("verifyreport", str(page), stdout=out)
    call_command("verifyreport", str(page), "--key", public_key(), stdout=out)
    assert fingerprint(public_key()) in out.getvalue()
    page.write_bytes(page.read_bytes().replace(b"12.5 s", b"99.5 s"))
    with pytest.raises(CommandError, match="changed"):
        call_command("verifyreport", str(page))
    with pytest.raises(CommandError, match="like 2026-11"):
        call_command("auditreport", "March")
    with pytest.raises(CommandError, match="32 bytes"):
        call_command("verifyreport", str(page), "--key", "short")
