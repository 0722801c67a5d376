"""A plan without a new backup for too long is told of once, whatever the reason, and once more when it has one."""

from datetime import UTC, datetime, timedelta

import pytest

from jobs.staleness import stale_since, watch_staleness
from records.events import emit
from records.models import Event, State
from tests.factories import make_plan, make_record

pytestmark = pytest.mark.django_db
# Each night at two.
NIGHTLY = "0 0 2 * * ?"
BACKED_UP = datetime(2026, 3, 2, 2, 10, tzinfo=UTC)


@pytest.fixture
def plan(tmp_path):
    made = make_plan(tmp_path, cron_expression=NIGHTLY, timezone="UTC", start_time=datetime(2026, 3, 1, tzinfo=UTC))
    made.next_fire_at = datetime(2026, 3, 3, 2, tzinfo=UTC)
    made.save()
    return made


def backup(plan, end: datetime, state: State = State.SUCCESS):
    return make_record(plan, state=state, start_time=end, end_time=end, snapshot="ab" * 32 if state == State.SUCCESS else "")


def fires_next(plan, moment: datetime) -> None:
    type(plan).objects.filter(pk=plan.pk).update(next_fire_at=moment)


def told() -> list[str]:
    return list(Event.objects.exclude(occasion="").order_by("pk").values_list("occasion", flat=True))


def test_a_plan_is_stale_when_its_schedule_has_come_round_again(plan):
    assert stale_since(plan, BACKED_UP) == datetime(2026, 3, 4, 2, tzinfo=UTC)
    plan.cron_expression = "0 * * * * ?"
    assert stale_since(plan, BACKED_UP) == datetime(2026, 3, 2, 3, 11, tzinfo=UTC)
    plan.cron_expression = None
    assert stale_since(plan, None) == plan.start_time + timedelta(hours=1)


def test_whose_runs_fail_night_after_night_is_told_of_once(plan):
    backup(plan, BACKED_UP)
    for night in (3, 4, 5):
        moment = datetime(2026, 3, night, 2, 10, tzinfo=UTC)
        backup(plan, moment, State.FAILED)
        fires_next(plan, moment + timedelta(days=1))
        watch_staleness(moment)
        watch_staleness(moment + timedelta(hours=1))
    assert told() == ["stale"]
    plan.refresh_from_db()
    assert plan.stale_since == datetime(2026, 3, 4, 2, tzinfo=UTC)


def test_whose_runs_are_not_even_begun_is_told_of(plan):
    backup(plan, BACKED_UP)
    watch_staleness(datetime(2026, 3, 3, 12, tzinfo=UTC))
    assert told() == []
    watch_staleness(datetime(2026, 3, 4, 2, 1, tzinfo=UTC))
    assert told() == ["stale"]


def test_a_new_plan_without_a_backup_is_told_of_when_two_fires_have_passed(plan):
    type(plan).objects.update(created_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
    watch_staleness(datetime(2026, 3, 2, 3, tzinfo=UTC))
    assert told() == []
    watch_staleness(datetime(2026, 3, 3, 2, 10, tzinfo=UTC))
    assert told() == ["stale"]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_new_backup_is_told_of_unless_its_run_has_done_so(plan, is_told):
    backup(plan, BACKED_UP)
    moment = datetime(2026, 3, 4, 3, tzinfo=UTC)
    watch_staleness(moment)
    record = backup(plan, moment)
    if is_told:
        emit(Event.Level.SUCCESS, Event.Topic.BACKUP, "done", record=record, occasion=Event.Occasion.RECOVERED)
    fires_next(plan, moment + timedelta(days=1))
    for _ in range(2):
        watch_staleness(moment + timedelta(minutes=5))
    assert told() == ["stale", "recovered"]
    plan.refresh_from_db()
    assert plan.stale_since is None


def test_a_paused_plan_is_not_stale(plan):
    backup(plan, BACKED_UP)
    plan.paused, plan.next_fire_at = True, None
    plan.save()
    watch_staleness(datetime(2026, 4, 1, tzinfo=UTC))
    assert told() == []


def test_looking_costs_as_many_queries_for_many_plans(tmp_path, django_assert_max_num_queries):
    for number in range(30):
        directory = tmp_path / str(number)
        directory.mkdir()
        make_plan(directory, backup_name=f"plan {number}")
    with django_assert_max_num_queries(5):
        watch_staleness()
