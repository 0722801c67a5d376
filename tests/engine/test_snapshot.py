"""Snapshot files, and which of them a name or the next backup means."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.errors import DataDamaged, FileMissing, SnapshotNotFound, TooLarge
from engine.snapshot import (
    Snapshot,
    SnapshotFilter,
    SnapshotSummary,
    find_snapshot,
    iter_snapshots,
    latest_snapshot,
    load_snapshot,
    save_snapshot,
)

TREE = bytes(range(32))
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class _Files:
    """A repository's snapshot files in memory."""

    def __init__(self):
        self.store = self
        self.kept = {}

    def list(self, kind):
        yield from ((name, len(content)) for name, content in self.kept.items())

    def load_file(self, kind, name):
        if name not in self.kept:
            raise FileMissing(name)
        return self.kept[name]

    def save_file(self, kind, payload):
        name = f"{len(self.kept):02d}".ljust(64, "a")
        self.kept[name] = payload
        return name


def snapshot(time=NOON, host="h", paths=("/data",), **fields):
    return Snapshot(time=time, tree=TREE, paths=paths, hostname=host, **fields)


def test_a_snapshot_is_the_json_that_restic_writes():
    whole = snapshot(
        datetime(2026, 5, 1, 12, 0, 0, 120000, tzinfo=timezone(timedelta(hours=2))),
        paths=("/a<b",), username="u", uid=7, excludes=("*.o",), tags=("t1", "t2"), parent="p" * 64, program_version="x 1",
    )  # fmt: skip
    assert whole.encode().decode() == (
        '{"time":"2026-05-01T12:00:00.12+02:00","parent":"' + "p" * 64 + f'","tree":"{TREE.hex()}","paths":["/a\\u003cb"],'
        '"hostname":"h","username":"u","uid":7,"excludes":["*.o"],"tags":["t1","t2"],"program_version":"x 1"}'
    )


def test_a_snapshot_survives_saving_with_its_summary():
    files = _Files()
    saved = snapshot(summary=SnapshotSummary(NOON, NOON, files_new=3, data_added=10), tags=("t",))
    name = save_snapshot(files, saved)
    loaded = load_snapshot(files, name)
    assert loaded.id == name
    assert loaded.encode() == saved.encode()
    assert loaded.summary == saved.summary


def test_an_incomplete_snapshot_says_so_and_a_complete_one_is_as_restic_writes_it():
    complete, incomplete = (snapshot(summary=SnapshotSummary(NOON, NOON, errors=errors)) for errors in (0, 2))
    assert b"errors" not in complete.encode()
    assert incomplete.encode().endswith(b',"total_bytes_processed":0,"errors":2}}')
    loaded = [Snapshot.decode(one.encode(), "f" * 64) for one in (complete, incomplete, snapshot())]
    assert [one.is_incomplete for one in loaded] == [False, True, False]


def test_unknown_fields_and_absent_ones_are_no_damage():
    raw = {"time": "2022-01-01T00:00:00.5+01:00", "tree": TREE.hex(), "paths": None, "future": {}}
    loaded = Snapshot.decode(json.dumps(raw).encode(), "f" * 64)
    assert loaded.time == datetime(2021, 12, 31, 23, 0, 0, 500000, tzinfo=UTC)
    assert loaded.time.year == 2022, "the offset is kept, since keep rules go by the clock of where it was taken"
    assert loaded.paths == ()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b'{"time":"yesterday","tree":"00","paths":[]}', b"[" * 100_000,
        *(f'{{"time":"{time}","tree":"00","paths":[]}}'.encode() for time in (
            "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00", "2024-01-01T00:00:00+99:00")),
        *(json.dumps({"time": "2024-01-01T00:00:00Z", "tree": TREE.hex(), "paths": []} | change).encode() for change in (
            {"uid": 1e999}, {"uid": -1},
            {"uid": 1 << 32}, {"tree": "00"}, {"tree": ""}, {"paths": [5]}, {"paths": ""}, {"parent": 5},
            {"tags": {}}, {"time": "0001-06-01T00:00:00Z"}, {"time": "9999-06-01T00:00:00Z"}, {"summary": {"backup_start": "now"}},
            {"summary": {"backup_start": "2024-01-01T00:00:00Z", "backup_end": "2024-01-01T00:00:00Z", "files_new": 1 << 70}})),
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_reported_as_damage(content):
    with pytest.raises(DataDamaged):
        Snapshot.decode(content, "f" * 64)


def test_whatever_a_snapshot_says_of_its_line_stays_text():
    odd = snapshot(parent='","tree":"', original='"')
    assert json.loads(odd.encode())["tree"] == TREE.hex()
    assert Snapshot.decode(odd.encode(), "") == odd


def test_texts_that_snapshots_share_are_in_memory_once():
    files = _Files()
    paths = tuple(f"/path/{number}" for number in range(3))
    for hour in range(3):
        save_snapshot(files, snapshot(NOON + timedelta(hours=hour), host="some host", paths=paths, excludes=("*.o",)))
    loaded = list(iter_snapshots(files))
    assert len(loaded) == 3
    assert len({id(path) for one in loaded for path in one.paths}) == 3
    assert len({id(one.hostname) for one in loaded}) == len({id(one.excludes[0]) for one in loaded}) == 1


def test_snapshots_that_would_fill_the_memory_are_refused(monkeypatch):
    files = _Files()
    for number in range(5):
        save_snapshot(files, snapshot(paths=(f"/{number}" * 10_000,)))
    assert len(list(iter_snapshots(files))) == 5
    monkeypatch.setattr("engine.snapshot.SNAPSHOTS_BYTES", 60_000)
    with pytest.raises(TooLarge):
        list(iter_snapshots(files))


def test_a_snapshot_is_found_by_id_by_prefix_and_as_latest():
    files = _Files()
    first = save_snapshot(files, snapshot())
    second = save_snapshot(files, snapshot(NOON + timedelta(days=1), host="other"))
    assert find_snapshot(files, first).id == first
    assert find_snapshot(files, second[:8]).id == second
    assert find_snapshot(files, "latest").id == second
    assert find_snapshot(files, "latest", SnapshotFilter(hosts=("h",))).id == first


@pytest.mark.parametrize("name", ["", "0", "ffff", "latest"])
def test_a_name_that_means_none_or_several_is_refused(name):
    files = _Files()
    if name != "latest":
        save_snapshot(files, snapshot())
        save_snapshot(files, snapshot())
    with pytest.raises(SnapshotNotFound):
        find_snapshot(files, name)


def test_the_parent_is_the_newest_of_the_host_that_has_all_the_paths():
    older = snapshot(NOON, paths=("/data", "/home"), id="older")
    newer = snapshot(NOON + timedelta(hours=1), paths=("/data",), id="newer")
    foreign = snapshot(NOON + timedelta(hours=2), host="other", id="foreign")
    all_of_them = [newer, foreign, older]
    data, both, other = (SnapshotFilter(("h",), paths=paths) for paths in (("/data",), ("/home", "/data"), ("/etc",)))
    assert latest_snapshot(all_of_them, data).id == "newer"
    assert latest_snapshot(all_of_them, both).id == "older"
    assert latest_snapshot(all_of_them, data, not_after=NOON).id == "older"
    assert latest_snapshot(all_of_them, other) is None
