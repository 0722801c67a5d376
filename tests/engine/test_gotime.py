"""Times are read and written as Go does, to the nanosecond."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gotime import format_ns, format_time, parse_ns, parse_time, parse_zoned_time

YEAR_0, YEAR_10000 = -62167219200 * 10**9, 253402300800 * 10**9


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2038-01-19T03:14:08.000000001Z", (1 << 31) * 10**9 + 1),
        ("2024-02-29T12:00:00.5+02:00", 1709200800_500000000),
        ("2024-02-29T12:00:00-05:30", 1709227800_000000000),
        ("0000-01-01T00:00:00Z", YEAR_0),
        ("9999-12-31T23:59:59.999999999Z", YEAR_10000 - 1),
    ],
)
def test_times_that_go_writes_are_read(text, time_ns):
    assert parse_ns(text) == time_ns


@given(st.integers(YEAR_0 + 86400 * 10**9, YEAR_10000 - 86400 * 10**9))
def test_times_of_files_round_trip(time_ns):
    assert parse_ns(format_ns(time_ns)) == time_ns


@given(st.datetimes(timezones=st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-720, 840))))
def test_times_of_snapshots_round_trip(moment):
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        return
    assert parse_time(format_time(moment)) == expected
    assert parse_zoned_time(format_time(moment)) == moment
    assert parse_zoned_time(format_time(moment)).utcoffset() == moment.utcoffset()


def test_zeros_at_the_end_are_left_out_as_go_does():
    assert format_time(datetime(2024, 1, 2, 3, 4, 5, 120_000, UTC)) == "2024-01-02T03:04:05.12Z"
    assert format_time(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2024-01-02T03:04:05Z"


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-01-01", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z",
     "9999-12-31T23:60:59Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:00+01:60"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_ns(text)


@pytest.mark.parametrize("text", ["0000-06-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "2024-01-01T00:00:00+24:00", "2024-01-01"])
def test_a_snapshots_time_outside_the_calendar_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_zoned_time(text)
