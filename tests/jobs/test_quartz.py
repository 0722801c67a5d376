"""Quartz expressions mean what they mean to Quartz, and behave as documented where the clock is changed.

`data/quartz-cases.json` holds answers that Quartz' own `CronExpression` gives ("from" is exclusive).
"""

import io
import itertools
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.utils.translation import override
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.quartz import InvalidExpression, QuartzExpression

CASES = json.loads((Path(__file__).parent / "data" / "quartz-cases.json").read_text())
NEW_YORK = ZoneInfo("America/New_York")


def cases(kind: str) -> list[dict]:
    return [case for case in CASES if case["kind"] == kind]


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Fail what would otherwise go on for ever."""

    def ring(*_arguments: object) -> None:
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def local_fires(expression: str, after: str, count: int, zone: ZoneInfo = NEW_YORK) -> list[str]:
    fires = QuartzExpression.parse(expression).fires(datetime.fromisoformat(after), zone, count)
    return [fire.astimezone(zone).isoformat() for fire in fires]


@pytest.mark.parametrize("case", cases("valid"), ids=lambda case: case["expr"])
def test_it_accepts_what_quartz_accepts(case: dict) -> None:
    if case["expected"]:
        QuartzExpression.parse(case["expr"])
    else:
        with pytest.raises(InvalidExpression):
            QuartzExpression.parse(case["expr"])


@pytest.mark.parametrize("case", cases("match"), ids=lambda case: f"{case['expr']} at {case['at']}")
def test_it_fires_when_quartz_fires(case: dict) -> None:
    zone = ZoneInfo(case["tz"])
    moment = datetime.fromisoformat(case["at"]).replace(tzinfo=zone)
    fire = QuartzExpression.parse(case["expr"]).next_after(moment - timedelta(seconds=1), zone)
    assert (fire == moment) == case["expected"]


@pytest.mark.parametrize("case", cases("next"), ids=lambda case: f"{case['expr']} after {case['from']}")
def test_it_fires_next_when_quartz_does(case: dict) -> None:
    zone = ZoneInfo(case["tz"])
    expected = [datetime.fromisoformat(text) for text in case["expected"] if text]
    fires = QuartzExpression.parse(case["expr"]).fires(datetime.fromisoformat(case["from"]), zone, len(case["expected"]))
    assert list(fires) == expected


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("60 * * * * ?", "seconds"),
        ("0 61 * * * ?", "minutes"),
        ("0 0 24 * * ?", "hours"),
        ("0 0 0 32 * ?", "day of month"),
        ("0 0 0 1 13 ?", "month"),
        ("0 0 0 ? * 8", "day of week"),
        ("0 0 0 ? * FRI#6", "day of week"),
        ("0 0 0 1 * ? 2300", "year"),
        ("0 0 0 1 * ? 2030-2020", "year"),
        ("0 0 0 1 * 1", "day of week"),
        ("0 0 0 ? * ?", None),
        ("0 0 0", None),
        ("", None),
    ],
)
def test_a_bad_expression_names_the_field(expression: str, field: str | None) -> None:
    with pytest.raises(InvalidExpression) as refused:
        QuartzExpression.parse(expression)
    assert refused.value.field == field
    assert refused.value.reason


def test_a_time_that_spring_leaves_out_fires_as_much_later() -> None:
    assert local_fires("0 30 2 * * ?", "2026-03-07T12:00:00-05:00", 2) == [
        "2026-03-08T03:30:00-04:00",
        "2026-03-09T02:30:00-04:00",
    ]


def test_a_time_that_was_left_out_is_not_forgotten_when_asked_within_the_hour_after() -> None:
    assert local_fires("0 30 2 * * ?", "2026-03-08T03:10:00-04:00", 1) == ["2026-03-08T03:30:00-04:00"]


def test_a_time_that_half_an_hour_leaves_out_does_not_hide_the_one_after_it() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    assert local_fires("0 25,40 2 * * ?", "2026-10-03T01:00:00+00:00", 4, zone) == [
        "2026-10-04T02:40:00+11:00",
        "2026-10-04T02:55:00+11:00",
        "2026-10-05T02:25:00+11:00",
        "2026-10-05T02:40:00+11:00",
    ]


def test_a_time_that_comes_twice_in_autumn_fires_once() -> None:
    assert local_fires("0 30 1 * * ?", "2026-10-31T12:00:00-04:00", 2) == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:30:00-05:00",
    ]


@pytest.mark.parametrize("start", ["2026-03-08T01:59:00-05:00", "2026-11-01T00:59:00-04:00", "2026-11-01T01:59:00-04:00"])
def test_what_fires_every_three_seconds_goes_on_evenly_through_a_change(start: str) -> None:
    fires = list(QuartzExpression.parse("0/3 * * * * ?").fires(datetime.fromisoformat(start), NEW_YORK, 2500))
    assert {b - a for a, b in itertools.pairwise(fires)} == {timedelta(seconds=3)}


@pytest.mark.parametrize("change", ["2026-03-08T07:00:00+00:00", "2026-11-01T06:00:00+00:00"])
@pytest.mark.parametrize("expression", ["0 0/30 * * * ?", "0 0 * * * ?", "0/3 * * * * ?", "0 0 3 * * ?"])
def test_a_fraction_of_a_second_before_a_change_is_as_good_as_none(expression: str, change: str) -> None:
    """The moment of the change is itself a fire, and is found from any moment before it."""
    moment, parsed = datetime.fromisoformat(change), QuartzExpression.parse(expression)
    for before_s in (0, 0.000001, 0.25, 1, 1.75, 1799.999999, 3600.5):
        after = moment - timedelta(seconds=before_s)
        with alarm(5):
            assert parsed.next_after(after, NEW_YORK) == parsed.next_after(after.replace(microsecond=0), NEW_YORK)


def test_a_date_that_never_comes_ends_the_search() -> None:
    assert QuartzExpression.parse("0 0 0 30 2 ?").next_after(datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("UTC")) is None


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    ranges = st.tuples(value, value).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.tuples(value, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    item = st.one_of(value.map(str), ranges, steps)
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


def expand(text: str, low: int, high: int) -> set[int]:
    """Say the plain way what a list of numbers, ranges and steps means."""
    values: set[int] = set()
    for item in text.split(","):
        begin, slash, step = item.partition("/")
        first, dash, last = begin.partition("-")
        start = low if first == "*" else int(first)
        end = int(last) if dash else high if slash or first == "*" else start
        values |= set(range(start, end + 1, int(step or 1)))
    return values


@settings(max_examples=150)
@given(
    numbers(0, 59), numbers(0, 59), numbers(0, 23), numbers(1, 31), numbers(1, 12),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),
)  # fmt: skip
def test_the_next_fire_is_the_first_second_that_matches(
    seconds: str, minutes: str, hours: str, days: str, months: str, after: datetime
) -> None:
    expression = QuartzExpression.parse(f"{seconds} {minutes} {hours} {days} {months} ?")
    after = after.replace(microsecond=0, tzinfo=UTC)
    fire = expression.next_after(after, ZoneInfo("UTC"))
    sets = [expand(seconds, 0, 59), expand(minutes, 0, 59), expand(hours, 0, 23), expand(days, 1, 31), expand(months, 1, 12)]

    def matches(moment: datetime) -> bool:
        return all(
            value in allowed
            for value, allowed in zip((moment.second, moment.minute, moment.hour, moment.day, moment.month), sets, strict=True)
        )

    if fire is not None:
        assert matches(fire)
        assert fire > after
    # Nothing matches before it, as far as looking at every second is bearable.
    end = min(fire, after + timedelta(minutes=30)) if fire else after + timedelta(minutes=30)
    moment = after + timedelta(seconds=1)
    while moment < end:
        assert not matches(moment)
        moment += timedelta(seconds=1)


def test_the_command_prints_fires() -> None:
    out = io.StringIO()
    call_command(
        "nextfires", "0 0 12 ? * FRI#3", "--after=2026-01-01T00:00:00", "--timezone=Asia/Shanghai", count=2, json=True, stdout=out
    )
    answer = json.loads(out.getvalue())
    assert answer["fires"] == ["2026-01-16T12:00:00+08:00", "2026-02-20T12:00:00+08:00"]
    assert answer["unix"][0] == 1768536000


def test_the_command_rejects_a_bad_expression_with_field_and_reason() -> None:
    with pytest.raises(CommandError, match="hours: 25 is not between 0 and 23"):
        call_command("nextfires", "0 0 25 * * ?")


def test_a_refusal_is_in_the_readers_language_and_names_the_field() -> None:
    with override("zh-hans"), pytest.raises(InvalidExpression) as refused:
        QuartzExpression.parse("0 0 25 * * ?")
    assert str(refused.value) == "小时: 25 不在 0 到 23 之间"
    assert refused.value.field == "hours"
