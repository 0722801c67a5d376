"""What is too large to be held in memory is read in pieces, and every verb makes the same of it."""

import hashlib
import os
import subprocess
from datetime import timedelta

import pytest

from engine.backends import open_store
from engine.blob import BlobType
from engine.blobids import BlobIds
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.copy import copy
from engine.commands.diff import diff
from engine.commands.dump import dump_tar
from engine.commands.find import find, find_objects
from engine.commands.ls import list_directory, walk
from engine.commands.prune import PruneOptions, prune
from engine.commands.repair_index import repair_index
from engine.commands.repair_snapshots import repair_snapshots
from engine.commands.snapshots import list_snapshots
from engine.commands.stats import stats
from engine.errors import DataDamaged, TooLarge
from engine.node import Node
from engine.pruning import UnusedLimit
from engine.repository import Repository
from engine.snapshot import Snapshot, save_snapshot
from engine.tree import encode_tree, iter_nodes, iter_raw_nodes
from engine.treereader import decode, read_nodes, read_raw_nodes
from tests.engine.damage import flip_bit, packs_of
from tests.engine.pruned import opened
from tests.engine.trees import write_every_kind

PIECES = 40


@pytest.fixture
def small_bounds(monkeypatch):
    """Have everything be too large to be read at once."""
    for module in ("treereader", "repacking", "packcheck"):
        monkeypatch.setattr(f"engine.{module}.TREE_BYTES", 300)
    monkeypatch.setattr("engine.treesplit.WINDOW_BYTES", 300)
    monkeypatch.setattr("engine.treesplit.PACKED_FROM", 600)
    monkeypatch.setattr("engine.packcheck.READ_AT_ONCE", 100)
    monkeypatch.setattr("engine.packcheck.PIECE_BYTES", 64)
    monkeypatch.setattr("engine.repository.STREAMED", 64)


@pytest.fixture
def filled(location, tmp_path):
    """A repository with two snapshots of every kind of entry, of many files and of one with many pieces."""
    source = tmp_path / "source"
    write_every_kind(source)
    for number in range(50):
        (source / f"many {number:02}").write_bytes(b"%d" % number)
    repository = opened(location)
    backup(repository, [source], host="h")
    (source / "many 07").write_bytes(b"other")
    (source / "new").write_bytes(b"new")
    (source / "many 09").unlink()
    second = backup(repository, [source], host="h").snapshot_id
    pieces = [os.urandom(10) for _ in range(PIECES)]
    with repository.writer() as writer:
        for piece in pieces:
            writer.add_blob(BlobType.DATA, hashlib.sha256(piece).digest(), piece)
        large = Node(b"large", "file", size=10 * PIECES, content=tuple(hashlib.sha256(piece).digest() for piece in pieces))
        content = encode_tree([large, Node(b"beside", "file", content=())])
        tree = hashlib.sha256(content).digest()
        writer.add_blob(BlobType.TREE, tree, content)
    (snapshot,) = [one for one in list_snapshots(repository) if one.id == second]
    save_snapshot(repository, Snapshot(snapshot.time + timedelta(hours=1), tree, ("/large",), hostname="other"))
    return location


def indexed(location):
    repository = opened(location)
    repository.load_index()
    return repository


def seen(location):
    """What the reading verbs make of a repository."""
    repository = indexed(location)
    snapshots = list_snapshots(repository)
    errors = []

    def told(*one):
        errors.append(one)

    changes = []
    numbers = diff(repository, snapshots[0].tree, snapshots[1].tree, metadata=True, on_change=changes.append, on_error=told)
    others = diff(repository, snapshots[0].tree, snapshots[2].tree, on_change=changes.append, on_error=told)
    some_blob = next(iter(repository.index.blobs(BlobType.DATA)))[0].hex()
    report = check(opened(location), read_data=True)
    return {
        "ls": [list(walk(repository, snapshot)) for snapshot in snapshots],
        "directory": list_directory(repository, snapshots[2], b"/"),
        "find": list(find(repository, snapshots, ["*a*"], on_error=told)),
        "blobs": sorted(map(repr, find_objects(repository, snapshots, blobs=[some_blob[:2]], trees=["a"], on_error=told))),
        "diff": (changes, numbers, others),
        "stats": stats(repository),
        "tar": [hashlib.sha256(b"".join(dump_tar(repository, snapshot, b"/"))).hexdigest() for snapshot in snapshots],
        "check": (report.problems, report.notes, report.bytes_read),
        "errors": errors,
    }


def test_every_verb_that_reads_makes_the_same_of_it(filled, request):
    whole = seen(filled)
    assert whole["errors"] == []
    assert whole["check"][:2] == ([], [])
    request.getfixturevalue("small_bounds")
    assert seen(filled) == whole


def test_entries_are_those_of_the_whole_tree(filled, small_bounds):
    repository = indexed(filled)
    packed = 0
    for tree, _ in repository.index.blobs(BlobType.TREE):
        content = repository.load_blob(BlobType.TREE, tree)
        assert list(read_nodes(repository, tree)) == list(iter_nodes(content))
        raw = list(read_raw_nodes(repository, tree))
        assert [decode(one) for one in raw] == list(iter_nodes(content))
        assert [one.content and list(one.content) for one in raw] == [one.content for one in iter_raw_nodes(content)]
        packed += sum(isinstance(one.content, BlobIds) for one in raw)
    assert packed == 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_copy_has_the_same_trees(filled, tmp_path, small_bounds, version):
    Repository.init(open_store(str(tmp_path / "copy")), "secret", version=version)
    summary = copy(opened(filled), opened(tmp_path / "copy"))
    assert (len(summary.copied), summary.failed) == (3, [])
    report = check(opened(tmp_path / "copy"), read_data=True)
    assert (report.problems, report.notes) == ([], [])
    ours, theirs = indexed(filled), indexed(tmp_path / "copy")
    for mine, copied in zip(list_snapshots(ours), list_snapshots(theirs), strict=True):
        assert list(walk(ours, mine)) == list(walk(theirs, copied))


def test_what_is_too_large_for_a_pack_is_told_and_the_rest_is_copied(filled, tmp_path, small_bounds, monkeypatch):
    monkeypatch.setattr("engine.writer.MOVED_BYTES", 2000)
    Repository.init(open_store(str(tmp_path / "copy")), "secret")
    summary = copy(opened(filled), opened(tmp_path / "copy"))
    assert len(summary.failed) == 2
    assert all("is larger than is stored anew" in reason for _, reason in summary.failed)
    assert check(opened(tmp_path / "copy"), read_data=True).problems == []


def test_a_prune_moves_them_as_they_are(filled, small_bounds):
    repository = indexed(filled)
    before = [list(walk(repository, snapshot)) for snapshot in list_snapshots(repository)]
    kept = list_snapshots(repository)[1:]
    (filled / "snapshots" / list_snapshots(repository)[0].id).unlink()
    report = prune(opened(filled), PruneOptions(UnusedLimit(percent=0)))
    assert report.packfiles.repack > 0
    repository = indexed(filled)
    assert [list(walk(repository, snapshot)) for snapshot in kept] == before[1:]
    assert check(opened(filled), read_data=True).problems == []


def test_a_prune_refuses_to_move_what_is_too_large_and_deletes_nothing(filled, small_bounds, monkeypatch):
    monkeypatch.setattr("engine.repacking.MOVED_BYTES", 100)
    packs = packs_of(filled)
    (filled / "snapshots" / list_snapshots(opened(filled))[0].id).unlink()
    with pytest.raises(DataDamaged, match="larger than is moved; nothing was deleted"):
        prune(opened(filled), PruneOptions(UnusedLimit(percent=0)))
    assert set(packs) <= set(packs_of(filled))


def test_a_flipped_bit_is_damage_before_anything_is_yielded(filled, small_bounds):
    for pack in packs_of(filled):
        flip_bit(pack, 40)
    repository = indexed(filled)
    damaged = 0
    for tree, place in repository.index.blobs(BlobType.TREE):
        if place.offset == 0:
            damaged += 1
            with pytest.raises(DataDamaged):
                next(read_nodes(repository, tree))
            with pytest.raises(DataDamaged):
                next(repository.stream_sealed(place, tree))
    assert damaged
    assert check(opened(filled), read_data=True).problems


def test_another_copy_is_read_if_the_first_is_damaged(filled, small_bounds):
    repository = indexed(filled)
    tree = list_snapshots(repository)[2].tree
    place = repository.index.find(BlobType.TREE, tree)
    content = repository.load_blob(BlobType.TREE, tree)
    with repository.writer() as writer:
        writer.add_claimed(BlobType.TREE, tree, content)
    pack = filled / "data" / place.pack_id.hex()[:2] / place.pack_id.hex()
    flip_bit(pack, place.offset + 40)
    assert list(read_nodes(indexed(filled), tree)) == list(iter_nodes(content))


def test_a_pack_that_changes_while_a_tree_is_moved_is_damage(filled, small_bounds, monkeypatch):
    repository = indexed(filled)
    # One that is read in several pieces, which the tree of an empty directory is not.
    tree, place = max(repository.index.blobs(BlobType.TREE), key=lambda blob: blob[1].length)
    pieces = repository.stream_sealed(place, tree)
    next(pieces)
    get_range = repository.store.get_range

    def changed(*where):
        *content, last = get_range(*where)
        return bytes([*content, last ^ 1])

    monkeypatch.setattr(repository.store, "get_range", changed)
    with pytest.raises(DataDamaged, match="changed while it was read"):
        list(pieces)


def test_what_is_lost_of_them_is_told_and_the_rest_is_kept(filled, request):
    (filled / "index").chmod(0o700)
    repository = indexed(filled)
    lost = repository.index.find(BlobType.DATA, hashlib.sha256(b"11").digest()).pack_id.hex()

    def repaired(name):
        copied = filled.parent / name
        subprocess.run(["cp", "-a", filled, copied], check=True)
        (copied / "data" / lost[:2] / lost).unlink()
        repair_index(opened(copied))
        losses = []
        report = repair_snapshots(opened(copied), on_loss=lambda snapshot, loss: losses.append(loss))
        assert check(opened(copied), read_data=True).problems == [] or report.repairs
        return losses, [(repair.tree, repair.losses) for repair in report.repairs]

    whole = repaired("whole")
    assert len(whole[0]) > 50
    request.getfixturevalue("small_bounds")
    assert repaired("in pieces") == whole
    repository = indexed(filled.parent / "in pieces")
    for tree, _ in whole[1]:
        assert list(read_nodes(repository, tree))


def test_a_repair_gives_up_nothing_that_it_cannot_read_for_its_size(filled, small_bounds, monkeypatch):
    monkeypatch.setattr("engine.treesplit.CONTENT_BLOBS", PIECES - 1)
    before = [snapshot.id for snapshot in list_snapshots(opened(filled))]
    with pytest.raises(TooLarge):
        repair_snapshots(opened(filled), forget=True)
    assert [snapshot.id for snapshot in list_snapshots(opened(filled))] == before


def test_a_large_directory_whose_entries_are_in_no_order_is_listed_and_not_compared(repository, small_bounds):
    nodes = [Node(b"%03d" % number, "file", content=()).to_json() for number in range(20)]
    trees = []
    with repository.writer() as writer:
        for texts in (nodes[::-1], nodes[:-1]):
            content = ('{"nodes":[' + ",".join(texts) + "]}").encode()
            trees.append(hashlib.sha256(content).digest())
            writer.add_blob(BlobType.TREE, trees[-1], content)
    assert len(list(read_nodes(repository, trees[0]))) == 20
    errors = []
    diff(repository, *trees, on_error=lambda *one: errors.append(one))
    assert errors[0] == (b"/", "the entries of the directory are in no order")
