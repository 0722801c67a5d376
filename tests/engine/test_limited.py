"""Limits of bandwidth: so many bytes a second, over all threads and processes, and every byte arrives. No clock runs here."""

import multiprocessing
import os
import signal
import threading

import pytest

from engine.backends import Credentials, open_store
from engine.backends.limited import BURST_S, STEP_BYTES, Bandwidth, LimitedStore, Limits
from engine.cli.main import parse_arguments
from engine.cli.run import Run
from engine.commands.backup import backup
from engine.errors import StoreUnreachable
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.faulty_store import MemoryStore
from tests.services.s3 import Fault, object_store

NAME = "ab" + "0" * 62


class Clock:
    """Time that passes only while somebody sleeps; `slept`: each sleep, in seconds."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def bandwidth(clock, bytes_s):
    return Bandwidth(bytes_s, clock=clock.time, sleep=clock.sleep)


def standing(bytes_s):
    """A bandwidth in a time that stands still, and what it would have had its callers sleep at the longest so far."""
    longest = []
    return Bandwidth(bytes_s, clock=lambda: 1000.0, sleep=longest.append), longest


@pytest.mark.parametrize("bytes_s", [1, 1000, 1 << 20, 1 << 30])
@pytest.mark.parametrize("count", [1, 5000, 300_000])
def test_bytes_take_their_time_but_for_a_burst(clock, bytes_s, count):
    if count / bytes_s > 10_000:
        count = 100
    bandwidth(clock, bytes_s).take(count)
    assert clock.now - 1000 == pytest.approx(max(0.0, count / bytes_s - BURST_S), abs=1e-6)


def test_time_that_passed_unused_allows_no_more_than_a_burst(clock):
    limit = bandwidth(clock, 1000)
    limit.take(1000)
    clock.now += 3600
    begun = clock.now
    limit.take(1000)
    assert clock.now - begun == pytest.approx(1 - BURST_S)


def test_nothing_takes_no_time(clock):
    bandwidth(clock, 1).take(0)
    assert clock.slept == []


@pytest.mark.parametrize("bytes_s", [1, 100_000, 1 << 30])
def test_much_is_taken_in_steps_so_that_others_get_their_turn(clock, bytes_s):
    limit = bandwidth(clock, bytes_s)
    assert 1 <= limit.step <= STEP_BYTES
    data = os.urandom(min(10 * limit.step, 500_000))
    pieces = list(limit.paced(data))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= limit.step
    assert max(clock.slept, default=0) <= max(BURST_S, 1 / bytes_s) + 1e-6


def test_threads_share_what_there_is():
    limit, slept = standing(100_000)
    threads = [threading.Thread(target=limit.take, args=(50_000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(slept) == pytest.approx(4 - BURST_S)


def test_forked_processes_share_what_there_is():
    limit, slept = standing(100_000)
    processes = [multiprocessing.get_context("fork").Process(target=limit.take, args=(50_000,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    limit.take(25_000)
    assert slept[-1] == pytest.approx(2.25 - BURST_S)


def test_a_process_that_dies_with_the_lock_in_its_hand_stops_nobody(clock, monkeypatch):
    monkeypatch.setattr("engine.backends.limited.LOCK_TIMEOUT_S", 0.01)
    limit = bandwidth(clock, 1000)

    def die():
        limit._clock = lambda: os.kill(os.getpid(), signal.SIGKILL)
        limit.take(1)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    limit.take(1000)
    assert clock.now - 1000 == pytest.approx(1 - BURST_S)


def test_what_is_lifted_holds_nothing_back_in_other_processes_neither(clock):
    limit = bandwidth(clock, 1)
    process = multiprocessing.get_context("fork").Process(target=limit.lift)
    process.start()
    process.join()
    limit.take(1_000_000)
    assert clock.slept == []


def test_any_store_passes_everything_within_the_limit_of_its_direction(clock):
    up, down = Clock(), Clock()
    store = LimitedStore(MemoryStore({}), Limits(bandwidth(up, 1000), bandwidth(down, 500)))
    store.put(FileKind.DATA, NAME, bytes(5000))
    assert (up.now, down.now) == (pytest.approx(1005 - BURST_S), 1000)
    assert store.get(FileKind.DATA, NAME) == bytes(5000)
    assert down.now == pytest.approx(1010 - BURST_S)
    assert store.reopened().get_range(FileKind.DATA, NAME, 0, 1000) == bytes(1000)
    assert down.now == pytest.approx(1012 - BURST_S)
    upload = store.begin_pack()
    upload.write(bytes(2000))
    upload.write(bytes(1000))
    upload.finish(NAME)
    assert up.now == pytest.approx(1008 - BURST_S)
    store.hurry()
    store.put(FileKind.DATA, NAME, bytes(5_000_000))
    assert (up.now, down.now) == (pytest.approx(1008 - BURST_S), pytest.approx(1012 - BURST_S))


def test_one_direction_may_be_limited_alone(clock):
    store = LimitedStore(MemoryStore({}), Limits(download=bandwidth(clock, 1000)))
    store.put(FileKind.DATA, NAME, bytes(5000))
    assert clock.slept == []


@pytest.fixture
def s3():
    with object_store() as server:
        server.buckets = {"bucket": {}}
        yield server


def limited(s3, limits):
    store = open_store(f"s3:{s3.url}/bucket", credentials=Credentials("key", "secret"), limit_upload=1, limit_download=1)
    store._limits = limits
    return store.reopened()


def test_an_object_store_is_sent_and_sends_its_bytes_little_by_little(s3):
    up, down = Clock(), Clock()
    store = limited(s3, Limits(bandwidth(up, 100_000), bandwidth(down, 50_000)))
    content = os.urandom(1_000_000)
    store.put(FileKind.DATA, NAME, bytearray(content))
    assert s3.buckets["bucket"][f"data/ab/{NAME}"] == content
    assert up.now - 1000 == pytest.approx(10 - BURST_S)
    assert len(up.slept) == 39
    assert store.get(FileKind.DATA, NAME) == content
    assert down.now - 1000 == pytest.approx(20 - BURST_S)
    assert len(down.slept) == 79
    assert s3.connections == 1


def test_a_pack_that_could_not_be_sent_whole_can_be_abandoned(s3):
    store = limited(s3, Limits(upload=bandwidth(Clock(), 100_000)))
    store.hurry()
    upload = store.begin_pack()
    upload.write(bytes(1_000_000))
    s3.begin(Fault.RESET)
    with pytest.raises(StoreUnreachable) as raised:
        upload.finish(NAME)
    upload.abandon()
    assert raised.value.__cause__ is not None
    assert s3.buckets["bucket"] == {}


def test_what_is_sent_again_counts_again(s3):
    up = Clock()
    store = limited(s3, Limits(upload=bandwidth(up, 100_000)))
    store._repeat._pause = lambda seconds: None
    s3.begin(Fault.BUSY)
    store.put(FileKind.DATA, NAME, bytes(100_000))
    assert up.now - 1000 == pytest.approx(2 - BURST_S)


def test_the_workers_of_a_backup_share_the_limit(location, tmp_path):
    (tmp_path / "source").mkdir()
    for number in range(50):
        (tmp_path / "source" / str(number)).write_bytes(os.urandom(10_000))
    limit, slept = standing(100_000)
    repository = Repository.open(LimitedStore(open_store(str(location)), Limits(upload=limit)), PASSWORD)
    summary = backup(repository, [tmp_path / "source"], host="h")
    limit.take(1)
    assert summary.bytes_stored > 500_000
    assert slept[-1] > summary.bytes_stored / 100_000 - BURST_S


@pytest.mark.parametrize("words", [["--limit-upload", "100", "snapshots"], ["snapshots", "--limit-upload=100"]])
def test_the_command_line_takes_restics_options_in_kib(words, location, s3):
    for address in (str(location), f"s3:{s3.url}/bucket"):
        store = Run(parse_arguments(["-r", address, *words])).store()
        assert store._limits.upload._bytes_s == 100 * 1024
        assert store._limits.download is None


@pytest.mark.parametrize("rate", ["-1", "fast", "1.5"])
def test_a_limit_that_is_no_number_is_refused(rate, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["snapshots", "--limit-download", rate])
    assert ended.value.code == 2
    assert "KiB" in capsys.readouterr().err or rate == "-1"


def test_without_limits_a_store_is_itself(location):
    assert not isinstance(open_store(str(location)), LimitedStore)
