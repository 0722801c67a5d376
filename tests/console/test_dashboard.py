"""The console's front page: the verdict, what needs a person, the first steps, the days."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.cache import cache
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from jobs.console.attention import needs, worst_plans
from jobs.console.first_steps import first_steps
from jobs.health import fleet_health
from jobs.models import BackupPlan
from jobs.recovery import request_recovery
from records.maintenance import request_maintenance
from records.models import BackupRecord, MaintenanceRun, RecoveryRecord, State
from records.statistics import recent_days
from storage.models import Endpoint, Tenant
from tests.factories import make_client, make_plan, make_record
from tests.services.tls import Authority

MOST_QUERIES = 15


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    cache.clear()
    return make_plan(tmp_path)


@pytest.fixture
def operator(account) -> Browser:
    browser = Browser()
    browser.force_login(account("operator"))
    return browser


def titles() -> list[str]:
    plans = BackupPlan.objects.in_bulk()
    return [need.title for need in needs(worst_plans(fleet_health()), plans, Tenant.objects.select_related("endpoint"))]


def test_a_failing_plan_is_told_with_its_error_and_run_again_by_its_button(plan, operator) -> None:
    failed = make_record(plan, state=State.FAILED, error="The bucket is gone.")
    page = operator.get(reverse("admin:index")).content.decode()
    assert f"{plan} fails" in page
    assert "The bucket is gone." in page
    assert reverse("admin:records_backuprecord_change", args=[failed.pk]) in page
    button = reverse("admin:jobs_backupplan_run", args=[plan.pk])
    assert f'action="{button}"' in page
    operator.post(button)
    assert BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.QUEUED).count() == 1


def test_the_front_page_tells_that_redis_is_away(plan, operator, settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    assert "Redis does not answer" in operator.get(reverse("admin:index")).content.decode()


def test_a_button_is_for_who_may_press_it(plan, account) -> None:
    make_record(plan, state=State.FAILED)
    viewer = Browser()
    viewer.force_login(account("viewer"))
    assert reverse("admin:jobs_backupplan_run", args=[plan.pk]) not in viewer.get(reverse("admin:index")).content.decode()


def test_following_a_link_to_a_button_does_nothing(plan, operator) -> None:
    assert operator.get(reverse("admin:jobs_backupplan_run", args=[plan.pk])).status_code == 405
    assert not BackupRecord.objects.exists()


def test_silent_clients_and_those_without_an_agent_are_told(plan) -> None:
    make_record(plan)
    now = timezone.now()
    silent, heard = make_client(last_seen=now - timedelta(hours=1)), make_client(last_seen=now)
    told = titles()
    assert f"Client {silent} does not answer" in told
    assert f"Client {plan.client} has no agent yet" in told
    assert not any(str(heard) in title for title in told)


def test_a_tenant_that_is_nearly_full_or_cannot_be_read_is_told(plan) -> None:
    Tenant.objects.update(quota=1000, used=799)
    assert not any(title.startswith("Tenant") for title in titles())
    Tenant.objects.update(used=850)
    assert any(title.endswith("85 % of the quota is used") for title in titles())
    Tenant.objects.update(refresh_error="The keys are wrong.")
    assert any(title.endswith("cannot be read from its store") for title in titles())


def test_an_authority_that_expires_within_a_month_is_told(plan) -> None:
    def told() -> list[str]:
        return [title for title in titles() if title.startswith("An authority of store")]

    Endpoint.objects.update(authorities=Authority(days=40).pem)
    assert told() == []
    Endpoint.objects.update(authorities=Authority(days=40).pem + Authority(days=20).pem)
    assert len(told()) == 1


def test_a_check_that_failed_is_told_until_one_of_its_kind_ends_well(plan) -> None:
    run = request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    MaintenanceRun.objects.filter(pk=run.pk).update(state=State.FAILED, error="a pack is missing", end_time=timezone.now())
    assert any("check of repository" in title for title in titles())
    other = request_maintenance(plan.repository, MaintenanceRun.Kind.CHECK)
    MaintenanceRun.objects.filter(pk=other.pk).update(state=State.SUCCESS, end_time=timezone.now())
    assert not any("check of repository" in title for title in titles())


def test_the_first_steps_are_shown_until_something_was_restored(plan, operator) -> None:
    done = [step.is_done for step in first_steps(fleet_health(), has_tenant=True, has_agent=False)]
    assert done == [True, True, False, True, False, False]
    assert "Join a host" in operator.get(reverse("admin:index")).content.decode()
    record = make_record(plan)
    assert reverse("admin:records_backuprecord_browse", args=[record.pk]) in operator.get(reverse("admin:index")).content.decode()
    request_recovery(plan.client, record, '{"destination": "/back"}')
    RecoveryRecord.objects.update(state=State.SUCCESS, end_time=timezone.now())
    assert "Join a host" not in operator.get(reverse("admin:index")).content.decode()


@pytest.mark.django_db
def test_an_empty_installation_is_led_to_its_first_store(operator) -> None:
    page = operator.get(reverse("admin:index")).content.decode()
    assert "Nothing is backed up yet." in page
    assert reverse("admin:storage_endpoint_add") in page


def test_each_day_counts_its_runs_by_how_they_ended(plan) -> None:
    now = timezone.now()
    for state, days_ago in [(State.SUCCESS, 0), (State.FAILED, 0), (State.LOST, 1), (State.WARNINGS, 2), (State.RUNNING, 3)]:
        record = make_record(plan, state=state, bytes_read=100, bytes_added=10, bytes_stored=5)
        BackupRecord.objects.filter(pk=record.pk).update(queued_at=now - timedelta(days=days_ago))
    days = recent_days(5)
    assert [day.worst for day in days] == ["none", "none", "warnings", "failed", "failed"]
    assert (days[-1].success, days[-1].failed, days[-1].read, days[-1].added, days[-1].stored) == (1, 1, 100, 10, 5)
    assert days[-1].date == timezone.localdate()


def test_the_front_page_takes_as_many_queries_for_a_larger_fleet(plan, operator, tmp_path, django_assert_max_num_queries) -> None:
    for _number in range(8):
        make_record(make_plan(tmp_path), state=State.FAILED)
        make_record(plan, state=State.RUNNING, progress={"bytes_done": 1, "bytes_total": 2})
    with django_assert_max_num_queries(MOST_QUERIES):
        operator.get(reverse("admin:index"))
