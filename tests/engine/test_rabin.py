"""With restic's chunker, neither restic nor we store what the other has; without numba it is refused, and nobody else needs it."""

import hashlib
import json
import os
import random
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy
import pytest

from engine import rabin
from engine.backends import open_store
from engine.chunker import MAX_SIZE, MIN_SIZE
from engine.commands.backup import backup
from engine.errors import DataDamaged
from engine.polynomial import modulo
from engine.rabin import BOUNDARY, STRIDE, WINDOW, ChunkerUnavailable, RabinChunker, find_end, tables
from engine.repository import Repository
from engine.snapshot import find_snapshot, iter_snapshots
from engine.store import FileKind

PASSWORD = "secret"
VECTORS = json.loads((Path(__file__).parent / "data" / "rabin-vectors.json").read_text())
POLYNOMIAL = VECTORS["polynomial"]
CONTENT = random.Random(1).randbytes(20 << 20) + bytes(2 << 20)


def go_random_stream(first_numbers, size):
    """The bytes that Go's math/rand, seeded with 23, gives by the 32 upper bits of 63.

    It is an additive lagged Fibonacci generator: its first 607 numbers make all others.
    """
    numbers = numpy.zeros(size // 4, numpy.uint64)
    numbers[:607] = first_numbers
    for at in range(607, len(numbers), 273):
        count = len(numbers[at : at + 273])
        sums = numbers[at - 607 : at - 607 + count] + numbers[at - 273 : at - 273 + count]
        numbers[at : at + count] = sums & numpy.uint64((1 << 63) - 1)
    return (numbers >> numpy.uint64(31)).astype("<u4").tobytes()


def test_the_vectors_of_restics_chunker_pass():
    """The lengths that github.com/restic/chunker cuts of the stream with which it is itself tested."""
    stream = go_random_stream(VECTORS["stream"], 32 << 20)
    assert hashlib.sha256(stream).hexdigest() == VECTORS["sha256"]
    assert RabinChunker(POLYNOMIAL).cut(stream, True) == VECTORS["lengths"]


def test_zeros_become_chunks_of_the_smallest_size():
    assert RabinChunker(POLYNOMIAL).cut(bytes(4 * MIN_SIZE), True) == [MIN_SIZE] * 4


def test_what_has_no_boundary_becomes_chunks_of_the_largest_size():
    ones = b"\x01" * (2 * MAX_SIZE + 5)
    assert RabinChunker(POLYNOMIAL).cut(ones, True) == [MAX_SIZE, MAX_SIZE, 5]
    assert RabinChunker(POLYNOMIAL).cut(ones[:MAX_SIZE], False) == [MAX_SIZE]


@pytest.mark.parametrize("window", [MAX_SIZE, MAX_SIZE + 12345, 11 << 20])
def test_chunks_cover_the_content_however_it_is_read(window):
    cut = RabinChunker(POLYNOMIAL).cut
    whole = cut(CONTENT, True)
    assert sum(whole) == len(CONTENT)
    assert len(whole) > 8
    assert all(MIN_SIZE <= length <= MAX_SIZE for length in whole[:-1])
    lengths, at = [], 0
    while at < len(CONTENT):
        found = cut(memoryview(bytearray(CONTENT[at : at + window])), at + window >= len(CONTENT))
        lengths += found
        at += sum(found)
    assert lengths == whole


@pytest.mark.parametrize(
    ("size", "is_last", "lengths"), [(0, True, []), (5, True, [5]), (5, False, []), (MIN_SIZE, True, [MIN_SIZE])]
)
def test_little_content_is_one_chunk_once_it_is_all(size, is_last, lengths):
    assert RabinChunker(POLYNOMIAL).cut(bytes(size), is_last) == lengths


FIRST, LAST = 1000, 1000 + 3 * STRIDE + 100


@pytest.mark.parametrize(
    "places",
    [
        (FIRST,),
        (FIRST + 1,),
        (FIRST + STRIDE - 1,),
        (FIRST + STRIDE,),
        (FIRST + 2 * STRIDE,),
        (LAST - 1,),
        (LAST,),
        (FIRST + STRIDE - 100, FIRST + STRIDE + 50),
        (FIRST + 500, FIRST + STRIDE + 100),
        (FIRST + 2 * STRIDE - 200, FIRST + STRIDE + 100),
    ],
)
def test_a_chunk_ends_at_the_first_window_whose_fingerprint_ends_in_zeros(places):
    content = bytearray(b"\x01" * (LAST + 1000))
    for place in places:
        content[place - WINDOW : place] = bytes(WINDOW)

    def is_boundary(end):
        return modulo(int.from_bytes(content[end - WINDOW : end]), int(POLYNOMIAL, 16)) & BOUNDARY == 0

    assert [end for end in range(min(places) - WINDOW, min(places) + 1) if is_boundary(end)] == [min(places)]
    found = find_end(memoryview(content), FIRST, LAST, *map(memoryview, tables(int(POLYNOMIAL, 16))))
    assert found == min(places)


def test_a_boundary_outside_is_not_seen():
    content = bytearray(b"\x01" * (LAST + 1000))
    for place in (FIRST - 1, LAST + 1):
        content[place - WINDOW : place] = bytes(WINDOW)
    found = find_end(memoryview(content), FIRST, LAST, *map(memoryview, tables(int(POLYNOMIAL, 16))))
    assert found == LAST


@pytest.mark.parametrize("polynomial", ["", "zz", "3da3358b4dc172", "11", "-3da3358b4dc173"])
def test_a_polynomial_that_restic_would_refuse_is_refused(polynomial):
    with pytest.raises(DataDamaged, match="polynomial"):
        RabinChunker(polynomial)


def write_files(root):
    """Files of every size that matters, and of content that is easy and hard to cut."""
    some = random.Random(2)
    root.mkdir()
    (root / "random").write_bytes(some.randbytes(21 << 20))
    (root / "text").write_bytes(b"".join(b"%d line of a log\n" % some.getrandbits(40) for _ in range(200_000)))
    (root / "zeros").write_bytes(bytes(5_000_000))
    (root / "no boundary").write_bytes(b"\x01" * (MAX_SIZE + 777))
    for size in (1, MIN_SIZE - 1, MIN_SIZE, MIN_SIZE + 1, MAX_SIZE, MAX_SIZE + 1):
        (root / str(size)).write_bytes(some.randbytes(size))
    return root


def data_blobs(location, snapshot_id):
    repository = Repository.open(open_store(str(location)), PASSWORD)
    return find_snapshot(repository, snapshot_id).summary.data_blobs


@pytest.mark.restic
def test_what_restic_has_stored_is_not_stored_again(engine, restic, tmp_path, monkeypatch):
    location, source = tmp_path / "theirs", write_files(tmp_path / "files")
    monkeypatch.setenv("RESTIC_REPOSITORY", str(location))
    restic(location, "init")
    restic(location, "backup", source)
    for chunker, is_stored in (("rabin", False), ("fastcdc", True)):
        status, out, _ = engine("backup", "--json", "--force", "--chunker", chunker, source)
        assert status == 0
        assert (data_blobs(location, json.loads(out.splitlines()[-1])["snapshot_id"]) > 0) == is_stored


@pytest.mark.restic
def test_what_we_have_stored_restic_does_not_store_again(repository, location, restic, tmp_path):
    source = write_files(tmp_path / "files")
    backup(repository, [source], host="h", chunker="rabin")
    summary = json.loads(restic(location, "backup", "--json", "--force", source).splitlines()[-1])
    assert summary["files_new"] == 10
    assert summary["data_blobs"] == 0
    restic(location, "check", "--read-data")


def test_without_numba_the_chunker_is_refused_before_anything_is_written(engine, location, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    status, _, err = engine("backup", "--chunker", "rabin", source)
    assert status == 1
    assert err == b"engine: restic's chunk boundaries need numba: pip install -r requirements-rabin.txt\n"
    store = open_store(str(location))
    assert not [name for kind in (FileKind.DATA, FileKind.LOCKS, FileKind.SNAPSHOTS) for name in store.list(kind)]
    assert engine("backup", source)[0] == 0


def test_a_numba_that_does_not_work_ends_the_backup_with_a_sentence(repository, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(rabin, "_search", None)
    monkeypatch.setattr(rabin.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(ChunkerUnavailable, match="does not work"):
        backup(repository, [source], host="h", chunker="rabin")
    assert not list(iter_snapshots(repository))


def test_only_a_large_file_that_is_read_loads_numba(location, tmp_path):
    """Its import would take longer than a whole run in which nothing has changed."""
    (tmp_path / "small").write_bytes(b"x" * MIN_SIZE)
    (tmp_path / "large").write_bytes(bytes(MIN_SIZE + 1))
    script = """
import sys
from engine.backends import open_store
from engine.commands.backup import backup
from engine.repository import Repository

location, small, large = sys.argv[1:]
repository = Repository.open(open_store(location), "secret")
for path, chunker in ((large, "fastcdc"), (small, "rabin"), (large, "rabin")):
    backup(repository, [path], host="h", parent=None, chunker=chunker)
    print({"numba", "numpy"} & sys.modules.keys() != set())
"""
    paths = [location, tmp_path / "small", tmp_path / "large"]
    done = subprocess.run([sys.executable, "-c", script, *paths], env=os.environ, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr
