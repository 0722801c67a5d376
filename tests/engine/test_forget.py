"""Forgetting by name and by policy, with restic as the judge of what is kept, why, and how it is told."""

import json
import os
import random
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.cli import main
from engine.commands.backup import backup
from engine.commands.forget import forget, forget_by_policy
from engine.commands.snapshots import list_snapshots
from engine.errors import InvalidPolicy, LockLost, RepositoryLocked
from engine.gotime import parse_zoned_time
from engine.locks import STALE_AFTER
from engine.retention import Group, GroupBy, KeepPolicy
from engine.snapshot import Snapshot, SnapshotFilter, load_snapshot, save_snapshot
from tests.engine.conftest import PASSWORD


def save(repository, moment, **fields):
    """Write a snapshot of a moment, a datetime or as in `2024-01-01T00:00:00+02:00`, and return its id."""
    moment = parse_zoned_time(moment) if isinstance(moment, str) else moment
    return save_snapshot(
        repository, Snapshot(**{"time": moment, "tree": bytes(32), "paths": ("/data",), "hostname": "h", **fields})
    )


def save_days(repository, *days, **fields):
    """Write a snapshot of each of these days in May 2024, and return their ids."""
    return [save(repository, f"2024-05-{day:02d}T12:00:00Z", **fields) for day in days]


def ids(repository):
    return [snapshot.id for snapshot in list_snapshots(repository)]


@pytest.fixture
def engine(location, monkeypatch, capfd):
    """Return a function that runs a command on the repository: exit status, standard output, standard error."""
    monkeypatch.setenv("RESTIC_REPOSITORY", str(location))
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)

    def run(*arguments):
        status = main([*arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def filled(repository):
    """Some sixty snapshots around the turns of years, months, weeks, days and hours, of two hosts, in three offsets."""
    chance = random.Random(20)
    zones = [UTC, timezone(timedelta(hours=8)), timezone(-timedelta(hours=5, minutes=30))]
    turns = [datetime(*day, tzinfo=UTC) for day in [(2020, 12, 28), (2021, 1, 1), (2021, 1, 4), (2022, 2, 28), (2024, 2, 29)]]
    turns += [datetime(2024, 12, day, tzinfo=UTC) for day in (23, 29, 30, 31)] + [datetime(2025, 1, 1, tzinfo=UTC)] * 4
    moments = {turn + timedelta(seconds=chance.randrange(-90_000, 90_000)) for turn in turns for _ in range(4)}
    moments.add(datetime(2126, 1, 1, tzinfo=UTC))  # a clock was wrong: no duration starts from it
    moments |= {datetime(2024, 12, 31, hour, minute, 7, 120_000, UTC) for hour in (20, 21) for minute in (0, 1, 59)}
    for moment in sorted(moments):
        save(
            repository,
            moment.astimezone(chance.choice(zones)),
            hostname=chance.choice(["box", "box", "other"]),
            paths=chance.choice([("/data",), ("/data",), ("/etc", "/srv")]),
            tags=chance.choice([(), ("one",), ("one", "two"), ("two",)]),
        )
    return repository


def in_order(groups):
    return sorted(groups, key=lambda group: json.dumps([group["host"], group["paths"], group["tags"]]))


def told_before_0_16(groups):
    """Return what an older restic tells: no ids with the reasons, and a rule that is not exhausted does not keep the oldest."""
    for group in groups:
        for reason in group["reasons"]:
            reason["matches"] = [match for match in reason["matches"] if not match.startswith("oldest")]
            del reason["snapshot"]["id"], reason["snapshot"]["short_id"]
        if not group["reasons"][-1]["matches"]:
            group["remove"] = [*(group["remove"] or []), group["keep"].pop()]
            del group["reasons"][-1]
    return groups


@pytest.fixture
def judge(engine, location, restic):
    """Return a function that holds our dry run against restic's: groups, order, reasons and every field."""
    version = tuple(map(int, restic(location, "version").split()[1].split(".")[:2]))

    def compare(words):
        status, out, err = engine("forget", "--dry-run", "--json", *words)
        assert (status, err) == (0, "")
        ours = in_order(json.loads(out))
        known = [word.replace("unlimited", "1000") for word in words] if version < (0, 16) else words
        theirs = json.loads(restic(location, "forget", "--dry-run", "--json", "--quiet", *known) or "[]")
        for group in theirs:
            for reason in group["reasons"]:
                reason.pop("counters", None)  # told before 0.17
        assert in_order(theirs) == (told_before_0_16(ours) if version < (0, 16) else ours)
        return theirs

    return compare


@pytest.mark.restic
@pytest.mark.parametrize(
    "words",
    [
        ["--keep-last", "3", "--keep-hourly", "4", "--group-by", ""],
        ["--keep-daily", "6", "--keep-weekly", "unlimited", "--group-by", "host"],
        ["-w", "9", "-m", "5", "-y", "50", "-g", ""],
        ["--keep-daily", "unlimited", "--keep-tag", "one,two", "--keep-tag", ""],
        ["--keep-within", "1m2d5h", "--keep-tag", "two", "--keep-yearly", "1", "--group-by", "tags,paths"],
        ["--keep-within-hourly", "2d", "--keep-within-daily", "9d", "--keep-within-weekly", "2m", "--keep-within-monthly", "3y",
         "--keep-within-yearly", "100y", "--group-by", "hosts"],
        ["--keep-monthly", "2", "--host", "box", "--host", "none", "--tag", "one,two", "--tag", "two", "--path", "/data"],
        ["--keep-last", "1", "--tag", "", "--path", "/srv", "--path", "/etc", "-g", "host"],
        ["--keep-last", "1", "--host", "nobody"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_dry_run_tells_what_restic_tells(filled, judge, words):
    before = ids(filled)
    judge(words)
    assert ids(filled) == before


@pytest.mark.restic
@pytest.mark.parametrize(
    ("zone", "newest", "around"),
    [
        ("Europe/Berlin", ["2024-04-02T02:30:00+02:00", "2024-10-29T02:30:00+01:00"], ["2024-03-31T01:30", "2024-10-27T01:30"]),
        ("America/New_York", ["2024-03-12T02:30:00-04:00", "2024-11-05T01:30:00-05:00"], ["2024-03-10T06:30", "2024-11-03T05:30"]),
        ("Europe/London", ["2024-04-02T01:30:00+01:00", "2024-10-28T00:45:00Z"], ["2024-03-31T01:30", "2024-10-26T00:15"]),
    ],
)
def test_a_duration_that_spans_a_change_of_the_clocks_begins_where_restic_lets_it(
    repository, judge, monkeypatch, zone, newest, around
):
    for number, (moment, change) in enumerate(zip(newest, around, strict=True)):
        save(repository, moment, hostname=f"host{number}")
        for minutes in range(-125, 130, 15):
            save(repository, datetime.fromisoformat(f"{change}+00:00") + timedelta(minutes=minutes), hostname=f"host{number}")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        groups = judge(["--keep-within", "2d"])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [len(group["keep"]) > 1 and len(group["remove"]) > 1 for group in groups] == [True, True]


@pytest.mark.restic
def test_restic_finds_what_the_policy_kept_and_nothing_amiss(repository, location, restic, tmp_path):
    (tmp_path / "file").write_text("content")
    for day in range(1, 9):
        backup(repository, [tmp_path / "file"], host="h", time=datetime(2024, 5, day, 12, tzinfo=UTC))
    verdicts = forget_by_policy(repository, KeepPolicy(last=2, weekly=2))
    (verdict,) = verdicts.values()
    kept = [kept.snapshot.id for kept in verdict.keep]
    assert [snapshot["id"] for snapshot in json.loads(restic(location, "snapshots", "--json"))] == kept[::-1]
    assert (len(kept), len(verdict.remove)) == (3, 5)
    restic(location, "check")


def test_by_policy_snapshots_go_that_no_rule_keeps_in_each_group(repository):
    here, there = save_days(repository, 1, 2, 3), save_days(repository, 1, 2, hostname="g")
    verdicts = forget_by_policy(repository, KeepPolicy(last=1))
    assert set(ids(repository)) == {here[2], there[1]}
    assert {group: [one.id for one in verdict.remove] for group, verdict in verdicts.items()} == {
        Group("g", ("/data",)): [there[0]],
        Group("h", ("/data",)): [here[1], here[0]],
    }


def test_what_the_filter_does_not_mean_is_not_judged(repository):
    save_days(repository, 1, 2, tags=("a",))
    others = save_days(repository, 1, 2, tags=("b",))
    forget_by_policy(repository, KeepPolicy(last=1), only=SnapshotFilter(tags=(("a",),)), group_by=GroupBy())
    assert len(ids(repository)) == 3
    assert set(others) < set(ids(repository))


def test_of_snapshots_of_one_moment_the_same_stays_whatever_order_the_store_lists_them_in(repository, monkeypatch):
    saved = [save(repository, "2024-05-01T12:00:00Z", username=str(number)) for number in range(4)]
    first, listed = sorted(saved)[0], repository.store.list
    for order in (False, True):
        monkeypatch.setattr(repository.store, "list", lambda kind, order=order: iter(sorted(listed(kind), reverse=order)))
        (verdict,) = forget_by_policy(repository, KeepPolicy(last=1), dry_run=True).values()
        assert [kept.snapshot.id for kept in verdict.keep] == [first]


@pytest.mark.parametrize("policy", [KeepPolicy(), KeepPolicy(tags=(("unused",),))])
def test_a_policy_that_says_nothing_or_would_leave_nothing_changes_nothing(repository, policy):
    saved = save_days(repository, 1, 2)
    with pytest.raises(InvalidPolicy, match="nothing is forgotten"):
        forget_by_policy(repository, policy)
    assert ids(repository) == saved


def test_nothing_is_deleted_beside_another_lock_but_a_dry_run_may_look(repository, location):
    saved = save_days(repository, 1, 2)
    with repository.lock():
        with pytest.raises(RepositoryLocked):
            forget_by_policy(repository, KeepPolicy(last=1))
        with pytest.raises(RepositoryLocked):
            forget(repository, saved)
        forget_by_policy(repository, KeepPolicy(last=1), dry_run=True)
    assert ids(repository) == saved
    assert list((location / "locks").iterdir()) == []


def test_nothing_more_is_deleted_under_a_lock_that_others_may_take_for_stale(repository, monkeypatch):
    saved = save_days(repository, 1, 2, 3)
    delete = repository.store.delete

    def delete_and_sleep_long(kind, name):
        delete(kind, name)
        if name in saved:
            monkeypatch.setattr("engine.locks.STALE_AFTER", -STALE_AFTER)

    monkeypatch.setattr(repository.store, "delete", delete_and_sleep_long)
    with pytest.raises(LockLost):
        forget_by_policy(repository, KeepPolicy(last=1))
    assert len(ids(repository)) == 2


def test_an_id_that_is_gone_already_is_no_error(repository):
    first, second = save_days(repository, 1, 2)
    forget(repository, [first, "0" * 64, first])
    assert ids(repository) == [second]


def test_people_read_what_is_kept_and_why(engine, repository):
    saved = [save(repository, f"2024-05-0{day}T12:00:00+02:00", tags=("a", "b")[: day - 1]) for day in (1, 2, 3)]
    status, out, err = engine("forget", "--keep-daily", "1", "--keep-tag", "a,b", "--keep-tag", "")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "host h; paths /data:",
        f"keep    {saved[2][:8]}  2024-05-03 12:00:00 +0200  h  a,b  /data  has tags [a, b], daily snapshot",
        f"forget  {saved[1][:8]}  2024-05-02 12:00:00 +0200  h  a    /data",
        f"keep    {saved[0][:8]}  2024-05-01 12:00:00 +0200  h       /data  has tags []",
        "",
        "2 snapshots kept, 1 forgotten",
    ]
    assert ids(repository) == [saved[0], saved[2]]


def test_a_dry_run_says_that_it_is_one(engine, repository):
    saved = save_days(repository, 1, 2)
    assert engine("forget", "-l", "1", "-n")[1].splitlines()[-1] == "1 snapshots kept, 1 would be forgotten"
    assert engine("forget", "latest", "-n")[1].splitlines()[-1] == "1 snapshots would be forgotten"
    assert engine("forget", "latest", "-n", "-q") == (0, "", "")
    assert ids(repository) == saved


def test_named_snapshots_are_forgotten_and_told(engine, repository):
    first, second, third = save_days(repository, 1, 2, 3)
    status, out, _ = engine("forget", first[:10], "latest", third, "--json")
    (group,) = json.loads(out)
    assert (status, [snapshot["id"] for snapshot in group["remove"]], group["keep"]) == (0, [first, third], None)
    assert ids(repository) == [second]
    assert load_snapshot(repository, second).time.day == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["latest", "nonsense"], "there is no snapshot 'nonsense'"),
        (["latest", "--keep-last", "1"], "snapshots that are named are forgotten whatever they are"),
        (["latest", "--host", "h"], "snapshots that are named are forgotten whatever they are"),
        ([], "no rule says what to keep, so nothing is forgotten"),
        (["--keep-tag", "c"], "the policy would forget every snapshot of host h; paths /data, so nothing is forgotten"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(engine, repository, words, sentence):
    saved = save_days(repository, 1, 2)
    status, out, err = engine("forget", *words)
    assert (status, out, err.startswith(f"engine: {sentence}")) == (1, "", True)
    assert ids(repository) == saved


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--keep-last", "-2"], "'-2' is neither a count nor unlimited"),
        (["--keep-hourly", "many"], "'many' is neither a count nor unlimited"),
        (["--keep-within", "7"], "'7' is no duration"),
        (["--keep-within-yearly", ""], "a duration is empty"),
        (["--group-by", "day"], "cannot be grouped by 'day'"),
    ],
)
def test_an_option_that_cannot_be_read_is_a_usage_error(engine, capfd, words, why):
    with pytest.raises(SystemExit) as ended:
        engine("forget", *words)
    assert ended.value.code == 2
    assert why in capfd.readouterr().err


@pytest.mark.parametrize("word", ["unlimited", "-1"])
def test_an_unlimited_count_keeps_all(engine, repository, word):
    saved = save_days(repository, 1, 2, 3)
    assert engine("forget", "--keep-last", word)[0] == 0
    assert ids(repository) == saved


@pytest.fixture
def packs(repository, location, tmp_path):
    """Return a function that lists the packs of three snapshots, of which each has a file of its own."""
    (tmp_path / "plain").mkdir()
    for _ in range(3):
        (tmp_path / "plain" / "file").write_bytes(os.urandom(50_000))
        backup(repository, [tmp_path / "plain"], host="h")
    return lambda: {path.name for path in (location / "data").glob("*/*")}


def test_with_prune_the_space_of_what_was_forgotten_comes_back_in_one_step(engine, packs):
    before = packs()
    status, out, _ = engine("forget", "--keep-last", "1", "--prune", "--max-unused", "0", "--json")
    groups, pruned = map(json.loads, out.splitlines())
    assert (status, len(groups[0]["remove"]), pruned["packs_deleted"]) == (0, 2, 4)
    assert len(before - packs()) == 4
    assert "deleted 2 packs" in engine("forget", "latest", "--prune")[1]
    assert packs() == set()


def test_a_dry_run_with_prune_tells_what_both_would_do_and_does_neither(engine, packs):
    before = packs()
    words = ["forget", "--keep-last", "1", "--prune", "--json"]
    told = json.loads(engine(*words, "--dry-run")[1].splitlines()[1])
    assert packs() == before
    done = json.loads(engine(*words)[1].splitlines()[1])
    assert [told[name] for name in ("blobs", "bytes", "packfiles")] == [done[name] for name in ("blobs", "bytes", "packfiles")]
    assert (told["packs_deleted"], done["packs_deleted"]) == (0, 4)


def test_where_nothing_is_forgotten_nothing_is_pruned(engine, packs, location):
    (location / "data" / "00" / ("00" * 32)).write_bytes(b"left")
    assert engine("forget", "--keep-last", "3", "--prune", "--json")[1].count("\n") == 1
    assert "00" * 32 in packs()


def test_how_to_prune_is_no_option_without_prune(engine, repository):
    saved = save_days(repository, 1, 2)
    status, _, err = engine("forget", "--keep-last", "1", "--max-unused", "0")
    assert (status, "give --prune with them" in err) == (1, True)
    assert ids(repository) == saved
