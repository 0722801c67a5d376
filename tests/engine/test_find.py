"""A search finds what restic finds, in all snapshots, and does not look twice where nothing was."""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from engine.backends import open_store
from engine.blob import BlobType
from engine.commands.backup import backup
from engine.commands.find import find, find_objects, pack_contents
from engine.commands.ls import find_node
from engine.errors import Cancelled, EngineError, SnapshotNotFound
from engine.node import Node
from engine.repository import Repository
from engine.snapshot import Snapshot, SnapshotFilter, find_snapshots, load_snapshot, save_snapshot
from tests.engine.conftest import PASSWORD
from tests.engine.trees import save_tree

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def searched(empty_repository, tmp_path_factory):
    """A repository with two snapshots of a tree, the second without "other/!odd": its place, the tree's, and their ids."""
    place = tmp_path_factory.mktemp("searched")
    location, root = shutil.copytree(empty_repository, place / "repository"), place / "tree"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "other").mkdir()
    (root / "docs" / "Read.me").write_bytes(b"old")
    (root / "docs" / "deep" / "read.me").write_bytes(os.urandom(3000))
    (root / "docs" / "deep" / "link").symlink_to("read.me")
    (root / "other" / os.fsdecode(b"\xff.me")).write_bytes(b"odd")
    (root / "other" / "!odd").write_bytes(b"!")
    os.utime(root / "docs" / "Read.me", (0, DAY.timestamp()))
    repository = Repository.open(open_store(str(location)), PASSWORD)
    first = backup(repository, [root], host="one", tags=["a", "b"], time=DAY).snapshot_id
    (root / "other" / "!odd").unlink()
    second = backup(repository, [root], host="two", tags=["b"], time=DAY + timedelta(days=1)).snapshot_id
    return location, root, (second, first)


@pytest.fixture
def location(searched, tmp_path):
    return shutil.copytree(searched[0], tmp_path / "repository")


@pytest.fixture
def tree(searched):
    return searched[1]


@pytest.fixture
def saved(searched, repository):
    """The two snapshots, the newest first."""
    repository.load_index()
    return [load_snapshot(repository, snapshot_id) for snapshot_id in searched[2]]


def fail(path, reason):
    pytest.fail(f"{path!r}: {reason}")


def found(repository, snapshots, *patterns, **options):
    """Return the paths that match, without the tree's own, by snapshot."""
    paths = {snapshot.id: [] for snapshot in snapshots}
    for match in find(repository, snapshots, patterns, on_error=fail, **options):
        paths[match.snapshot.id].append(match.path.partition(b"/tree")[2])
    return list(paths.values())


def test_a_name_is_found_at_any_depth_in_each_snapshot(repository, saved):
    assert found(repository, saved, "read.me") == [[b"/docs/deep/read.me"]] * 2
    assert found(repository, saved, "*.me") == [[b"/docs/Read.me", b"/docs/deep/read.me", b"/other/\xff.me"]] * 2
    assert found(repository, saved, "nothing") == [[], []]


def test_what_a_matching_directory_holds_matches(repository, saved):
    assert found(repository, saved[:1], "deep") == [[b"/docs/deep", b"/docs/deep/link", b"/docs/deep/read.me"]]


def test_an_absolute_pattern_is_matched_from_the_root_alone(repository, tree, saved):
    assert found(repository, saved[:1], f"{tree}/*/deep/read.me") == [[b"/docs/deep/read.me"]]
    assert found(repository, saved[:1], "/docs") == [[]]


def test_case_is_ignored_on_request(repository, saved):
    assert found(repository, saved[:1], "READ.ME", ignore_case=True) == [[b"/docs/Read.me", b"/docs/deep/read.me"]]
    assert found(repository, saved[:1], "READ.ME") == [[]]


def test_the_time_of_modification_may_be_bounded_on_both_sides(repository, saved):
    second = timedelta(seconds=1)
    assert found(repository, saved[:1], "*.me", oldest=DAY, newest=DAY) == [[b"/docs/Read.me"]]
    assert b"/docs/Read.me" not in found(repository, saved[:1], "*.me", oldest=DAY + second)[0]
    assert found(repository, saved[:1], "*.me", newest=DAY - second) == [[]]


def test_an_exclamation_mark_stands_for_itself(repository, saved):
    assert found(repository, saved, "!odd") == [[], [b"/other/!odd"]]


def test_a_tree_that_brought_nothing_is_read_once_for_all_snapshots(repository, tree, saved, monkeypatch):
    docs, deep, other = (
        find_node(repository, saved[0], os.fsencode(tree / path)).subtree for path in ("docs", "docs/deep", "other")
    )
    read = []
    load = repository.load_blob
    monkeypatch.setattr(repository, "load_blob", lambda kind, blob: (read.append(blob), load(kind, blob))[1])
    assert found(repository, [*saved, saved[0]], "Read.me") == [[b"/docs/Read.me"] * 2, [b"/docs/Read.me"]]
    assert [read.count(tree_id) for tree_id in (docs, deep, other)] == [3, 1, 1]


def test_a_tree_that_brought_nothing_at_one_path_is_read_at_another(repository):
    shared = save_tree(repository, Node(b"read.me", "file", content=()))
    snapshots = [
        Snapshot(DAY, save_tree(repository, Node(name, "dir", subtree=shared)), (), id=name.decode())
        for name in (b"other", b"docs")
    ]
    matches = find(repository, snapshots, ["docs/read.me"], on_error=fail)
    assert [(match.snapshot.id, match.path) for match in matches] == [("docs", b"/docs/read.me")]


def test_blobs_and_trees_are_found_by_ids_that_may_be_shortened(repository, tree, saved):
    top = os.fsencode(tree)
    node = find_node(repository, saved[0], top + b"/docs/deep/read.me")
    deep = find_node(repository, saved[0], top + b"/docs/deep").subtree.hex()
    (blob,) = (one.hex() for one in node.content)
    for ids in (blob, blob[:8].upper()):
        found = find_objects(repository, saved, blobs=[ids], on_error=fail)
        assert [(one.snapshot, one.kind, one.id, one.path, one.parent_tree) for one in found] == [
            (snapshot, "blob", blob, top + b"/docs/deep/read.me", deep) for snapshot in saved
        ]
    root = saved[1].tree.hex()
    found = find_objects(repository, saved, trees=[deep, root[:12]], on_error=fail)
    assert [(one.kind, one.id, one.path) for one in found] == [
        ("tree", deep, top + b"/docs/deep"),
        ("tree", root, b"/"),
        ("tree", deep, top + b"/docs/deep"),
    ]


def blobs_and_packs(repository, blob_type):
    blobs = sorted(blob.hex() for blob, _ in repository.index.blobs(blob_type))
    return blobs, sorted({place.pack_id.hex() for _, place in repository.index.blobs(blob_type)})


def test_what_lies_in_a_pack_is_found_and_what_lay_there_when_it_is_damaged_or_missing(repository, location, saved):
    trees, packs = blobs_and_packs(repository, BlobType.TREE)
    assert tuple(map(sorted, pack_contents(repository, packs))) == ([], trees)
    blobs, packs = blobs_and_packs(repository, BlobType.DATA)
    for damage in (lambda path: None, lambda path: (path.chmod(0o600), path.write_bytes(b"damaged")), os.unlink):
        for pack in packs:
            damage(location / "data" / pack[:2] / pack)
        data, trees = pack_contents(repository, [pack[:12] for pack in packs])
        assert (sorted(data), trees) == (blobs, [])
    found = find_objects(repository, saved[:1], blobs=data, on_error=fail)
    assert {one.path.rpartition(b"/")[2] for one in found} == {b"Read.me", b"read.me", b"\xff.me"}


@pytest.mark.parametrize("ids", ["", "xyz", "0" * 65])
def test_what_is_no_id_is_an_error(repository, ids):
    with pytest.raises(EngineError, match="is no id"):
        list(find_objects(repository, [], blobs=[ids], on_error=fail))


def test_packs_must_be_there_and_be_named_by_one_id_each(repository, location, saved):
    with pytest.raises(EngineError, match=f"there is no pack '{'0' * 64}'"):
        pack_contents(repository, ["0" * 64])
    pack = repository.index.packs()[0].hex()
    (location / "data" / pack[:2] / (pack[:-1] + f"{int(pack[-1], 16) ^ 1:x}")).touch()
    with pytest.raises(EngineError, match="ambiguous: it begins 2 ids"):
        pack_contents(repository, [pack[:-1]])


def test_a_directory_that_cannot_be_read_is_told_once_and_the_rest_is_searched(repository):
    root = save_tree(
        repository, Node(b"a", "dir", subtree=b"1" * 32), Node(b"b", "file", content=()), '{"name":"c","type":"dir","subtree":"xy"}'
    )
    snapshots = [Snapshot(DAY, root, (), id=name) for name in "12"]
    told = []
    matches = list(find(repository, snapshots, ["b"], on_error=lambda path, reason: told.append((path, reason))))
    assert [match.path for match in matches] == [b"/b"] * 2
    assert told[0] == (b"/a/", f"the tree blob {b'1'.hex() * 32} is not in the index")
    assert {path for path, _ in told} == {b"/a/", b"/c"}
    assert sum(path == b"/a/" for path, _ in told) == 1


def test_a_search_ends_when_it_is_interrupted(repository, saved, monkeypatch):
    def interrupted(*_):
        raise Cancelled

    monkeypatch.setattr(repository, "load_blob", interrupted)
    with pytest.raises(Cancelled):
        found(repository, saved, "x")


def test_snapshots_are_chosen_by_names_or_by_host_tags_and_paths(repository, tree, saved):
    newest, oldest = saved

    def chosen(*names, **only):
        return find_snapshots(repository, names, SnapshotFilter(**only))

    assert chosen() == [oldest, newest]
    assert chosen(oldest.short_id, newest.id, oldest.id) == [oldest, newest]
    assert chosen("latest") == [newest]
    assert chosen("latest", hosts=("one",)) == chosen("latest", oldest.id, hosts=("one",)) == [oldest]
    assert chosen(tags=(("a", "b"), ("c",))) == chosen(hosts=("one", "three")) == [oldest]
    assert chosen(paths=(f"{tree}/",)) == [oldest, newest]
    assert chosen(tags=(("a", "c"),)) == chosen(tags=(("",),)) == chosen(paths=("/elsewhere",)) == []
    with pytest.raises(SnapshotNotFound, match="no snapshot yet that fits"):
        chosen("latest", hosts=("three",))
    with pytest.raises(EngineError, match="give no filter with them"):
        chosen(oldest.id, hosts=("two",))


def test_the_command_fails_on_a_time_it_cannot_read_and_on_times_that_exclude_each_other(engine, saved, capfdbinary):
    with pytest.raises(SystemExit) as ended:
        engine("find", "x", "--oldest", "yesterday")
    assert (ended.value.code, b"yesterday is no time like" in capfdbinary.readouterr().err) == (2, True)
    status, _, err = engine("find", "x", "--oldest", "2026-01-02", "--newest", "01.01.2026 12:00")
    assert (status, err) == (1, b"engine: --oldest must be a time before --newest\n")


def test_the_command_fails_when_something_could_not_be_searched(engine, repository):
    save_snapshot(repository, Snapshot(DAY, save_tree(repository, Node(b"d", "dir", subtree=b"1" * 32)), ()))
    status, out, err = engine("find", "d")
    assert (status, out.endswith(b"\n/d\n"), err.startswith(b"/d/: the tree blob")) == (1, True, True)


CASES = [
    ["*", "--snapshot", "latest"],
    ["-l", "*", "-s", "latest"],
    ["-i", "READ.ME", "-s", "latest"],
    ["deep/*", "*.me", "--host", "one"],
    ["read.me", "--tag", "a,b"],
    ["Read.me", "--host", "two", "--oldest", "2026-03-01", "--newest", "2026-03-02 00:00:00"],
    ["Read.me", "--newest", "01.03.2026"],
    ["nothing"],
]


def matches(out):
    """Return the matches in JSON by snapshot, without inodes, which restic leaves out before 0.16."""
    found = {one["snapshot"]: [one["matches"], one["hits"]] for one in json.loads(out)}
    for entries, _ in found.values():
        for entry in entries:
            entry.pop("inode", None)
    return found


@pytest.mark.restic
@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_restic_finds_the_same(engine, location, restic, saved, words):
    words = [saved[0].id if word == "latest" else word for word in words]
    _, out, _ = engine("find", *words)
    assert out == os.fsencode(restic(location, "find", *words))
    _, out, _ = engine("find", "--json", *words)
    assert matches(out) == matches(restic(location, "find", "--json", *words))


@pytest.mark.restic
def test_restic_finds_the_same_in_all_snapshots(engine, location, restic, saved):
    _, out, _ = engine("find", "--json", "*.me")
    assert matches(out) == matches(restic(location, "find", "--json", "*.me"))
    assert list(matches(out)) == [snapshot.id for snapshot in saved]


@pytest.mark.restic
def test_restic_finds_the_same_objects(engine, location, restic, repository, tree, saved):
    node = find_node(repository, saved[0], os.fsencode(tree) + b"/docs/deep/read.me")
    pack = repository.index.find(BlobType.DATA, node.content[0]).pack_id.hex()
    deep = find_node(repository, saved[0], os.fsencode(tree) + b"/docs/deep").subtree.hex()
    for words in (["--blob", node.content[0].hex()], ["--blob", node.content[0].hex()[:8]], ["--tree", deep], ["--pack", pack]):
        words = ["find", *words, "-s", saved[0].id]
        assert engine(*words)[1] == os.fsencode(restic(location, *words))
        assert json.loads(engine(*words, "--json")[1]) == json.loads(restic(location, *words, "--json"))
