"""Keep rules: restic's own table of cases, the corners of calendar and clock, and what holds for every policy."""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidPolicy
from engine.gotime import parse_zoned_time
from engine.retention import UNLIMITED, Duration, Group, GroupBy, KeepPolicy, apply_policy, group_snapshots, judge_groups
from engine.snapshot import Snapshot, SnapshotFilter

TABLE = json.loads(Path(__file__, "../data/forget-cases.json").resolve().read_text())
NOW = datetime(2030, 1, 1, tzinfo=UTC)
COUNTED = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def snapshot(moment, **fields):
    """Return a snapshot of a moment, a datetime or as in `2024-01-01T00:00:00+02:00`."""
    moment = parse_zoned_time(moment) if isinstance(moment, str) else moment
    return Snapshot(**{"time": moment, "tree": bytes(32), "paths": ("/data",), "hostname": "h", **fields})


def kept(moments, *, now=NOW, **rules):
    """Return what the rules keep of snapshots of these moments, with the reasons, newest first."""
    texts = {parse_zoned_time(moment): moment for moment in moments}
    verdict = apply_policy(map(snapshot, moments), KeepPolicy(**rules), now=now)
    return [(texts[one.snapshot.time], *one.reasons) for one in verdict.keep]


def policy_of_case(words):
    """Return the policy that a Go literal of restic's tests says."""
    names = {"Within": "within", **{f"Within{period.title()}": f"within_{period}" for period in COUNTED}}
    counts = {name.lower(): int(count) for name, count in re.findall(r"(\w+): (-?\d+)", words)}
    spans = {names[name]: Duration.parse(text) for name, text in re.findall(r'(\w+): data.ParseDurationOrPanic\("(\w+)"\)', words)}
    tags = [tuple(re.findall(r'"(\w+)"', tags)) for tags in re.findall(r'\{("[^}]*)\}', words)]
    policy = KeepPolicy(**counts, **spans, tags=tuple(tags))
    assert len(counts) + len(spans) + bool(tags) == len(re.findall(r"\w+: ", words)), "a rule of the case was not understood"
    return policy


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["policy"])
def test_it_keeps_what_restics_own_cases_say(case):
    snapshots = [
        snapshot(datetime.fromisoformat(one["time"].ljust(23, "0") if "." in one["time"] else one["time"]).replace(tzinfo=UTC),
                 tags=tuple(one["tags"]))
        for one in TABLE["snapshots"]
    ]  # fmt: skip
    verdict = apply_policy(snapshots, policy_of_case(case["policy"]), now=NOW)
    assert [one.snapshot.time for one in verdict.keep] == [parse_zoned_time(text) for text in case["keep"]]
    assert len(verdict.keep) + len(verdict.remove) == len(snapshots)


def test_there_are_forty_cases():
    assert len(TABLE["cases"]) == 40


def test_of_each_period_the_newest_is_kept_and_told_why():
    moments = [
        "2024-05-03T10:59:00Z",
        "2024-05-03T10:00:00Z",
        "2024-05-03T09:00:00Z",
        "2024-05-02T09:00:00Z",
        "2024-05-01T09:00:00Z",
    ]
    assert kept(moments, hourly=2, daily=2) == [
        ("2024-05-03T10:59:00Z", "hourly snapshot", "daily snapshot"),
        ("2024-05-03T09:00:00Z", "hourly snapshot"),
        ("2024-05-02T09:00:00Z", "daily snapshot"),
    ]


def test_a_rule_that_is_not_exhausted_keeps_the_oldest_too():
    moments = ["2024-05-03T10:00:00Z", "2024-05-03T09:00:00Z", "2024-05-03T08:00:00Z"]
    assert kept(moments, daily=1) == [("2024-05-03T10:00:00Z", "daily snapshot")]
    assert kept(moments, daily=2) == [
        ("2024-05-03T10:00:00Z", "daily snapshot"),
        ("2024-05-03T08:00:00Z", "oldest daily snapshot"),
    ]
    assert kept(moments, within_daily=Duration(days=1))[1:] == [("2024-05-03T08:00:00Z", "oldest daily within 1d")]
    assert kept(moments, within_daily=Duration(hours=2)) == [("2024-05-03T10:00:00Z", "daily within 2h")]


def test_weeks_are_those_of_iso_whose_year_is_not_always_the_calendars():
    # The week that 2024 ends with is the first of 2025; 2021 begins in week 53 of 2020.
    days = ["2025-01-05", "2024-12-30", "2024-12-29", "2021-01-03", "2020-12-28", "2020-12-27"]
    moments = [f"{day}T00:00:00Z" for day in days]
    assert [moment[:10] for moment, *_ in kept(moments, weekly=4)] == ["2025-01-05", "2024-12-29", "2021-01-03", "2020-12-27"]


def test_a_day_is_that_of_the_place_where_the_snapshot_was_taken():
    same_day_there = ["2024-05-03T07:00:00+08:00", "2024-05-03T01:00:00+08:00", "2024-05-02T23:00:00+08:00"]
    assert [moment for moment, *_ in kept(same_day_there, daily=2)] == [same_day_there[0], same_day_there[2]]
    in_utc = [parse_zoned_time(moment).astimezone(UTC).isoformat().replace("+00:00", "Z") for moment in same_day_there]
    assert [moment for moment, *_ in kept(in_utc, daily=2)] == [in_utc[0], in_utc[2]]
    assert kept(in_utc, daily=2)[1][1] == "oldest daily snapshot", "in UTC all three are of one day"


def test_a_duration_reaches_back_from_the_newest_snapshot_and_excludes_its_end():
    moments = ["2024-05-31T12:00:00Z", "2024-05-31T10:00:00.000001Z", "2024-05-31T10:00:00Z"]
    assert kept(moments, within=Duration(hours=2)) == [(moments[0], "within 2h"), (moments[1], "within 2h")]
    assert kept(moments, within=Duration(hours=2), now=parse_zoned_time(moments[0])) == [
        (moment, "within 2h") for moment in moments
    ], "no duration starts from a snapshot that lies in the future"


def test_a_month_before_a_day_that_the_month_lacks_ends_in_the_next_one():
    # The 31st of February 2023 is the 3rd of March.
    moments = ["2023-03-31T00:00:00Z", "2023-03-03T00:00:01Z", "2023-03-03T00:00:00Z"]
    assert [moment for moment, *_ in kept(moments, within=Duration(months=1))] == moments[:2]
    moments = ["2024-02-29T00:00:00Z", "2023-03-01T00:00:01Z", "2023-03-01T00:00:00Z"]
    assert [moment for moment, *_ in kept(moments, within=Duration(years=1))] == moments[:2]


@pytest.mark.parametrize(
    "span", [Duration(years=9999), Duration(months=999_999_999), Duration(days=999_999_999), Duration(hours=999_999_999)]
)
def test_a_duration_longer_than_the_calendar_keeps_everything(span):
    moments = ["2024-05-03T10:00:00Z", "2024-05-03T10:00:00+05:00", "0001-01-01T00:00:00Z"]
    assert len(kept(moments, within=span)) == 3


def test_if_all_snapshots_lie_in_the_future_a_duration_keeps_them():
    assert len(kept(["2031-01-01T00:00:00Z", "2040-01-01T00:00:00Z"], within=Duration(hours=1))) == 2


def test_days_are_counted_back_on_the_clock_of_this_machines_zone(monkeypatch):
    # Summer time began on the 31st of March: a week before noon is noon, though 167 hours have passed.
    moments = ["2024-04-02T12:00:00+02:00", "2024-03-26T12:00:01+01:00", "2024-03-26T12:00:00+01:00", "2024-03-26T11:00:00+01:00"]
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        here = kept(moments, within=Duration(days=7))
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        elsewhere = kept(moments, within=Duration(days=7))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [moment for moment, *_ in here] == moments[:2]
    assert [moment for moment, *_ in elsewhere] == moments[:3], "another place is known by its offset alone"


def test_a_snapshot_must_have_all_tags_of_one_list():
    both, one, none = (snapshot(NOW, tags=tags) for tags in [("a", "b"), ("a",), ()])

    def tagged(*tags):
        return [kept.snapshot for kept in apply_policy([both, one, none], KeepPolicy(tags=tags), now=NOW).keep]

    assert tagged(("a", "b")) == [both]
    assert tagged(("a",)) == [both, one]
    assert tagged(("b",), ("",)) == [both, none], "the empty tag is that of snapshots without any"
    verdict = apply_policy([both], KeepPolicy(tags=(("a", "b"), ("a",))), now=NOW)
    assert verdict.keep[0].reasons == ("has tags [a, b]", "has tags [a]")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1y5m7d2h", Duration(1, 5, 7, 2)),
        ("3h2y", Duration(years=2, hours=3)),
        (" 12d ", Duration(days=12)),
        ("0d", Duration()),
        ("007m", Duration(months=7)),
    ],
)
def test_durations_are_numbers_with_units(text, duration):
    assert Duration.parse(text) == duration


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("7", "'7' is no duration"),
        ("d", "'d' is no duration"),
        ("1w", "y, m .months., d or h"),
        ("1d 2h", "where ' 2h' stands"),
        ("-5d", "'-5d' is no duration"),
        ("1D", "'1D' is no duration"),
        ("1.5d", "'1.5d' is no duration"),
        ("٣d", "is no duration"),
        ("1234567890d", "nine digits"),
        ("1d2d", "gives days twice"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(text, why):
    with pytest.raises(InvalidPolicy, match=why):
        Duration.parse(text)


def test_negative_spans_and_counts_are_refused():
    with pytest.raises(InvalidPolicy, match="-1d is negative"):
        Duration(days=-1)
    with pytest.raises(InvalidPolicy, match="-2 weekly snapshots"):
        KeepPolicy(weekly=-2)


def test_snapshots_are_grouped_by_what_is_asked_for_whatever_its_order():
    first = snapshot(NOW, paths=("/b", "/a"), tags=("y", "x"))
    second = snapshot(NOW, paths=("/a", "/b"), tags=("x", "y"))
    other = snapshot(NOW, paths=("/a",), hostname="g")
    assert group_snapshots([first, second, other], GroupBy.parse("host,paths")) == {
        Group("g", ("/a",)): [other],
        Group("h", ("/a", "/b")): [first, second],
    }
    assert list(group_snapshots([first, second, other], GroupBy.parse("tag"))) == [Group(), Group(tags=("x", "y"))]
    assert list(group_snapshots([first, second, other], GroupBy.parse("hosts,path,tags"))) == [
        Group("g", ("/a",)),
        Group("h", ("/a", "/b"), ("x", "y")),
    ]
    assert list(group_snapshots([first, second, other], GroupBy.parse(""))) == [Group()]
    with pytest.raises(InvalidPolicy, match="by 'day'"):
        GroupBy.parse("host,day")


def test_an_empty_policy_is_refused():
    with pytest.raises(InvalidPolicy, match="no rule says what to keep"):
        judge_groups([snapshot(NOW)], KeepPolicy(within=Duration.parse("0d")), GroupBy(), now=NOW)


def test_a_policy_that_would_leave_nothing_of_one_group_is_refused_for_all():
    tagged, other = snapshot("2024-01-01T00:00:00Z", tags=("t",)), snapshot("2024-01-01T00:00:00Z", hostname="g", paths=("/x",))
    policy = KeepPolicy(tags=(("t",),))
    with pytest.raises(InvalidPolicy, match="every snapshot of host g; paths /x,"):
        judge_groups([tagged, other], policy, GroupBy(host=True, paths=True), now=NOW)
    assert judge_groups([tagged, other], policy, GroupBy(), now=NOW)[Group()].remove == (other,)


def test_a_filter_means_snapshots_that_fit_in_each_respect():
    fitting = snapshot(NOW, hostname="h", tags=("a", "b"), paths=("/x", "/y"))
    several = SnapshotFilter(hosts=("g", "h"), tags=(("c",), ("a", "b")), paths=("/y", "/x/"))
    for matching in (SnapshotFilter(), several, SnapshotFilter(paths=("/y",))):
        assert matching.matches(fitting)
    for respect in ({"hosts": ("g",)}, {"tags": (("a", "c"),)}, {"tags": (("",),)}, {"paths": ("/x", "/z")}):
        assert not replace(several, **respect).matches(fitting)


zones = st.sampled_from([UTC, timezone(timedelta(hours=13)), timezone(-timedelta(hours=5, minutes=30))])
moments = st.datetimes(datetime(2019, 12, 1), datetime(2022, 2, 1), timezones=zones)
near_now = st.datetimes(datetime(2029, 12, 30), datetime(2030, 1, 3), timezones=zones)
tag_lists = st.lists(st.sampled_from("abc"), max_size=2).map(tuple)
groups = st.lists(st.builds(snapshot, moments | near_now, tags=tag_lists), max_size=40)
counts = st.sampled_from([0, 0, 0, 1, 2, 3, 7, 50, UNLIMITED])
spans = st.just(Duration()) | st.builds(Duration, *[st.integers(0, most) for most in (2, 14, 40, 50)])
kept_tags = st.lists(st.lists(st.sampled_from(["a", "b", ""]), min_size=1).map(tuple), max_size=2).map(tuple)
policies = st.builds(KeepPolicy, *[counts] * 6, *[spans] * 6, kept_tags)


@given(groups, policies)
def test_every_snapshot_is_either_kept_for_a_reason_or_removed(snapshots, policy):
    verdict = apply_policy(snapshots, policy, now=NOW)
    judged = [*(kept.snapshot for kept in verdict.keep), *verdict.remove]
    assert sorted(map(repr, judged)) == sorted(map(repr, snapshots))
    assert all(kept.reasons for kept in verdict.keep)
    if policy.is_empty:
        assert verdict.keep == ()
    for side in ([kept.snapshot.time for kept in verdict.keep], [snapshot.time for snapshot in verdict.remove]):
        assert side == sorted(side, reverse=True)


@given(groups, policies, st.sampled_from(COUNTED), st.sampled_from([1, 5, UNLIMITED]))
def test_a_higher_count_keeps_no_less(snapshots, policy, period, more):
    count = getattr(policy, period)
    higher = replace(policy, **{period: UNLIMITED if UNLIMITED in (more, count) else count + more})
    less, no_less = (apply_policy(snapshots, one, now=NOW) for one in (policy, higher))
    removed = list(less.remove)
    for snapshot in no_less.remove:
        removed.remove(snapshot)  # fails if the higher count removes what the lower one keeps


@given(groups, policies, spans)
def test_one_more_rule_keeps_no_less(snapshots, policy, span):
    more = replace(policy, within_weekly=span) if not policy.within_weekly else replace(policy, tags=(*policy.tags, ("c",)))
    less, no_less = (apply_policy(snapshots, one, now=NOW) for one in (policy, more))
    assert {kept.snapshot for kept in less.keep} <= {kept.snapshot for kept in no_less.keep}


@given(groups, policies)
def test_what_is_kept_once_is_kept_again(snapshots, policy):
    survivors = [kept.snapshot for kept in apply_policy(snapshots, policy, now=NOW).keep]
    assert apply_policy(survivors, policy, now=NOW).remove == ()


@given(groups, policies, st.randoms(use_true_random=False))
def test_the_order_in_which_snapshots_are_found_does_not_matter(snapshots, policy, random):
    distinct = list({snapshot.time: snapshot for snapshot in snapshots}.values())
    shuffled = random.sample(distinct, len(distinct))
    assert apply_policy(shuffled, policy, now=NOW) == apply_policy(distinct, policy, now=NOW)


@given(st.builds(Duration, *[st.integers(0, 999_999_999)] * 4).filter(bool))
def test_a_duration_is_read_as_it_is_written(duration):
    assert Duration.parse(str(duration)) == duration
