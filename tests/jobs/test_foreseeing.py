"""What would come of a plan before it is there: its fires, the backups that stay, and what they take."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.foreseeing import MOST_RUNS, coming_fires, foreseen_cost, staying_backups
from jobs.models import BackupPlan
from records.models import State
from tests.factories import START, make_plan, make_record, make_tenant

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def plan_of(expression: str | None = "0 0 3 * * ?", **fields: Any) -> BackupPlan:
    return BackupPlan(**{"cron_expression": expression, "timezone": "UTC", "start_time": START, **fields})


def test_the_next_fires_are_told_in_the_plans_zone_over_the_change_of_daylight_saving() -> None:
    plan = plan_of("0 30 2 * * ?", timezone="Europe/Berlin")
    fires = coming_fires(plan, datetime(2026, 3, 28, 0, tzinfo=UTC), 3)
    assert [f"{fire:%d %H:%M %z}" for fire in fires] == ["28 02:30 +0100", "29 03:30 +0200", "30 02:30 +0200"]
    assert coming_fires(plan_of(end_time=START + timedelta(days=1)), NOW) == []
    assert coming_fires(plan_of(None, start_time=NOW), NOW) == [NOW]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"hold_type": 5, "hold_time": 7}, 7),
        ({"hold_type": 1, "hold_time": 30}, 30),
        ({"hold_type": 2, "hold_time": 1}, 7),
        ({"keep": {"daily": 14}}, 14),
        ({"keep": {"last": 3, "yearly": 2}}, 4),
    ],
)
def test_what_stays_is_counted_by_hold_and_by_rules(fields: dict[str, Any], kept: int) -> None:
    staying = staying_backups(plan_of(**fields), NOW)
    assert len(staying.kept) == kept
    assert staying.kept[0][0] == NOW.replace(hour=3)
    assert all(reasons for _time, reasons in staying.kept)
    assert not staying.is_growing
    assert staying.runs == pytest.approx(3 * 366, abs=1)


def test_for_ever_grows_and_once_is_one() -> None:
    assert staying_backups(plan_of(), NOW).is_growing
    assert len(staying_backups(plan_of(None, keep={"last": 1}), NOW).kept) == 1


def test_of_a_dense_schedule_the_newest_runs_are_looked_at() -> None:
    staying = staying_backups(plan_of("0 0/5 * * * ?", keep={"last": 1, "hourly": 5}), NOW)
    assert staying.runs == MOST_RUNS
    assert staying.since == NOW - timedelta(minutes=5) * (MOST_RUNS - 1)
    assert len(staying.kept) == 5
    # In bunches: a minute's sixty, once a day.
    bunched = staying_backups(plan_of("* 0 3 * * ?", keep={"last": 1}), NOW)
    assert (bunched.runs, bunched.since) == (MOST_RUNS, datetime(2026, 5, 29, 3, 0, 40, tzinfo=UTC))


@pytest.mark.django_db
def test_cost_is_judged_by_what_the_tenants_runs_have_stored(tmp_path) -> None:
    new = plan_of(tenant=make_tenant(tmp_path))
    unknown = foreseen_cost(new, 1000, 10)
    assert (unknown.first, unknown.later, unknown.together, unknown.fits) == (1000, None, None, True)
    plan = make_plan(tmp_path)
    for stored in (500, 10, 20, 30):
        make_record(plan, bytes_read=1000, bytes_stored=stored)
    make_record(plan, state=State.FAILED, bytes_read=1000, bytes_stored=999)
    known = foreseen_cost(new, 1000, 10)
    assert (known.first, known.later, known.together) == (500, 20, 500 + 9 * 20)
    new.tenant.quota, new.tenant.used = 1000, 400
    assert not foreseen_cost(new, 1000, 10).fits
    assert foreseen_cost(new, 100, 10).fits
