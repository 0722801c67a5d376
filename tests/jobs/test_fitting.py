"""A backup that would not fit into its tenant's quota fails before it starts, and says what to do."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from jobs.fitting import expected_bytes, quota_problem
from jobs.models import BackupPlan
from jobs.scheduling import fire_due_plans
from records.models import BackupRecord, Event, State
from storage.models import Tenant
from tests.factories import make_plan, make_record

MB = 1_000_000


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def ran(plan: BackupPlan, *stored: int) -> None:
    for size in stored:
        make_record(plan, bytes_stored=size)


def with_quota(plan: BackupPlan, *, used: int | None, quota: int | None, **fields) -> BackupPlan:
    Tenant.objects.update(used=used, quota=quota, **fields)
    return BackupPlan.objects.select_related("tenant__endpoint").get(pk=plan.pk)


def test_a_run_is_expected_to_store_as_much_as_the_last_ones_but_the_first(plan) -> None:
    assert expected_bytes(plan) is None
    ran(plan, 5000)
    assert expected_bytes(plan) is None
    ran(plan, 10, 20, 900)
    assert expected_bytes(plan) == 20
    ran(plan, *[40] * 10)
    assert expected_bytes(plan) == 40


def test_what_would_not_fit_has_failed_before_it_starts(api, plan) -> None:
    ran(plan, 50 * MB, 3 * MB, 3 * MB)
    with_quota(plan, used=98 * MB, quota=100 * MB)
    shown = api("operator").post(f"/api/backup/{plan.uuid}/run").json()
    assert (shown["state"], shown["start_time"]) == (State.FAILED, None)
    assert "would not fit" in shown["error"]
    assert "Raise it in the store" in shown["error"]
    record = BackupRecord.objects.get(pk=shown["id"])
    assert (record.offered_at, record.published_at) == (None, None)
    event = Event.objects.get(job=record.job)
    assert (event.level, event.title, event.message) == (Event.Level.ERROR, f"Backup {record} was not started", record.error)


def test_a_scheduled_run_fails_too_and_the_next_one_is_tried(plan) -> None:
    ran(plan, 50 * MB)
    with_quota(plan, used=100 * MB, quota=100 * MB)
    fire = timezone.now() - timedelta(seconds=1)
    BackupPlan.objects.update(next_fire_at=fire)
    fire_due_plans()
    record = BackupRecord.objects.get(scheduled_at=fire)
    assert record.state == State.FAILED
    assert "is full" in record.error
    plan.refresh_from_db()
    assert plan.next_fire_at > fire


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"used": 98 * MB, "quota": 100 * MB}, True),
        ({"used": 97 * MB, "quota": 100 * MB}, False),
        ({"used": 200 * MB, "quota": 100 * MB}, True),
        ({"used": 98 * MB, "quota": None}, False),
        ({"used": None, "quota": 100 * MB}, False),
        ({"used": 98 * MB, "quota": 100 * MB, "refresh_error": "the store does not answer"}, False),
    ],
)
def test_it_is_refused_only_if_the_quota_and_the_use_are_known(plan, fields, refused) -> None:
    ran(plan, 50 * MB, 3 * MB)
    assert (quota_problem(with_quota(plan, **fields)) is not None) == refused


def test_a_first_run_is_refused_only_if_the_quota_is_full(plan) -> None:
    assert quota_problem(with_quota(plan, used=99 * MB, quota=100 * MB)) is None
    assert quota_problem(with_quota(plan, used=100 * MB, quota=100 * MB)) is not None


def test_a_plan_tells_what_it_takes(api, plan) -> None:
    ran(plan, 50, 3, 5)
    make_record(plan, bytes_stored=7, deleted_at=timezone.now())
    with_quota(plan, used=90, quota=100)
    assert api("viewer").get(f"/api/backup/{plan.uuid}/usage").json() == {"stored": 58, "expected": 5, "left": 10}
