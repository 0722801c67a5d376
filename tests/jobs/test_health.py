"""How safe each plan is, and what the front page says of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from jobs.health import Health, fleet_health
from jobs.models import BackupPlan
from records.models import BackupRecord, State
from tests.factories import make_plan, make_record


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def health_of(plan: BackupPlan) -> Health:
    """Return the health of the only plan."""
    (judged,) = fleet_health().plans
    assert judged.plan == plan.pk
    return judged.health


def test_a_plan_without_a_backup_has_never_run_well(plan) -> None:
    assert health_of(plan) == Health.NEVER
    make_record(plan, state=State.CANCELLED)
    make_record(plan, state=State.RUNNING)
    assert health_of(plan) == Health.NEVER


@pytest.mark.parametrize("state", [State.SUCCESS, State.WARNINGS])
def test_a_plan_whose_last_run_left_a_backup_is_fresh(plan, state) -> None:
    make_record(plan, state=State.FAILED)
    make_record(plan, state=state)
    make_record(plan, state=State.CANCELLED)
    assert health_of(plan) == Health.FRESH
    assert fleet_health().is_safe


@pytest.mark.parametrize("state", [State.FAILED, State.LOST])
def test_a_plan_whose_last_run_failed_is_failing_until_one_ends_well(plan, state) -> None:
    make_record(plan)
    make_record(plan, state=state)
    make_record(plan, state=State.QUEUED)
    assert health_of(plan) == Health.FAILING
    assert not fleet_health().is_safe


def test_a_plan_is_late_if_a_fire_was_due_and_nobody_dealt_with_it(plan) -> None:
    make_record(plan)
    BackupPlan.objects.update(next_fire_at=timezone.now() - timedelta(minutes=6))
    assert health_of(plan) == Health.LATE


def test_a_plan_is_late_if_its_run_waits_for_more_than_an_hour(plan) -> None:
    make_record(plan)
    waiting = make_record(plan, state=State.QUEUED)
    assert health_of(plan) == Health.FRESH
    BackupRecord.objects.filter(pk=waiting.pk).update(queued_at=timezone.now() - timedelta(minutes=61))
    assert health_of(plan) == Health.LATE


def test_a_paused_plan_is_paused_whatever_it_was(plan) -> None:
    BackupPlan.objects.update(paused=True)
    assert health_of(plan) == Health.PAUSED


def test_judging_takes_as_many_queries_for_many_plans(plan, tmp_path, django_assert_num_queries) -> None:
    for _number in range(5):
        make_record(make_plan(tmp_path))
    with django_assert_num_queries(2):
        health = fleet_health()
    assert (len(health.plans), health.counts[Health.FRESH], health.counts[Health.NEVER]) == (6, 5, 1)
