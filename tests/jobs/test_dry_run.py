"""A restore that only looks: asked for, handed to agents that know of it, kept with what it found, shown, and done for real."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client as Browser
from django.urls import reverse
from rest_framework.test import APIClient

from backupcenter.api.exceptions import Conflict
from clients.compatibility import DRY_RUN_PROTOCOL
from jobs.claiming import hand_over
from jobs.models import BackupPlan
from jobs.recovery import request_recovery
from records.lifecycle import finish_job
from records.models import BackupRecord, Event, RecoveryRecord, State
from records.preview import CHANGES_KEPT, kept_preview
from tests.factories import START, agent_token, make_plan, make_record

DATA = {"destination": "/back", "include": ["/etc"], "overwrite": "if-newer", "verify": True}
FOUND = {
    "created": 3, "overwritten": 1, "kept": 7, "removed": 1, "bytes_created": 3000, "bytes_overwritten": 10, "bytes_kept": 70,
    "bytes_removed": 4, "directories": 2,
    "changes": {
        "created": [["/etc/a", 1000], ["/etc/b", 2000]], "overwritten": [["/etc/hosts", 10]], "kept": [],
        "removed": [["/etc/x", 4]],
    },
}  # fmt: skip


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


@pytest.fixture
def dry_run(plan) -> RecoveryRecord:
    return request_recovery(plan.client, make_record(plan), json.dumps({**DATA, "dry_run": True}))


@pytest.fixture
def operator(account) -> Browser:
    browser = Browser()
    browser.force_login(account("operator"))
    return browser


def claimed(record: RecoveryRecord) -> dict[str, Any]:
    RecoveryRecord.objects.filter(pk=record.pk).update(offered_at=START)
    record.refresh_from_db()
    return hand_over(record, 1, protocol=DRY_RUN_PROTOCOL)


def done(record: RecoveryRecord, **preview: Any) -> RecoveryRecord:
    claimed(record)
    finish_job(record, 1, "success", result={"preview": {**FOUND, **preview}})
    return RecoveryRecord.objects.get(pk=record.pk)


def test_an_agent_is_told_that_it_is_a_dry_run(dry_run) -> None:
    assert claimed(dry_run)["recovery"]["dry_run"] is True


def test_a_restore_is_none_unless_it_is_asked_for(plan) -> None:
    assert claimed(request_recovery(plan.client, make_record(plan), json.dumps(DATA)))["recovery"]["dry_run"] is False
    with pytest.raises(ValidationError):
        request_recovery(plan.client, make_record(plan), json.dumps({**DATA, "dry_run": "yes"}))


def test_an_agent_that_would_restore_instead_is_not_given_it(dry_run) -> None:
    RecoveryRecord.objects.filter(pk=dry_run.pk).update(offered_at=START)
    dry_run.refresh_from_db()
    with pytest.raises(Conflict, match="too old"):
        hand_over(dry_run, 1, protocol=DRY_RUN_PROTOCOL - 1)
    dry_run.refresh_from_db()
    assert dry_run.state == State.QUEUED


def test_what_it_found_comes_with_the_report_and_over_the_api(dry_run, plan, api) -> None:
    claimed(dry_run)
    agent = APIClient(headers={"Authorization": f"Agent {agent_token(plan.client)}", "Agent-Protocol": str(DRY_RUN_PROTOCOL)})
    body = {"attempt": 1, "outcome": "success", "result": {"duration_s": 1.0, "preview": FOUND}}
    assert agent.post(f"/api/agent/job/{dry_run.job}/finish", body, format="json").status_code == 200
    shown = api("viewer").get(f"/api/record/recovery/{dry_run.pk}").json()
    assert shown["dry_run"] is True
    assert shown["preview"] == FOUND
    assert shown["files_restored"] is None


def test_what_is_no_preview_is_left_out_and_what_is_kept_is_bounded() -> None:
    assert kept_preview(None) is None
    kept = kept_preview({"created": -1, "kept": "x", "changes": {"created": [["/p", 1]] * 1000 + [[1, 2]], "kept": "x"}})
    assert kept is not None
    assert (kept["created"], kept["kept"], kept["changes"]["kept"]) == (0, 0, [])
    assert len(kept["changes"]["created"]) == CHANGES_KEPT


def test_its_page_lists_what_would_change_and_restores_for_real_by_a_button(dry_run, operator) -> None:
    record = done(dry_run)
    page = operator.get(reverse("admin:records_recoveryrecord_change", args=[record.pk])).content.decode()
    for text in ("Dry run: success", "<strong>7</strong> would be left as they are", "/etc/hosts", "Only the first are listed."):
        assert text in page
    operator.post(reverse("admin:jobs_backupplan_repeat_recovery", args=[record.pk]), {"for_real": "1"})
    real = RecoveryRecord.objects.get(state=State.QUEUED)
    assert not real.is_dry_run
    assert json.loads(real.recovery_data) == DATA


def test_run_again_it_stays_a_dry_run(dry_run, operator) -> None:
    operator.post(reverse("admin:jobs_backupplan_repeat_recovery", args=[done(dry_run).pk]))
    assert RecoveryRecord.objects.get(state=State.QUEUED).is_dry_run


def test_the_wizard_asks_for_one_without_a_confirmation_since_it_writes_nothing(plan, operator) -> None:
    record = make_record(plan)
    form = {"client": record.client_id, "place": "original", "directory": "", "overwrite": "always"}
    address = reverse("admin:jobs_backupplan_restore", args=[record.pk])
    assert operator.post(address, form).status_code == 400
    operator.post(address, {**form, "dry_run": "1"})
    assert RecoveryRecord.objects.get().is_dry_run


def test_it_counts_as_no_restore(dry_run, operator) -> None:
    done(dry_run)
    page = operator.get(reverse("admin:index")).content.decode()
    assert "nothing was restored yet" in page
    assert Event.objects.filter(title__startswith="Dry run of recovery").exists()
    assert BackupRecord.objects.count() == 1
