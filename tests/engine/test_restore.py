"""A restore brings back what was saved, to the last bit, whichever of restic and the engine wrote or restores it."""

import hashlib
import multiprocessing
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from engine.backends import open_store
from engine.blob import BlobType
from engine.commands import restore as restore_module
from engine.commands.backup import backup
from engine.commands.ls import walk
from engine.commands.restore import restore
from engine.compare import compare_trees
from engine.errors import Cancelled, EngineError, PathNotFound, SnapshotNotFound, StoreUnreachable
from engine.filter import InvalidPattern
from engine.repository import Repository
from engine.restorer import pieces
from engine.restorer.pieces import HOLE_STEP
from engine.snapshot import find_snapshot
from tests.engine.conftest import PASSWORD

DAY_NS = 86_400 * 10**9


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def small(tmp_path):
    """A tree of a few plain files."""
    root = tmp_path / "small"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"content of a")
    (root / "b.log").write_bytes(b"content of b")
    (root / "sub" / "c.txt").write_bytes(b"content of c")
    return root


def again(repository):
    """The repository as another process would open it."""
    return Repository(repository.store, repository.key, repository.key_name, repository.config)


def compare(source, target):
    return compare_trees(os.fsencode(source), os.fsencode(f"{target}{source}"))


@pytest.mark.root
def test_we_restore_exactly_what_we_saved(repository, source, target):
    saved = backup(repository, [source], host="h")
    summary = restore(again(repository), saved.snapshot_id, str(target), verify=True)
    assert compare(source, target) == []
    assert (summary.errors, summary.files_verified) == (0, summary.files_restored - count_no_files(source))
    assert os.stat(f"{target}{source}/sparse").st_blocks * 512 < 1 << 20


def count_no_files(root):
    """Links, further hard links, fifos and devices: what has no content to verify."""
    names = [os.path.join(directory, name) for directory, _, files in os.walk(root) for name in files]
    regular = {os.lstat(name).st_ino for name in names if os.path.isfile(name) and not os.path.islink(name)}
    return len(names) - len(regular)


@pytest.mark.restic
@pytest.mark.parametrize("writer", ["restic", "engine"])
def test_version_1_repositories_are_restored_too(tmp_path, small, target, restic, writer):
    location = tmp_path / "version 1"
    if writer == "restic":
        restic(location, "init", "--repository-version", "1")
        restic(location, "backup", small)
    else:
        backup(Repository.init(open_store(str(location)), "secret", version=1), [small], host="h")
        restic(location, "check", "--read-data")
    assert restore(Repository.open(open_store(str(location)), "secret"), "latest", str(target)).errors == 0
    assert compare(small, target) == []


def test_a_damaged_or_missing_blob_names_its_file_and_all_others_come_back(repository, small, target):
    other = os.urandom(50_000)
    (small / "damaged").write_bytes(other)
    saved = backup(repository, [small], host="h")
    repository = again(repository)
    repository.load_index()
    place = repository.index.find(BlobType.DATA, hashlib.sha256(other).digest())
    pack = f"{repository.store.location}/data/{place.pack_id.hex()[:2]}/{place.pack_id.hex()}"
    os.chmod(pack, 0o600)
    with open(pack, "r+b") as file:
        file.seek(place.offset + 40)
        byte = file.read(1)
        file.seek(place.offset + 40)
        file.write(bytes([byte[0] ^ 1]))
    told = []
    summary = restore(repository, saved.snapshot_id, str(target), on_error=lambda *one: told.append(one))
    assert [(path, summary.errors) for path, _ in told] == [(os.fsencode(small / "damaged"), 1)]
    assert compare(small / "sub", target) == []
    assert Path(f"{target}{small}/a.txt").read_bytes() == b"content of a"


def flip(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_what_is_stored_twice_is_read_from_the_pack_that_is_sound(repository, location, small, target, damage):
    backup(again(repository), [small], host="h")
    index = {path: path.read_bytes() for path in (location / "index").iterdir()}
    for path in index:
        path.unlink()
    # As of two that ran side by side: each stored all.
    saved = backup(again(repository), [small], host="h", parent=None)
    for path, content in index.items():
        path.write_bytes(content)
    opened = again(repository)
    opened.load_index()
    for pack in {place.pack_id.hex() for blob_type in BlobType for _, place in opened.index.blobs(blob_type)}:
        damage(location / "data" / pack[:2] / pack)
    assert restore(again(repository), saved.snapshot_id, str(target)).errors == 0
    assert compare(small, target) == []
    assert [name for name, _ in walk(again(repository), saved.snapshot_id, os.fsencode(small))] != []


def test_a_missing_pack_fails_each_of_its_files_and_nothing_else(repository, small, target):
    first = backup(repository, [small], host="h")
    repository = again(repository)
    repository.load_index()
    gone = {location.pack_id for _, location in repository.index.blobs(BlobType.DATA)}
    (small / "later").write_bytes(os.urandom(9000))
    second = backup(repository, [small], host="h", parent=first.snapshot_id)
    for pack_id in gone:
        os.unlink(f"{repository.store.location}/data/{pack_id.hex()[:2]}/{pack_id.hex()}")
    told = {}
    summary = restore(again(repository), second.snapshot_id, str(target), on_error=told.__setitem__)
    assert {os.path.basename(path) for path in told} == {b"a.txt", b"b.log", b"c.txt"}
    assert all("missing" in reason for reason in told.values())
    assert (summary.errors, summary.files_restored) == (3, 1)
    assert os.path.getsize(f"{target}{small}/later") == 9000


def test_many_small_files_are_restored_by_processes(repository, tmp_path, target):
    source = tmp_path / "many"
    source.mkdir()
    for number in range(700):
        (source / f"{number}").write_bytes(b"%d" % number * (number % 50))
    saved = backup(repository, [source], host="h")
    summary = restore(again(repository), saved.snapshot_id, str(target), verify=True)
    assert (summary.files_restored, summary.files_verified, summary.errors) == (700, 700, 0)
    assert compare(source, target) == []


def test_directories_that_are_made_on_the_way_to_a_part_are_as_they_were_and_others_are_left_alone(repository, tmp_path, target):
    source = tmp_path / "source"
    (source / "there" / "made").mkdir(parents=True)
    (source / "there" / "made" / "file").write_bytes(b"content")
    for path in (source / "there" / "made", source / "there"):
        path.chmod(0o751)
        os.utime(path, ns=(DAY_NS, DAY_NS))
    saved = backup(repository, [source], host="h")
    there = target / str(source / "there").lstrip("/")
    there.mkdir(parents=True)
    there.chmod(0o700)
    assert restore(again(repository), saved.snapshot_id, str(target), include=[str(source / "there/made/file")]).errors == 0
    assert compare(source / "there" / "made", target) == []
    assert oct(there.stat().st_mode & 0o777) == oct(0o700)
    assert there.stat().st_mtime_ns != DAY_NS


def test_a_large_file_is_restored_in_pieces(repository, tmp_path, target):
    source = tmp_path / "large"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(20 << 20) + bytes(20 << 20) + os.urandom(3 << 20))
    saved = backup(repository, [source], host="h")
    summary = restore(again(repository), saved.snapshot_id, str(target), verify=True)
    assert (summary.files_restored, summary.bytes_restored, summary.files_verified) == (1, 43 << 20, 1)
    assert compare(source, target) == []
    assert os.stat(f"{target}{source}/file").st_blocks * 512 < 26 << 20


def test_a_file_in_the_place_of_a_directory_is_left_and_told_if_nothing_may_be_overwritten(repository, small, target):
    backup(repository, [small], host="h")
    there = target / str(small / "sub").lstrip("/")
    there.parent.mkdir(parents=True)
    there.write_bytes(b"local")
    told = {}
    summary = restore(again(repository), "latest", str(target), overwrite="never", on_error=told.__setitem__)
    assert (there.read_bytes(), summary.errors) == (b"local", 1)
    assert told == {os.fsencode(small / "sub"): "something else stands in the place of the directory"}
    assert restore(again(repository), "latest", str(target), overwrite="if-newer").errors == 0
    assert (there / "c.txt").read_bytes() == b"content of c"


@pytest.mark.parametrize("size", [1, HOLE_STEP - 1, HOLE_STEP, HOLE_STEP + 1, 2 * HOLE_STEP])
def test_a_file_of_zeros_has_its_size_again(repository, tmp_path, target, size):
    source = tmp_path / "zeros"
    source.mkdir()
    (source / "file").write_bytes(bytes(size))
    saved = backup(repository, [source], host="h")
    assert restore(again(repository), saved.snapshot_id, str(target), verify=True).errors == 0
    assert compare(source, target) == []


@pytest.mark.parametrize(
    ("mode", "older", "same", "newer"),
    [
        ("always", b"saved", b"saved", b"saved"),
        ("never", b"local", b"local", b"local"),
        ("if-changed", b"saved", b"local", b"saved"),
        ("if-newer", b"saved", b"local", b"local"),
    ],
)
def test_the_overwrite_mode_decides_about_files_that_are_there(repository, tmp_path, target, mode, older, same, newer):
    source = tmp_path / "source"
    source.mkdir()
    now = 1_700_000_000 * 10**9
    for name in ("older", "same", "newer", "absent"):
        (source / name).write_bytes(b"saved")
        os.utime(source / name, ns=(now, now))
    saved = backup(repository, [source], host="h")
    there = target / str(source).lstrip("/")
    there.mkdir(parents=True)
    for name, moved in (("older", -DAY_NS), ("same", 0), ("newer", DAY_NS)):
        (there / name).write_bytes(b"local")
        os.utime(there / name, ns=(now + moved, now + moved))
    summary = restore(again(repository), saved.snapshot_id, str(target), overwrite=mode)
    found = [(there / name).read_bytes() for name in ("older", "same", "newer", "absent")]
    assert found == [older, same, newer, b"saved"]
    assert summary.files_skipped == found.count(b"local")


def test_include_restores_a_part_and_exclude_leaves_one_out(repository, small, target):
    saved = backup(repository, [small], host="h")
    restore(again(repository), saved.snapshot_id, str(target), include=[str(small / "sub")])
    assert sorted(os.listdir(f"{target}{small}")) == ["sub"]
    restore(again(repository), saved.snapshot_id, str(target), include=[str(small)], exclude=["*.log"])
    assert sorted(os.listdir(f"{target}{small}")) == ["a.txt", "sub"]


@pytest.mark.parametrize("patterns", [["*.txt"], ["/**/sub"], ["c.*", "b.log"], ["*", "!*.txt"]])
@pytest.mark.restic
def test_patterns_restore_what_restic_does_and_no_directory_without_it(repository, location, small, target, restic, patterns):
    (small / "nothing here").mkdir()
    saved = backup(repository, [small], host="h")
    restore(again(repository), saved.snapshot_id, str(target / "ours"), include_patterns=patterns)
    restic(location, "restore", "latest", "-t", target / "restic", *[word for one in patterns for word in ("-i", one)])
    assert files_below(target / "ours") == files_below(target / "restic") != []
    assert any((target / "ours").rglob("nothing here")) is (patterns[0] == "*")


def files_below(root):
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "options",
    [
        {"include": ["/not/there"]},
        {"include_patterns": ["*.not-there"]},
        {"include": ["/"], "include_patterns": ["[a"]},
    ],
)
def test_what_is_to_be_included_and_is_not_there_is_an_error_and_makes_nothing(repository, small, target, options):
    backup(repository, [small], host="h")
    with pytest.raises((PathNotFound, InvalidPattern)):
        restore(again(repository), "latest", str(target), **options)
    assert not target.exists() or list(target.iterdir()) == []


def test_a_snapshot_that_is_newer_than_the_index_in_memory_is_restored(repository, small, target):
    backup(repository, [small], host="h")
    long_open = again(repository)
    long_open.load_index()
    (small / "new").write_bytes(b"new")
    backup(again(repository), [small], host="h")
    assert restore(long_open, "latest", str(target)).errors == 0
    assert compare(small, target) == []


def test_a_snapshot_that_is_saved_while_the_index_is_read_is_not_restored_without_it(repository, small, target, monkeypatch):
    backup(repository, [small], host="h")
    (small / "new").write_bytes(b"new")
    opened = again(repository)
    real = Repository.load_index

    def load_index(self):
        real(self)
        if self is opened:
            backup(again(repository), [small], host="h")

    monkeypatch.setattr(Repository, "load_index", load_index)
    assert restore(opened, "latest", str(target)).errors == 0


def test_verify_finds_a_file_that_changed_on_the_disk(repository, small, target, monkeypatch):
    saved = backup(repository, [small], host="h")
    original = restore_module._Restore.verify

    def tampered(run, pieces):
        with open(f"{target}{small}/a.txt", "r+b") as file:
            file.write(b"CONTENT")
        original(run, pieces)

    monkeypatch.setattr(restore_module._Restore, "verify", tampered)
    told = {}
    summary = restore(again(repository), saved.snapshot_id, str(target), verify=True, on_error=told.__setitem__)
    assert told == {os.fsencode(small / "a.txt"): "verifying found other content on the disk"}
    assert (summary.errors, summary.files_verified) == (1, 2)


def test_cancelling_ends_the_restore(repository, small, target):
    saved = backup(repository, [small], host="h")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        restore(again(repository), saved.snapshot_id, str(target), cancel=cancel)


@pytest.fixture
def of_all_sizes(repository, tmp_path):
    """A saved tree of old files: small ones, and one that is restored in pieces, since no pack holds as much."""
    source = tmp_path / "sizes"
    source.mkdir()
    for name, size in (("small", 200_000), ("other", 100), ("large", 26 << 20)):
        (source / name).write_bytes(os.urandom(size))
        os.utime(source / name, ns=(DAY_NS, DAY_NS))
    backup(repository, [source], host="h")
    return source


@pytest.mark.parametrize("mode", ["if-newer", "if-changed", "never"])
def test_files_that_failed_are_restored_by_the_next_try(repository, of_all_sizes, target, monkeypatch, mode):
    with monkeypatch.context() as patch:
        real, asked = pieces._BlobReader.read, []

        def read(self, blob_id):
            asked.append(blob_id)
            if len(asked) % 2:
                raise StoreUnreachable("away")
            return real(self, blob_id)

        patch.setattr(pieces._BlobReader, "read", read)
        assert restore(again(repository), "latest", str(target), overwrite=mode).errors >= 2
    assert restore(again(repository), "latest", str(target), overwrite=mode).errors == 0
    assert compare(of_all_sizes, target) == []


NOBODY = 65534


@pytest.fixture
def shared_directory():
    """A directory that others than root may enter."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def as_nobody(location, target, results):
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    told = []
    for _ in range(2):
        opened = Repository.open(open_store(str(location)), PASSWORD)
        restore(opened, "latest", str(target), verify=True, on_error=lambda *one: told.append(one))
    results.send(told)


@pytest.mark.root
def test_who_is_not_root_restores_all_that_is_his_and_may_do_so_again(location, shared_directory):
    source = shared_directory / "source"
    (source / "read only").mkdir(parents=True)
    for name in ("attributes", "unreadable", "setuid", "read only/file"):
        (source / name).write_bytes(b"content")
    os.setxattr(source / "attributes", "user.kept", b"1")
    for path in (source, *source.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.chown(source / "setuid", 1234, 1234)
    for name, mode in (("attributes", 0o444), ("unreadable", 0), ("setuid", 0o6755), ("read only", 0o555)):
        (source / name).chmod(mode)
    repository = shutil.copytree(location, shared_directory / "repository")
    backup(Repository.open(open_store(str(repository)), PASSWORD), [source], host="h")
    for path in (repository, *repository.rglob("*")):
        path.chmod(0o755)
    ours, theirs = multiprocessing.Pipe()
    target = shared_directory / "target"
    process = multiprocessing.get_context("fork").Process(target=as_nobody, args=(repository, target, theirs))
    process.start()
    process.join()
    assert ours.poll()
    # One file is another's, and the two directories that lead to the source are root's.
    reason = f"metadata: 3 entries belong to user {NOBODY}, who restored them, and not to their owners"
    assert ours.recv() == [(os.fsencode(target), f"{reason}: giving files away takes root or CAP_CHOWN")] * 2
    found = Path(f"{target}{source}")
    assert os.getxattr(found / "attributes", "user.kept") == b"1"
    modes = [stat.S_IMODE((found / name).stat().st_mode) for name in ("attributes", "unreadable", "setuid", "read only")]
    assert modes == [0o444, 0, 0o755, 0o555]


def test_a_cancelled_restore_leaves_no_file_that_is_not_complete(repository, of_all_sizes, target, monkeypatch):
    cancel = threading.Event()
    real = restore_module._Restore.work

    def work(self, *arguments):
        real(self, *arguments)
        cancel.set()

    monkeypatch.setattr(restore_module._Restore, "work", work)
    with pytest.raises(Cancelled):
        restore(again(repository), "latest", str(target), cancel=cancel)
    monkeypatch.undo()
    assert not (target / str(of_all_sizes).lstrip("/") / "large").exists()
    assert restore(again(repository), "latest", str(target), overwrite="if-newer").errors == 0
    assert compare(of_all_sizes, target) == []


def test_a_restore_over_a_restored_tree_changes_nothing(repository, source, target):
    saved = backup(repository, [source], host="h")
    restore(again(repository), saved.snapshot_id, str(target))
    assert restore(again(repository), saved.snapshot_id, str(target)).errors == 0
    assert compare(source, target) == []


def test_a_snapshot_that_is_not_there_and_a_target_that_cannot_be_are_errors(repository, small, tmp_path):
    backup(repository, [small], host="h")
    with pytest.raises(SnapshotNotFound):
        restore(again(repository), "0123456789", str(tmp_path / "target"))
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="cannot be used"):
        restore(again(repository), "latest", str(tmp_path / "file"))
    assert find_snapshot(repository, "latest").paths == (str(small),)
