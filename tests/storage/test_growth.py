"""What is used is kept day by day; from it follows when a quota is full, and at 80 and 90 percent somebody is told."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client as Browser
from django.urls import reverse

from jobs.models import BackupPlan
from records.models import Event
from storage import growth, tenants
from storage.growth import KEPT, full_at, growth_per_day, sample_usage
from storage.models import Repository, Tenant, UsageSample
from storage.probing import TenantDescription
from storage.tenants import refresh_tenants
from tests.factories import make_plan

DAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MB = 1_000_000


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def days(*used: int) -> list[tuple[date, int]]:
    return [(DAY + timedelta(days=number), each) for number, each in enumerate(used)]


def use(tenant: Tenant, used: int, quota: int | None, monkeypatch) -> list[str]:
    """Let the store say what is used; return what people are told of it."""
    before = list(Event.objects.values_list("pk", flat=True))
    monkeypatch.setattr(tenants, "_ask", lambda tenant: TenantDescription("backup", "backup", quota, used))
    refresh_tenants([Tenant.objects.select_related("endpoint").get(pk=tenant.pk)])
    return list(Event.objects.exclude(pk__in=before).order_by("pk").values_list("title", flat=True))


def test_a_steady_growth_is_found_whatever_a_prune_or_a_first_backup_did() -> None:
    assert growth_per_day(days(*range(0, 100, 10))) == 10
    assert growth_per_day(list(reversed(days(*range(0, 100, 10))))) == 10
    with_a_prune = [1000 + 10 * number - (800 if number >= 28 else 0) for number in range(30)]
    assert growth_per_day(days(*with_a_prune)) == 10
    with_a_large_first_one = [0, *(5000 + 10 * number for number in range(29))]
    assert growth_per_day(days(*with_a_large_first_one)) == 10
    assert growth_per_day(days(*[7] * 10)) == 0
    assert growth_per_day(days(*range(100, 0, -10))) == -10


@pytest.mark.parametrize("samples", [[], days(1), days(1, 2, 3, 4), days(1, 2, 3, 4, 5, 6, 7), days(*range(8))[::7]])
def test_a_week_is_the_least_that_says_something(samples) -> None:
    assert growth_per_day(samples) is None


@pytest.mark.parametrize(
    ("used", "quota", "per_day", "expected"),
    [
        (500, 1000, 100, NOW + timedelta(days=5)),
        (1000, 1000, None, NOW),
        (2000, 1000, -5, NOW),
        (500, 1000, 0, None),
        (500, 1000, -1, None),
        (500, 1000, None, None),
        (500, None, 100, None),
        (None, 1000, 100, None),
        (0, 1 << 60, 1, None),
    ],
)
def test_the_day_on_which_the_quota_is_full(used, quota, per_day, expected) -> None:
    assert full_at(used, quota, per_day, NOW) == expected


def test_each_day_the_use_of_tenants_and_repositories_is_kept_once(plan) -> None:
    Tenant.objects.update(used=5 * MB, quota=10 * MB)
    for number in range(1, 11):
        UsageSample.objects.create(tenant=plan.tenant, day=DAY - timedelta(days=number), used=(5 - number / 10) * MB)
    old = UsageSample.objects.create(tenant=plan.tenant, day=DAY - KEPT - timedelta(days=1), used=1)
    assert sample_usage(NOW) == 2
    assert sample_usage(NOW + timedelta(hours=1)) == 0
    plan.tenant.refresh_from_db()
    assert plan.tenant.growth_per_day == 100_000
    assert plan.tenant.full_at == NOW + timedelta(days=50)
    repository = Repository.objects.get()
    stored = sum(path.stat().st_size for path in Path(repository.location).rglob("*") if path.is_file() and path.name != "config")
    assert (repository.used, repository.used_at, repository.growth_per_day) == (stored, NOW, None)
    assert stored > 0
    assert not UsageSample.objects.filter(pk=old.pk).exists()


def test_a_store_that_does_not_answer_is_asked_again_within_the_day(plan, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(growth, "_stored_bytes", lambda repository: None)
        assert sample_usage(NOW) == 0
    assert sample_usage(NOW) == 1


def test_at_eighty_and_ninety_percent_it_is_told_once_until_less_is_used(plan, monkeypatch) -> None:
    told = [use(plan.tenant, used, 100, monkeypatch) for used in (79, 80, 85, 90, 99, 85, 90, 10, 95)]
    assert [len(titles) for titles in told] == [0, 1, 0, 1, 0, 0, 1, 0, 1]
    assert told[1] == [f"Tenant {plan.tenant} uses 80 % of its quota"]
    levels = Event.objects.filter(title__contains="of its quota").order_by("pk").values_list("level", flat=True)
    assert list(levels) == [Event.Level.WARNING, *[Event.Level.ERROR] * 3]


def test_without_a_quota_nothing_is_told(plan, monkeypatch) -> None:
    assert use(plan.tenant, 1 << 50, None, monkeypatch) == []


def test_use_and_growth_are_in_the_api(api, plan) -> None:
    Tenant.objects.update(used=5, quota=10, growth_per_day=1, full_at=NOW)
    sample_usage(NOW)
    Tenant.objects.update(growth_per_day=1, full_at=NOW)
    viewer = api("viewer")
    tenant = viewer.get("/api/tenant").json()[0]
    assert (tenant["used"], tenant["growth_per_day"], tenant["full_time"]) == (5, 1, int(NOW.timestamp()))
    address = f"/api/tenant/{plan.tenant.username}/usage"
    assert viewer.get(address, {"endpoint": plan.tenant.endpoint.address}).json() == [{"day": "2026-03-01", "used": 5}]
    repository = viewer.get(f"/api/repository/{plan.repository_id}").json()
    assert (repository["used_time"], repository["growth_per_day"]) == (int(NOW.timestamp()), None)
    listed = viewer.get(f"/api/repository/{plan.repository_id}/usage").json()
    assert listed == [{"day": "2026-03-01", "used": repository["used"]}]


def test_use_and_growth_are_in_the_console(account, plan) -> None:
    Tenant.objects.update(used=5 * MB, quota=10 * MB)
    sample_usage(NOW)
    Tenant.objects.update(growth_per_day=2 * MB)
    browser = Browser()
    browser.force_login(account("viewer"))
    page = browser.get(reverse("admin:storage_tenant_changelist")).content.decode()
    assert "1.9\xa0MB" in page
    assert "not known yet" in browser.get(reverse("admin:storage_repository_changelist")).content.decode()
    shown = browser.get(reverse("admin:storage_tenant_change", args=[plan.tenant_id])).content.decode()
    by_day = reverse("admin:storage_usagesample_changelist") + f"?tenant__id__exact={plan.tenant_id}"
    assert by_day in shown
    assert "4.8\xa0MB" in browser.get(by_day).content.decode()
