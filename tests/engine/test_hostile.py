"""A repository that was written to do harm leads no verb out of its place, keeps none busy without end, and fills no memory."""

import hashlib
import io
import json
import shutil
import tarfile

import pytest
import zstandard

from engine.blob import BlobType, PackedBlob
from engine.bounds import BLOB_BYTES
from engine.commands.check import check
from engine.commands.copy import copy
from engine.commands.dump import dump_file, dump_tar
from engine.commands.ls import list_directory, walk
from engine.commands.prune import prune
from engine.commands.repair_index import repair_index
from engine.commands.repair_snapshots import repair_snapshots
from engine.commands.restore import restore
from engine.errors import BlobMissing, DataDamaged, EngineError, TooLarge, UnsafePath
from engine.repository import Repository
from engine.store import FileKind
from engine.walking import NESTED_TOO_OFTEN
from tests.engine.hostile import CONTENT, Hostile, directory, measured, node

MEMORY = 200 << 20
HUGE = 10 << 30
NAME = "ab" * 32


@pytest.fixture
def place(tmp_path):
    return tmp_path / "repository"


@pytest.fixture
def hostile(place, monkeypatch):
    return Hostile.new(place, monkeypatch)


@pytest.fixture
def honest(hostile):
    """A snapshot without fault beside what is hostile."""
    return hostile.snapshot(hostile.file("file"), hostile.directory("dir", hostile.file("inner")))


def fresh(hostile):
    old = hostile.repository
    return Repository(old.store, old.key, old.key_name, old.config)


def indexed(hostile):
    repository = fresh(hostile)
    repository.load_index()
    return repository


# -- files of the repository itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "verb", "status", "says"),
    [
        (FileKind.CONFIG, ["snapshots"], 1, f"config file  has {HUGE} bytes"),
        (FileKind.KEYS, ["snapshots"], 0, "1 snapshots"),
        (FileKind.KEYS, ["key", "list"], 0, f"key {NAME}: keys file {NAME} has {HUGE} bytes"),
        (FileKind.LOCKS, ["check"], 1, f"locks file {NAME} has {HUGE} bytes"),
        (FileKind.LOCKS, ["unlock"], 1, "only removing all locks removes it"),
        (FileKind.LOCKS, ["unlock", "--remove-all"], 0, "removed 1 locks"),
        (FileKind.SNAPSHOTS, ["snapshots"], 0, f"snapshots file {NAME} has {HUGE} bytes"),
        (FileKind.SNAPSHOTS, ["forget", "--keep-last", "1"], 1, f"snapshots file {NAME} has {HUGE} bytes"),
        (FileKind.SNAPSHOTS, ["check"], 1, f"snapshot {NAME}: snapshots file {NAME} has {HUGE} bytes"),
        (FileKind.INDEX, ["ls", "latest"], 1, f"index file {NAME} has {HUGE} bytes"),
        (FileKind.INDEX, ["check"], 1, f"index file {NAME}: index file {NAME} has {HUGE} bytes"),
        (FileKind.INDEX, ["prune"], 1, f"index file {NAME} has {HUGE} bytes"),
        (FileKind.INDEX, ["repair", "index"], 0, f"index file {NAME} has {HUGE} bytes"),
        (FileKind.DATA, ["cat", "pack", NAME], 1, f"data file {NAME} has {HUGE} bytes"),
        (FileKind.DATA, ["repair", "index"], 1, "a header of impossible length"),
        (FileKind.DATA, ["prune"], 0, "deleted 1 packs"),
    ],
)
def test_a_file_of_ten_gigabytes_is_not_read_into_memory(hostile, honest, place, kind, verb, status, says):
    hostile.sparse(kind, "" if kind is FileKind.CONFIG else NAME, HUGE)
    outcome = measured(place, *verb)
    told = (outcome.out + outcome.err).decode()
    assert (outcome.status, outcome.peak < MEMORY) == (status, True), told
    assert says in told


@pytest.mark.parametrize("verb", [["snapshots"], ["ls", "latest"], ["check"], ["forget", "--keep-last", "1"], ["find", "x"]])
def test_a_key_that_asks_for_absurd_work_is_not_tried(hostile, honest, place, verb):
    (key,) = (place / "keys").iterdir()
    fields = json.loads(key.read_bytes())
    shutil.rmtree(place / "keys")
    hostile.repository.store.put(FileKind.KEYS, NAME, json.dumps(fields | {"N": 1 << 40}).encode())
    outcome = measured(place, *verb)
    assert (outcome.status, outcome.peak < MEMORY) == (1, True)
    assert b"the key files" in outcome.err


@pytest.mark.parametrize(
    ("kind", "verb"),
    [
        (FileKind.INDEX, ["ls", "latest"]),
        (FileKind.INDEX, ["stats"]),
        (FileKind.SNAPSHOTS, ["snapshots"]),
        (FileKind.LOCKS, ["prune"]),
    ],
)
def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(hostile, honest, place, kind, verb):
    name = hostile.repository.save_file(kind, b'{"packs":[' + b" " * (400 << 20) + b"]}")
    assert (place / kind.value / name).stat().st_size < 100_000
    outcome = measured(place, *verb)
    assert outcome.peak < MEMORY
    assert f"{kind.value} file {name} unpacks to more than" in outcome.err.decode()


def test_an_index_that_names_very_many_blobs_in_a_small_file_is_refused(hostile, honest, place):
    blobs = ",".join(f'{{"id":"{number:064x}","type":"data","offset":0,"length":50}}' for number in range(200_000))
    name = hostile.repository.save_file(FileKind.INDEX, f'{{"packs":[{{"id":"{NAME}","blobs":[{blobs}]}}]}}'.encode())
    outcome = measured(place, "ls", "latest")
    assert (outcome.status, outcome.peak < MEMORY) == (1, True)
    assert f"index file {name} unpacks to more than" in outcome.err.decode()


def test_snapshots_that_list_very_many_paths_are_refused_before_they_fill_the_memory(hostile, place):
    for number in range(40):
        paths = json.dumps([f"/{number}/{path}" for path in range(200_000)])
        text = f'{{"time":"2024-01-01T00:00:00Z","tree":"{NAME}","paths":{paths}}}'
        hostile.repository.save_file(FileKind.SNAPSHOTS, text.encode())
    outcome = measured(place, "snapshots", "--json")
    assert (outcome.status, outcome.peak < 512 << 20) == (1, True)
    assert b"name more paths, patterns and tags than any program writes" in outcome.err


# -- packs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 31, 1 << 24, (1 << 32) - 1])
def test_a_pack_whose_header_has_an_absurd_length_is_told(hostile, honest, length):
    content = b"x" * 100
    pack = hostile.pack(content, [], header=length.to_bytes(4, "little"))
    report = repair_index(fresh(hostile))
    assert [name for name, _ in report.unreadable] == [pack.hex()]
    assert [path for path, _ in walk(indexed(hostile), honest)] == [b"/file", b"/dir", b"/dir/inner"]


def test_a_header_that_lists_a_piece_larger_than_any_program_writes_stops_a_repair_before_anything_is_lost(hostile, honest, place):
    before = {path.name for path in (place / "index").iterdir()}
    size = BLOB_BYTES[BlobType.DATA] + 1
    content = bytes(size)
    pack = hostile.pack(content, [PackedBlob(BlobType.DATA, bytes(32), 0, size)])
    with pytest.raises(TooLarge, match=f"pack {pack.hex()}.*nothing was changed"):
        repair_index(fresh(hostile), read_all_packs=True)
    assert before <= {path.name for path in (place / "index").iterdir()}


def test_a_piece_larger_than_any_program_writes_is_missing_where_it_is_needed(hostile, caplog):
    size = BLOB_BYTES[BlobType.DATA] + 1
    blob = bytes(31) + b"x"
    hostile.plant(blob, b"frame", size)
    snapshot = hostile.snapshot(node("a", "file", size=size, content=[blob.hex()]), hostile.file("b"))
    repository = indexed(hostile)
    assert f"data blob {blob.hex()} of {size} bytes is larger than any program writes" in caplog.text
    with pytest.raises(BlobMissing):
        list(dump_file(repository, snapshot, b"/a"))
    assert b"".join(dump_file(repository, snapshot, b"/b"))
    assert any("bytes where the index needs" in problem for problem in check(fresh(hostile)).problems)
    with pytest.raises(BlobMissing):
        prune(fresh(hostile))


@pytest.mark.parametrize("claimed", [1, 1000, BLOB_BYTES[BlobType.DATA]])
def test_a_frame_of_another_size_than_the_index_says_is_damage_for_every_verb(hostile, honest, place, claimed, monkeypatch):
    content = bytes(64 << 20)
    hostile.plant(hashlib.sha256(content).digest(), zstandard.compress(content), claimed)
    bomb = hostile.snapshot(node("bomb", "file", size=len(content), content=[hashlib.sha256(content).hexdigest()]))
    with pytest.raises(DataDamaged):
        list(dump_file(indexed(hostile), bomb, b"/bomb"))
    assert any("compressed data" in problem for problem in check(fresh(hostile), read_data=True).problems)
    summary = copy(fresh(hostile), Hostile.new(place.parent / "target", monkeypatch).repository)
    assert [snapshot_id for snapshot_id, _ in summary.failed] == [bomb]
    assert len(summary.copied) == 1


# -- trees ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A repository with an honest snapshot, and one of a tree of 400 MB of white space, which takes 20 KB."""
    place = tmp_path_factory.mktemp("bomb") / "repository"
    with pytest.MonkeyPatch.context() as patch:
        hostile = Hostile.new(place, patch)
    honest = hostile.snapshot(hostile.file("file"))
    tree = hostile.text([b'{"nodes":[', *(b" " * (1 << 20) for _ in range(400)), b"]}"])
    return place, honest, hostile.snapshot_of(tree)


@pytest.mark.parametrize(
    "verb",
    ["ls SNAPSHOT", "ls --json SNAPSHOT /a", "find *", "find --tree ab", "diff HONEST SNAPSHOT", "diff SNAPSHOT HONEST", "stats",
     "dump SNAPSHOT /", "restore SNAPSHOT --target TARGET", "check", "check --read-data", "prune", "repair snapshots",
     "-r TARGET copy --from-repo HOSTILE"],
)  # fmt: skip
def test_a_tree_that_unpacks_to_what_it_is_not_ends_every_verb_with_a_clear_error(bomb, tmp_path, verb, monkeypatch):
    place, honest, snapshot = bomb
    Hostile.new(tmp_path / "target", monkeypatch)
    words = {"HONEST": honest, "SNAPSHOT": snapshot, "TARGET": tmp_path / "target", "HOSTILE": place}
    outcome = measured(place, *(words.get(word, word) for word in verb.split()))
    assert (outcome.status, outcome.peak < MEMORY) == (1, True)
    assert b"larger than any program writes it" in outcome.err + outcome.out
    assert len(list((place / "snapshots").iterdir())) == 2


def test_a_file_of_very_many_pieces_in_a_large_directory_is_restored_in_little_memory(hostile, place, tmp_path):
    pieces = 200_000
    piece = hostile.blob(b"x").hex()
    large = hostile.file("large") | {"content": [piece] * pieces, "size": pieces}
    few = [node(f"{number:05}", "file", content=[]) for number in range(20_000)]
    snapshot = hostile.snapshot(*few, large)
    outcome = measured(place, "restore", snapshot, "--target", tmp_path / "target")
    assert (outcome.status, outcome.peak < MEMORY) == (0, True), outcome.err.decode()
    assert (tmp_path / "target" / "large").read_bytes() == b"x" * pieces
    assert len(list((tmp_path / "target").iterdir())) == len(few) + 1


def test_laughs_are_restored_to_some_extent_and_told(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.walking.VISITS_LIMIT", 50)
    snapshot = hostile.snapshot(directory("a", hostile.laughs(40)), hostile.directory("b", hostile.file("file")))
    told = []
    restore(fresh(hostile), snapshot, str(tmp_path / "target"), on_error=lambda path, reason: told.append(reason))
    assert set(told) == {NESTED_TOO_OFTEN}
    assert (tmp_path / "target" / "b" / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("missing", [1, 100])
def test_trees_that_are_missing_are_told_by_every_verb(hostile, honest, place, missing):
    gone = [directory(f"d{number:03}", bytes(30) + number.to_bytes(2, "big")) for number in range(missing)]
    snapshot = hostile.snapshot(*gone, hostile.file("file"))
    repository = indexed(hostile)
    with pytest.raises(BlobMissing):
        list(walk(repository, snapshot))
    with pytest.raises(BlobMissing):
        list(dump_tar(repository, snapshot, b"/"))
    with pytest.raises(BlobMissing, match="nothing was deleted"):
        prune(fresh(hostile))
    (problem,) = check(fresh(hostile)).problems
    assert f"the trees of {missing} of its directories are not in the index" in problem
    losses = []
    report = repair_snapshots(fresh(hostile), on_loss=lambda _, loss: losses.append(loss.path))
    assert losses == [f"/d{number:03}".encode() for number in range(missing)]
    assert len(report.repairs) == 1


def test_losses_below_laughs_are_told_to_some_extent(hostile, monkeypatch):
    monkeypatch.setattr("engine.walking.VISITS_LIMIT", 50)
    snapshot = hostile.snapshot_of(hostile.laughs(40, leaf=hostile.tree(directory("gone", bytes(32)))))
    losses = []
    report = repair_snapshots(fresh(hostile), on_loss=lambda _, loss: losses.append(loss.what))
    assert [repair.snapshot.id for repair in report.repairs] == [snapshot]
    assert "over and over again" in losses[-1]
    assert len(losses) < 1000
    repaired = report.repairs[0].repaired_id
    assert check(fresh(hostile)).problems != []
    assert fresh(hostile).load_file(FileKind.SNAPSHOTS, repaired)


def test_of_very_many_losses_some_are_told_one_by_one(hostile, monkeypatch):
    monkeypatch.setattr("engine.treerepair.TOLD_LIMIT", 5)
    hostile.snapshot(*(node(f"f{number}", "file", size=1, content=[f"{number:064x}"]) for number in range(8)))
    losses = []
    repair_snapshots(fresh(hostile), on_loss=lambda _, loss: losses.append((loss.path, loss.what)))
    assert [path for path, _ in losses] == [b"/f0", b"/f1", b"/f2", b"/f3", b"/f4", b"/"]
    assert losses[-1][1] == "3 more of its entries are not whole"


def test_of_very_many_problems_some_are_listed(hostile, monkeypatch):
    monkeypatch.setattr("engine.commands.check.PROBLEMS_LIMIT", 3)
    for number in range(5):
        hostile.snapshot(directory("a", bytes([number]) * 32))
    problems = check(fresh(hostile)).problems
    assert len(problems) == 4
    assert problems[-1] == "and 2 more problems"


def test_a_directory_with_too_many_entries_to_be_returned_is_walked_and_not_returned(hostile, monkeypatch):
    snapshot = hostile.snapshot(*(node(f"f{number}", "file", content=[]) for number in range(10)))
    monkeypatch.setattr("engine.commands.ls.ENTRIES_LIMIT", 9)
    with pytest.raises(TooLarge, match="too many entries"):
        list_directory(indexed(hostile), snapshot, b"/")
    assert len(list(walk(indexed(hostile), snapshot))) == 10
    monkeypatch.setattr("engine.commands.ls.ENTRIES_LIMIT", 10)
    assert len(list_directory(indexed(hostile), snapshot, b"/")) == 10
    monkeypatch.setattr("engine.commands.ls.TEXT_LIMIT", 10)
    with pytest.raises(TooLarge):
        list_directory(indexed(hostile), snapshot, b"/")


# -- archives ---------------------------------------------------------------------------------------------------------


def unpacked(pieces, target):
    """Unpack what of an archive comes before it ends, as somebody does who trusts its names."""
    archive = io.BytesIO()
    error = None
    try:
        for piece in pieces:
            archive.write(piece)
    except EngineError as failure:
        error = failure
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(target, filter="fully_trusted")
    return error


@pytest.fixture
def field(tmp_path):
    (tmp_path / "victims").mkdir()
    (tmp_path / "victims" / "file").write_bytes(b"untouched")
    (tmp_path / "target").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "a/b", r"a\x00b"])
def test_an_archive_has_no_name_that_leads_out(hostile, field, name):
    snapshot = hostile.snapshot(hostile.file("first"), hostile.file(name))
    assert isinstance(unpacked(dump_tar(indexed(hostile), snapshot, b"/"), field / "target"), UnsafePath)
    assert [path.name for path in (field / "target").iterdir()] == ["first"]


@pytest.mark.parametrize("link_first", [True, False])
def test_an_archive_has_no_name_twice_so_that_no_link_leads_out(hostile, field, link_first):
    both = [node("a", "symlink", linktarget="../victims"), hostile.directory("a", hostile.file("file"))]
    snapshot = hostile.snapshot(*(both if link_first else both[::-1]))
    assert isinstance(unpacked(dump_tar(indexed(hostile), snapshot, b"/"), field / "target"), UnsafePath)
    assert (field / "victims" / "file").read_bytes() == b"untouched"


def test_an_archive_links_no_file_to_a_link(hostile, field):
    twin = {"inode": 7, "links": 2, "device_id": 1}
    link = node("a", "symlink", linktarget="../victims/file", **twin)
    snapshot = hostile.snapshot(link, hostile.file("b", **twin), hostile.file("c", **twin))
    assert unpacked(dump_tar(indexed(hostile), snapshot, b"/"), field / "target") is None
    assert (field / "victims" / "file").read_bytes() == b"untouched"
    assert (field / "target" / "b").read_bytes() == b"hostile content"
    assert (field / "target" / "b").stat().st_ino == (field / "target" / "c").stat().st_ino


def test_an_archive_of_very_many_files_with_several_names_is_given_up_with_a_clear_error(hostile, monkeypatch):
    monkeypatch.setattr("engine.commands.dump.LINKS_LIMIT", 5)
    pairs = [node(f"{name}{number}", "file", inode=number, links=2, content=[]) for number in range(6) for name in "ab"]
    assert list(dump_tar(indexed(hostile), hostile.snapshot(*pairs), b"/"))
    alone = [one for one in pairs if one["name"].startswith("a")]
    with pytest.raises(TooLarge, match="more than 5 files have several names"):
        list(dump_tar(indexed(hostile), hostile.snapshot(*alone), b"/"))


@pytest.mark.parametrize("size", [0, 3, 1 << 40, (1 << 64) - 1])
def test_a_size_that_lies_ends_a_dump(hostile, field, size):
    snapshot = hostile.snapshot(hostile.file("a") | {"size": size}, hostile.file("b"))
    with pytest.raises(DataDamaged, match="than its size says"):
        list(dump_file(indexed(hostile), snapshot, b"/a"))
    with pytest.raises(DataDamaged, match="than its size says"):
        list(dump_tar(indexed(hostile), snapshot, b"/"))


def test_a_device_whose_number_no_archive_can_hold_ends_a_dump(hostile):
    snapshot = hostile.snapshot(node("a", "dev", device=(1 << 64) - 1))
    with pytest.raises(DataDamaged, match="no archive can hold"):
        list(dump_tar(indexed(hostile), snapshot, b"/"))


# -- a backup beside it -----------------------------------------------------------------------------------------------


def test_a_backup_reads_everything_anew_if_the_parents_tree_cannot_be_had(hostile, place, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"content")
    tree = hostile.text([b'{"nodes":[', *(b" " * (1 << 20) for _ in range(520)), b"]}"])
    parent = hostile.snapshot_of(tree)
    outcome = measured(place, "backup", tmp_path / "source", "--parent", parent)
    assert (outcome.status, outcome.peak < MEMORY) == (0, True)
