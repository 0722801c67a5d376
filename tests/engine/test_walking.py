"""A walk comes to an end, remembers what fits, and meets every directory all the same."""


import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blob import BlobType, PackedBlob
from engine.commands.diff import diff
from engine.commands.find import find
from engine.commands.ls import walk
from engine.errors import DataDamaged, UnsafePath
from engine.index import Index, IndexedPack
from engine.snapshot import Snapshot
from engine.walking import DEPTH_LIMIT, NESTED_TOO_DEEPLY, NESTED_TOO_OFTEN, PATH_LIMIT, UniqueNames, WalkGuard
from tests.engine.hostile import Hostile, node


@pytest.fixture
def hostile(repository):
    return Hostile(repository)


@pytest.fixture
def many(hostile):
    """A tree of three levels of eight directories each, with a file in each of the last."""

    def level(depth, name):
        if depth == 3:
            return hostile.tree(node(f"file {name}", "file", content=[]))
        return hostile.tree(*(below(depth, name, number) for number in range(8)), node("between", "file", content=[]))

    def below(depth, name, number):
        return node(f"{number}", "dir", subtree=level(depth + 1, f"{name}{number}").hex())

    return level(0, "")


def snapshot_of(tree):
    from datetime import UTC, datetime

    return Snapshot(datetime.now(UTC), tree, ("/",), id="f" * 64)


def paths_of(repository, tree):
    return [path for path, _ in walk(repository, snapshot_of(tree))]


def found_in(repository, tree):
    return [match.path for match in find(repository, [snapshot_of(tree)], ["*"], on_error=pytest.fail)]


def changes_between(repository, before, after):
    changes = []
    diff(repository, before, after, on_change=lambda change: changes.append((change.path, change.modifier)), on_error=pytest.fail)
    return changes


def test_directories_that_cannot_all_be_remembered_are_visited_in_the_same_order(repository, many, monkeypatch):
    whole = paths_of(repository, many)
    assert len(whole) == 8 + 64 + 512 + 512 + 1 + 8 + 64
    monkeypatch.setattr("engine.walking.NOTED_BYTES", 0)
    monkeypatch.setattr("engine.walking.NOTED_AT_LEAST", 500)
    assert paths_of(repository, many) == whole


def test_trees_that_cannot_all_be_open_are_opened_again_where_they_were(repository, hostile, many, monkeypatch):
    other = hostile.tree(node("0", "dir", subtree=many.hex()))
    found, changes = found_in(repository, many), changes_between(repository, other, many)
    assert sorted(found) == sorted(paths_of(repository, many))
    assert len(changes) > 1000
    monkeypatch.setattr("engine.walking.OPEN_BYTES", 0)
    assert found_in(repository, many) == found
    assert changes_between(repository, other, many) == changes


def index_of(*trees):
    index = Index()
    index.add_pack(IndexedPack(b"p" * 32, [PackedBlob(BlobType.TREE, tree, 0, 1032) for tree in trees]))
    return index


A, B = b"a" * 32, b"b" * 32


def test_a_tree_that_leads_on_may_be_visited_so_often(monkeypatch):
    monkeypatch.setattr("engine.walking.VISITS_LIMIT", 3)
    guard = WalkGuard(index_of(A, B))
    for _ in range(3):
        guard.count(A, 1, leads_on=True)
    for _ in range(10):
        guard.count(B, 1, leads_on=False)
    with pytest.raises(DataDamaged, match=NESTED_TOO_OFTEN):
        guard.count(A, 1, leads_on=True)


def test_entries_may_be_met_again_so_often(monkeypatch):
    monkeypatch.setattr("engine.walking.REPEATED_LIMIT", 100)
    guard = WalkGuard(index_of(A, B))
    guard.count(A, 1000, leads_on=False)
    guard.count(B, 100, leads_on=False)
    guard.count(B, 100, leads_on=False)
    with pytest.raises(DataDamaged, match=NESTED_TOO_OFTEN):
        guard.count(B, 1, leads_on=False)


def test_what_is_read_again_for_want_of_memory_counts_as_met_again(monkeypatch):
    monkeypatch.setattr("engine.walking.REPEATED_LIMIT", 10)
    guard = WalkGuard(index_of(A))
    guard.read_again(A)
    with pytest.raises(DataDamaged):
        guard.read_again(A)


def test_paths_may_be_so_deep_and_so_long():
    guard = WalkGuard(Index())
    guard.require_path(DEPTH_LIMIT, PATH_LIMIT)
    for depth, length in ((DEPTH_LIMIT + 1, 1), (1, PATH_LIMIT + 1)):
        with pytest.raises(DataDamaged, match=NESTED_TOO_DEEPLY):
            guard.require_path(depth, length)


def test_directories_nested_too_deeply_are_damage_for_every_walk(repository, hostile, monkeypatch):
    monkeypatch.setattr("engine.walking.DEPTH_LIMIT", 20)
    trees = [hostile.tree()]
    for _ in range(21):
        trees.append(hostile.tree(node("d", "dir", subtree=trees[-1].hex())))
    assert len(paths_of(repository, trees[20])) == 20
    with pytest.raises(DataDamaged, match=NESTED_TOO_DEEPLY):
        paths_of(repository, trees[21])
    told = []
    assert len(list(find(repository, [snapshot_of(trees[21])], ["d"], on_error=lambda *one: told.append(one)))) == 21
    diff(repository, trees[0], trees[21], on_error=lambda *one: told.append(one))
    assert told == [(b"/d" * 21, NESTED_TOO_DEEPLY)] * 2


def test_a_walk_through_laughs_is_given_up_and_told(repository, hostile, monkeypatch):
    monkeypatch.setattr("engine.walking.VISITS_LIMIT", 50)
    bomb, other = hostile.laughs(40), hostile.laughs(40, leaf=hostile.tree(hostile.file("leaf", b"other")))
    with pytest.raises(DataDamaged, match=NESTED_TOO_OFTEN):
        paths_of(repository, bomb)
    for act in (
        lambda told: list(find(repository, [snapshot_of(bomb)], ["leaf"], on_error=told)),
        lambda told: diff(repository, bomb, other, on_error=told),
        lambda told: diff(repository, hostile.tree(), bomb, on_error=told),
    ):
        told = []
        act(lambda *one, told=told: told.append(one))
        assert [reason for _, reason in told] == [NESTED_TOO_OFTEN]


def test_what_is_found_nowhere_below_a_tree_is_not_looked_for_there_again(repository, hostile):
    bomb = hostile.laughs(40)
    assert list(find(repository, [snapshot_of(bomb)], ["/000001/000001/nothing"], on_error=pytest.fail)) == []


@given(st.lists(st.binary(min_size=1, max_size=2)), st.integers(1, 50))
def test_a_name_is_new_once_wherever_it_stands(names, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.walking.NAMES_LIMIT", limit)
        unique, seen = UniqueNames(), set()
        for number, name in enumerate(names):
            try:
                unique.require_new(name)
            except UnsafePath:
                assert name in seen or number >= limit
            else:
                assert name not in seen
            seen.add(name)


def test_very_many_names_in_order_are_all_new(monkeypatch):
    monkeypatch.setattr("engine.walking.NAMES_LIMIT", 10)
    unique = UniqueNames()
    for number in range(100):
        unique.require_new(b"%03d" % number)
    for name in (b"099", b"000", b"0995"[:3]):
        with pytest.raises(UnsafePath):
            unique.require_new(name)


