"""What the front page's curve is of: each day's protected and stored bytes."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from jobs.models import BackupPlan, FleetDay
from jobs.protection import KEPT, SHOWN_DAYS, fleet_days, note_fleet
from jobs.tasks import note_fleet_task
from records.models import State
from storage.models import Repository, UsageSample
from tests.factories import make_plan, make_record


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def test_protected_is_what_the_newest_backup_of_every_plan_holds(plan, tmp_path) -> None:
    other = make_plan(tmp_path)
    make_record(plan, bytes_read=1000)
    make_record(plan, bytes_read=300)
    make_record(plan, bytes_read=7, state=State.FAILED)
    make_record(plan, bytes_read=7, vanished_at=timezone.now())
    make_record(other, bytes_read=20, state=State.WARNINGS)
    gone = make_plan(tmp_path)
    make_record(gone, bytes_read=5)
    gone.delete()
    Repository.objects.filter(pk=plan.repository.pk).update(used=40)
    note_fleet_task()
    assert FleetDay.objects.values_list("protected", "stored").get() == (320, 40)
    make_record(plan, bytes_read=500)
    note_fleet_task()
    assert FleetDay.objects.values_list("protected", "stored").get() == (520, 40), "a day has one row"


def test_the_days_before_the_first_note_have_what_was_stored(plan, tmp_path) -> None:
    today = timezone.localdate()
    other = make_plan(tmp_path)
    for repository, used in ((plan.repository, 10), (other.repository, 5)):
        UsageSample.objects.create(tenant=plan.tenant, repository=repository, day=today - timedelta(days=3), used=used)
    UsageSample.objects.create(tenant=plan.tenant, day=today - timedelta(days=3), used=999)
    note_fleet()
    note_fleet(timezone.now() + timedelta(days=1))
    first, *others = fleet_days()
    assert (first.day, first.protected, first.stored) == (today - timedelta(days=3), None, 15)
    assert len(others) == 2


def test_old_days_are_let_go_and_the_curve_is_bounded(plan) -> None:
    now = timezone.now()
    note_fleet(now - KEPT - timedelta(days=2))
    FleetDay.objects.bulk_create([FleetDay(day=timezone.localdate(now) - timedelta(days=back)) for back in range(1, 120)])
    note_fleet(now)
    assert FleetDay.objects.count() == 120
    assert len(fleet_days(now)) == SHOWN_DAYS


def test_the_front_page_teaches_what_the_curve_will_be_and_then_shows_it_with_a_table(plan, account) -> None:
    browser = Browser()
    browser.force_login(account("viewer"))
    page = browser.get(reverse("admin:index")).content.decode()
    assert "With the second day the curve begins." in page
    assert "shows here after the first backup" in page
    make_record(plan, bytes_read=4096, bytes_added=1024, bytes_stored=512)
    note_fleet(timezone.now() - timedelta(days=1))
    note_fleet()
    page = browser.get(reverse("admin:index")).content.decode()
    assert 'data-value="4096">4.0\xa0KB<' in page
    assert page.count("<canvas") >= 1
