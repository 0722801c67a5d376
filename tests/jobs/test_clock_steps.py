"""Clocks that jump, days that are left out, servers that were away: each fire is dealt with once, and nothing is lost for it."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupcenter.clock import StepWatch
from clients.presence import watch_presence
from jobs import watchdog
from jobs.claiming import hand_over
from jobs.models import BackupPlan, Rounds
from jobs.planning import run_plan
from jobs.quartz import QuartzExpression
from jobs.scheduling import GRACE, fire_due_plans, notice_clock_put_back
from records.models import BackupRecord, Event, State
from tests.factories import make_client, make_plan

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def tick(moment: datetime) -> None:
    """What `jobs.tasks.tick` does, at a time of the test's; what waits is over by then."""
    BackupRecord.objects.filter(state=State.QUEUED).update(state=State.SUCCESS)
    notice_clock_put_back(moment)
    fire_due_plans(moment)


def scheduled() -> list[datetime]:
    return list(BackupRecord.objects.order_by("scheduled_at").values_list("scheduled_at", flat=True))


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    """Fires every minute from noon."""
    return make_plan(tmp_path, cron_expression="0 * * * * ?", start_time=NOON)


def run_through(first: datetime, last: datetime) -> None:
    while first <= last:
        tick(first)
        first += timedelta(seconds=10)


def test_a_clock_that_goes_forth_and_back_doubles_nothing_and_leaves_nothing_out(plan) -> None:
    run_through(NOON, NOON + 2 * MINUTE)
    run_through(NOON + 60 * MINUTE, NOON + 62 * MINUTE)
    assert Event.objects.filter(title__contains="missed 57 runs").exists()
    run_through(NOON + 3 * MINUTE, NOON + 65 * MINUTE)
    assert scheduled() == [NOON + number * MINUTE for number in range(66)]
    assert Event.objects.filter(title__contains="clock was put back by 0:59").count() == 1


def test_a_clock_that_was_a_year_ahead_for_a_moment_stops_no_plan(plan) -> None:
    tick(NOON)
    tick(NOON + timedelta(days=365))
    tick(NOON + MINUTE)
    tick(NOON + 2 * MINUTE)
    plan.refresh_from_db()
    assert plan.next_fire_at == NOON + 3 * MINUTE


def test_a_fire_of_the_very_moment_that_the_clock_was_put_back_to_is_not_passed_over(plan) -> None:
    tick(NOON)
    tick(NOON + timedelta(minutes=38))
    tick(NOON + timedelta(minutes=16))
    tick(NOON + timedelta(minutes=16, seconds=2))
    assert NOON + timedelta(minutes=16) in scheduled()


def test_a_small_step_back_is_none(plan) -> None:
    tick(NOON)
    assert not notice_clock_put_back(NOON - timedelta(seconds=5))
    assert Rounds.objects.get().clock_at == NOON


@pytest.mark.parametrize("misfire", ["run-once", "skip"])
def test_after_a_day_without_the_server_the_policy_decides_and_is_told(plan, misfire) -> None:
    BackupPlan.objects.update(misfire=misfire)
    tick(NOON)
    tick(NOON + timedelta(days=1, seconds=30))
    late = BackupRecord.objects.filter(is_late=True)
    assert late.count() == (1 if misfire == "run-once" else 0)
    assert Event.objects.filter(title__contains="missed").count() == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(1, 15), st.integers(-7200, 7200)), max_size=30))
def test_whatever_the_ticks_no_fire_runs_twice_and_all_that_come_in_time_run(plan, steps) -> None:
    BackupRecord.objects.all().delete()
    Rounds.objects.all().delete()
    BackupPlan.objects.update(next_fire_at=NOON, fired_at=None)
    now, in_time = NOON, set()
    tick(now)
    for step in steps:
        before, now = now, now + timedelta(seconds=step)
        if now < NOON:
            now = NOON
        tick(now)
        if 0 < step <= GRACE.total_seconds():
            passed = before.replace(second=0) + MINUTE
            in_time |= {passed} if before < passed <= now else set()
    fires = scheduled()
    assert len(fires) == len(set(fires))
    assert in_time <= set(fires)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Shanghai", "Pacific/Apia"])
@pytest.mark.parametrize("text", ["0 30 2 * * ?", "0 0/30 * * * ?", "0 0 0 L * ?", "0 15 1,2,3 * * ?"])
def test_fires_follow_one_another_through_every_change_of_a_zone(zone, text) -> None:
    """2011, in which Samoa left out 30 December: no fire comes twice, none is passed over, whichever moment is asked from."""
    expression, tz = QuartzExpression.parse(text), ZoneInfo(zone)
    start, end = datetime(2011, 1, 1, tzinfo=UTC), datetime(2012, 3, 1, tzinfo=UTC)
    fires: list[datetime] = []
    fire = expression.next_after(start, tz)
    while fire is not None and fire < end:
        fires.append(fire)
        fire = expression.next_after(fire, tz)
    assert fires == sorted(set(fires))
    for earlier, later in itertools.pairwise(fires):
        assert expression.next_after(later - timedelta(seconds=1), tz) == later
        assert expression.next_after(earlier + (later - earlier) / 2, tz) == later
    if text.startswith("0 30 2"):
        days = {fire.astimezone(tz).date() for fire in fires}
        left_out = 1 if zone == "Pacific/Apia" else 0
        assert len(days) == len(fires) == (max(days) - min(days)).days + 1 - left_out


def test_a_leap_day_comes_every_four_years() -> None:
    fires = QuartzExpression.parse("0 0 3 29 2 ?").fires(datetime(2026, 1, 1, tzinfo=UTC), UTC, 3)
    assert [fire.year for fire in fires] == [2028, 2032, 2036]


def test_a_step_of_the_clock_is_seen_once_and_forgotten_after_a_while() -> None:
    wall, monotonic = [1000.0], [0.0]
    watch = StepWatch(lambda: wall[0], lambda: monotonic[0])

    def pass_time(seconds: float, step: float = 0) -> bool:
        monotonic[0] += seconds
        wall[0] += seconds + step
        return watch.is_steady(30)

    assert pass_time(5)
    assert pass_time(5, step=0.5)
    assert not pass_time(5, step=3600)
    assert not pass_time(20)
    assert pass_time(15)
    assert not pass_time(5, step=-3600)


def test_no_lease_is_lost_to_a_step_forward_and_none_lasts_for_hours_after_a_step_back(plan, monkeypatch, settings) -> None:
    record = run_plan(plan)
    hand_over(record, 1)
    wall = [0.0]
    watch = StepWatch(lambda: wall[0], lambda: 0.0)
    monkeypatch.setattr(watchdog, "clock", watch)
    BackupRecord.objects.update(lease_until=timezone.now() - timedelta(hours=1))
    wall[0] = 3600
    watchdog.watch()
    assert BackupRecord.objects.get().state == State.RUNNING
    BackupRecord.objects.update(lease_until=timezone.now() + timedelta(hours=1))
    watchdog.watch()
    assert BackupRecord.objects.get().lease_until <= timezone.now() + timedelta(seconds=settings.JOB_LEASE_S)


def test_a_client_that_was_heard_of_in_the_future_can_fall_silent(db) -> None:
    client = make_client(last_seen=timezone.now() + timedelta(hours=1))
    watch_presence()
    client.refresh_from_db()
    assert client.last_seen <= timezone.now()
