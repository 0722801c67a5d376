"""The page of a run: its phases, its curve with a table, its log, what to do about an error, running it again."""

from pathlib import Path

import pytest
from django.test import Client as Browser
from django.urls import reverse

from jobs.models import BackupPlan
from jobs.recovery import request_recovery
from records.course import kept_course
from records.lifecycle import cancel_job
from records.models import BackupRecord, RecoveryRecord, State
from tests.factories import make_plan, make_record
from tests.records.test_course import TOLD


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


@pytest.fixture
def operator(account) -> Browser:
    browser = Browser()
    browser.force_login(account("operator"))
    return browser


def shown(browser: Browser, record: BackupRecord | RecoveryRecord) -> str:
    answer = browser.get(reverse(f"admin:records_{record.KIND}record_change", args=[record.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_failed_run_tells_its_phases_its_curve_its_log_and_what_to_do(plan, operator) -> None:
    page = shown(operator, make_record(plan, state=State.FAILED, error="It does not answer.", course=kept_course(TOLD)))
    for text in ("reading and storing", "/etc/shadow: Permission denied", "What to do:", "doctor", "3 earlier lines"):
        assert text in page
    assert '<tr data-x="2.0">' in page
    assert 'data-value="1000"' in page


def test_a_run_stands_beside_the_one_before(plan, operator) -> None:
    before = make_record(plan, files_total=11, bytes_read=2048)
    page = shown(operator, make_record(plan, files_total=12, bytes_read=4096))
    assert f"#{before.pk}</a>" in page
    assert page.index('<td class="number">12</td>') < page.index('<td class="number">11</td>')


def test_a_backup_is_run_again_by_its_button(plan, operator) -> None:
    record = make_record(plan, state=State.FAILED)
    button = reverse("admin:jobs_backupplan_repeat_backup", args=[record.pk])
    assert f'action="{button}"' in shown(operator, record)
    assert operator.get(button).status_code == 405
    answer = operator.post(button)
    again = BackupRecord.objects.get(state=State.QUEUED)
    assert answer["Location"] == reverse("admin:records_backuprecord_change", args=[again.pk])
    assert f'action="{button}"' not in shown(operator, again)


def test_a_backup_whose_plan_is_gone_cannot_be_run_again_and_says_so(plan, operator) -> None:
    record = make_record(plan, state=State.FAILED)
    plan.delete()
    answer = operator.post(reverse("admin:jobs_backupplan_repeat_backup", args=[record.pk]), follow=True)
    assert "The backup plan was deleted." in answer.content.decode()


def test_a_recovery_is_asked_for_again_as_it_was(plan, operator) -> None:
    recovery = request_recovery(plan.client, make_record(plan), '{"destination": "/back", "verify": false}')
    cancel_job(recovery)
    operator.post(reverse("admin:jobs_backupplan_repeat_recovery", args=[recovery.pk]))
    again = RecoveryRecord.objects.get(state=State.QUEUED)
    assert (again.client, again.recovery_data) == (plan.client, recovery.recovery_data)


def test_a_button_is_for_who_may_press_it(plan, account) -> None:
    viewer = Browser()
    viewer.force_login(account("viewer"))
    assert "/repeat/" not in shown(viewer, make_record(plan, state=State.FAILED))
