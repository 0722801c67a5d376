"""Of snapshots that are not whole what is left is brought back."""

import hashlib
import json
import os
import shutil

import pytest

from engine.blob import BlobType, PackedBlob
from engine.cli import main
from engine.commands.backup import backup
from engine.commands.ls import find_node, walk
from engine.commands.repair_index import repair_index
from engine.commands.repair_snapshots import repair_snapshots
from engine.commands.snapshots import list_snapshots
from engine.errors import IndexIncomplete
from engine.index import Index, IndexedPack, decode_index, encode_index
from engine.node import Node
from engine.snapshot import SnapshotFilter, load_snapshot, save_snapshot
from engine.store import FileKind
from engine.tree import encode_tree, iter_raw_nodes, join_nodes
from engine.treerepair import EMPTY_TREE_ID, Entry, judge_entry
from tests.engine.conftest import PASSWORD
from tests.engine.damage import flip_bit, is_killed, names, packs_of
from tests.engine.repair.looking import blobs, damage_tree, indexed, opened, pack_path, problems


def losses_of(location, *arguments, **options):
    """Repair, and return the report with what was told to be lost, by snapshot's day and path."""
    told = []
    report = repair_snapshots(
        opened(location), *arguments, on_loss=lambda snapshot, loss: told.append((snapshot.time.day, loss.path)), **options
    )
    return report, told


def lose_packs(location, keep):
    """Remove the packs of data with blobs that `keep` does not want, and repair the index."""
    for pack in {place.pack_id for (kind, blob), place in blobs(location).items() if kind is BlobType.DATA and not keep(blob)}:
        pack_path(location, pack).unlink()
    repair_index(opened(location))


@pytest.mark.restic
def test_a_file_keeps_the_pieces_that_are_left_and_their_size(filled, plain, restic):
    repository = indexed(filled)
    first, second = list_snapshots(repository)
    large = find_node(repository, second, os.fsencode(plain / "large"))
    # The index loses one piece of several, as if it lay in a pack of its own.
    name = next(
        name
        for name in names(filled, FileKind.INDEX)
        if large.content[1].hex() in repository.load_file(FileKind.INDEX, name).decode()
    )
    packs = list(decode_index(repository.load_file(FileKind.INDEX, name)))
    left = [IndexedPack(pack.id, [blob for blob in pack.blobs if blob.id != large.content[1]]) for pack in packs]
    repository.save_file(FileKind.INDEX, encode_index(left))
    (filled / "index" / name).unlink()
    report, told = losses_of(filled)
    assert (report.whole, told) == (1, [(2, os.fsencode(plain / "large"))])
    (repair,) = report.repairs
    repaired = load_snapshot(opened(filled), repair.repaired_id)
    assert (repaired.original, repaired.tags, repaired.time) == (second.id, ("repaired",), second.time)
    rest = find_node(indexed(filled), repaired, os.fsencode(plain / "large"))
    lost = repository.index.plain_length(BlobType.DATA, large.content[1])
    assert (rest.content, rest.size) == ((large.content[0], *large.content[2:]), (6 << 20) - lost)
    assert {one.id for one in list_snapshots(opened(filled))} == {first.id, second.id, repaired.id}
    assert str(plain / "sub" / "1") in restic(filled, "ls", repaired.id)


@pytest.mark.restic
def test_after_a_repair_that_forgets_restic_finds_no_fault(filled, plain, restic):
    first, second = list_snapshots(opened(filled))
    repository = indexed(filled)
    large = find_node(repository, second, os.fsencode(plain / "large"))
    lose_packs(filled, lambda blob: blob not in large.content)
    _, told = losses_of(filled, forget=True)
    assert told == [(2, os.fsencode(plain / "large"))]
    left = list_snapshots(opened(filled))
    assert [(one.original, one.tags) for one in left] == [(None, ()), (second.id, ())]
    assert left[0].id == first.id
    restic(filled, "check", "--read-data")
    assert find_node(indexed(filled), left[1], os.fsencode(plain / "large")).size == 0


def test_a_directory_that_cannot_be_read_is_empty_and_told_for_each_snapshot_that_has_it(filled, plain):
    damage_tree(filled, plain / "sub")
    report, told = losses_of(filled, forget=True)
    assert told == [(1, os.fsencode(plain / "sub")), (2, os.fsencode(plain / "sub"))]
    assert (report.whole, len(report.repairs)) == (0, 2)
    repository = indexed(filled)
    for snapshot in list_snapshots(repository):
        assert find_node(repository, snapshot, os.fsencode(plain / "sub")).subtree == EMPTY_TREE_ID
    assert problems(filled) == []


@pytest.mark.parametrize("forget", [False, True])
def test_a_snapshot_of_which_nothing_is_left_goes_only_if_originals_are_to_be_forgotten(filled, forget):
    first, second = list_snapshots(opened(filled))
    damage_tree(filled)
    report, told = losses_of(filled, forget=forget)
    assert ([(one.tree, one.repaired_id) for one in report.repairs], told) == ([(None, None)], [(2, b"/")])
    assert [one.id for one in list_snapshots(opened(filled))] == [first.id] + [second.id] * (not forget)


def test_an_empty_directory_whose_tree_is_lost_is_made_again_and_nothing_is_lost(filled, plain):
    before = list_snapshots(opened(filled))
    damage_tree(filled, plain / "empty")
    assert losses_of(filled, dry_run=True)[0].whole == 2
    report, told = losses_of(filled)
    assert (report.whole, report.repairs, told) == (2, [], [])
    assert list_snapshots(opened(filled)) == before
    places = [
        pack.id
        for name in names(filled, FileKind.INDEX)
        for pack in decode_index(opened(filled).load_file(FileKind.INDEX, name))
        if any(blob.id == EMPTY_TREE_ID for blob in pack.blobs)
    ]
    assert len(places) == 2


def test_damage_on_the_way_is_no_loss(filled):
    repository = opened(filled)
    get_range, spoiled = repository.store.get_range, []

    def spoiling(kind, name, offset, length):
        content = bytearray(get_range(kind, name, offset, length))
        if name not in spoiled:
            spoiled.append(name)
            content[len(content) // 2] ^= 1
        return bytes(content)

    repository.store.get_range = spoiling
    assert repair_snapshots(repository).repairs == []
    assert spoiled


def test_whole_snapshots_stay_untouched_and_nothing_is_written(filled):
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*") if path.is_file()}
    report, _ = losses_of(filled)
    assert (report.whole, report.repairs) == (2, [])
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*") if path.is_file()} == before


def test_a_dry_run_tells_the_same_and_changes_nothing(filled, plain):
    damage_tree(filled, plain / "sub")
    before = {path for path in filled.rglob("*") if path.is_file()}
    report, told = losses_of(filled, dry_run=True, forget=True)
    assert {path for path in filled.rglob("*") if path.is_file()} == before
    again, told_again = losses_of(filled, forget=True)
    assert told == told_again != []
    assert [one.tree for one in report.repairs] == [one.tree for one in again.repairs]


def test_a_repair_that_was_made_before_is_not_made_again(filled, plain):
    damage_tree(filled, plain / "sub")
    first, _ = losses_of(filled)
    second, _ = losses_of(filled)
    assert [one.repaired_id for one in second.repairs] == [one.repaired_id for one in first.repairs]
    assert (len(list_snapshots(opened(filled))), second.whole) == (4, 2)


@pytest.mark.parametrize("lost", ["index", "pack"])
def test_nothing_is_repaired_while_the_index_is_not_what_the_packs_are(filled, lost):
    before = names(filled, FileKind.SNAPSHOTS)
    (filled / "index" / min(names(filled, FileKind.INDEX)) if lost == "index" else packs_of(filled)[0]).unlink()
    for dry_run in (True, False):
        with pytest.raises(IndexIncomplete, match="repair the index first"):
            repair_snapshots(opened(filled), dry_run=dry_run, forget=True)
    assert names(filled, FileKind.SNAPSHOTS) == before


def test_a_snapshot_file_that_is_damaged_goes_only_if_it_is_named(filled):
    first, second = list_snapshots(opened(filled))
    flip_bit(filled / "snapshots" / first.id, 30)
    report, _ = losses_of(filled, forget=True)
    assert ([name for name, _ in report.unreadable], report.forgotten, report.whole) == ([first.id], [], 1)
    assert losses_of(filled, [first.id[:8]])[0].forgotten == []
    assert losses_of(filled, [first.id[:8]], dry_run=True, forget=True)[0].forgotten == [first.id]
    assert names(filled, FileKind.SNAPSHOTS) == {first.id, second.id}
    assert losses_of(filled, [first.id[:8]], forget=True)[0].forgotten == [first.id]
    assert names(filled, FileKind.SNAPSHOTS) == {second.id}


def test_names_and_filters_choose_what_is_repaired(filled, plain):
    damage_tree(filled, plain / "sub")
    first, _ = list_snapshots(opened(filled))
    for chosen, day in ((["latest"], 2), ([first.id[:8]], 1)):
        report, _ = losses_of(filled, chosen, dry_run=True)
        assert [one.snapshot.time.day for one in report.repairs] == [day]
    assert losses_of(filled, dry_run=True, only=SnapshotFilter(hosts=("other",)))[0].repairs == []


def test_a_repair_of_snapshots_that_is_killed_at_any_change_leaves_them_no_worse_and_the_next_ends_it(filled, plain, tmp_path):
    damage_tree(filled, plain / "sub")
    times = [one.time for one in list_snapshots(opened(filled))]
    for number in range(30):
        location = shutil.copytree(filled, tmp_path / f"dying-{number}")
        repository = opened(location)
        if not is_killed(lambda r=repository: repair_snapshots(r, forget=True), repository, number):
            break
        assert {one.time for one in list_snapshots(opened(location))} == set(times)
        repair_snapshots(opened(location), forget=True)
        assert [one.time for one in list_snapshots(opened(location))] == times
        assert problems(location) == []
    else:
        pytest.fail("it never got through")
    assert number >= 8


def test_what_is_whole_in_a_rewritten_tree_keeps_its_bytes_with_fields_that_are_unknown_here(repository, location):
    with repository.writer() as writer:
        odd = '{"name":"odd","type":"file","size":1,"future":{"x":[1, 2]},"content":[]}'
        whole = '{"name":"whole","type":"symlink","future": true,"content":null}'
        broken = f'{{"name":"z","type":"dir","content":null,"subtree":"{bytes(32).hex()}","future":1}}'
        tree = join_nodes([odd, whole, broken])
        tree_id = hashlib.sha256(tree).digest()
        writer.add_blob(BlobType.TREE, tree_id, tree)
    backup(opened(location), [location / "config"], host="h")
    (snapshot,) = list_snapshots(opened(location))
    save_snapshot(repository, type(snapshot)(time=snapshot.time, tree=tree_id, paths=("/x",)))
    report, told = losses_of(location)
    assert [path for _, path in told] == [b"/odd", b"/z"]
    (repair,) = report.repairs
    found = [node.text for node in iter_raw_nodes(indexed(location).load_blob(BlobType.TREE, repair.tree))]
    assert found == [
        odd.replace('"size":1,', ""),
        whole,
        broken.replace(bytes(32).hex(), EMPTY_TREE_ID.hex()),
    ]


@pytest.mark.parametrize(
    ("node", "left", "lost"),
    [
        (Node(b"f", "file", size=5, content=(b"a" * 32,)), True, False),
        (Node(b"f", "file", size=7, content=(b"a" * 32,)), Node(b"f", "file", size=5, content=(b"a" * 32,)), True),
        (
            Node(b"f", "file", size=0, links=2, content=(b"a" * 32,)),
            Node(b"f", "file", size=5, links=2, content=(b"a" * 32,)),
            True,
        ),
        (Node(b"f", "file", size=9, content=(b"a" * 32, b"b" * 32)), Node(b"f", "file", size=5, content=(b"a" * 32,)), True),
        (Node(b"f", "file", size=4, content=(b"b" * 32,)), Node(b"f", "file", content=()), True),
        (Node(b"f", "file"), True, False),
        (Node(b"l", "symlink", linktarget=b"x"), True, False),
        (Node(b"d", "dir"), Node(b"d", "dir", subtree=EMPTY_TREE_ID), True),
        (Node(b"i", "irregular"), None, True),
        (Node(b"i", ""), None, True),
    ],
)
def test_what_is_left_of_an_entry(node, left, lost):
    index = Index()
    index.add_pack(IndexedPack(b"p" * 32, [PackedBlob(BlobType.DATA, b"a" * 32, 0, 37)]))
    (raw,) = iter_raw_nodes(encode_tree([node]))
    rest, loss = judge_entry(Entry.of(raw), index)
    assert "".join(rest.pieces() if rest else ()) == ((node if left is True else left).to_json() if left else "")
    assert bool(loss) is lost


def test_the_commands_tell_in_words_and_json_and_by_their_status(filled, plain, monkeypatch, capfd):
    monkeypatch.setenv("RESTIC_REPOSITORY", str(filled))
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    packs_of(filled)[0].with_name("not a pack").write_bytes(b"")
    damage_tree(filled, plain / "sub")
    assert main(["repair", "index", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[-1])["foreign"] == ["not a pack"]
    assert main(["repair", "snapshots", "--dry-run", "--json"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["path"] for line in err.splitlines()] == [str(plain / "sub")] * 2
    assert [repair["repaired"] for repair in json.loads(out.splitlines()[-1])["repairs"]] == [None, None]
    assert main(["repair", "snapshots", "--forget"]) == 0
    out, err = capfd.readouterr()
    assert f"{plain}/sub: the directory cannot be read" in err
    assert "0 snapshots are whole, 2 are not" in out
    flip_bit(filled / "snapshots" / min(names(filled, FileKind.SNAPSHOTS)), 30)
    assert main(["repair", "snapshots"]) == 1
    with pytest.raises(SystemExit):
        main(["repair"])


def test_a_repaired_snapshot_can_be_walked_to_its_end(filled, plain):
    damage_tree(filled, plain / "sub" / "deep")
    report, _ = losses_of(filled)
    repository = indexed(filled)
    for repair in report.repairs:
        snapshot = load_snapshot(repository, repair.repaired_id)
        assert os.fsencode(plain / "sub" / "2") in [path for path, _ in walk(repository, snapshot)]
