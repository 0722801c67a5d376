"""Streams as sources: what a command writes becomes a file of the snapshot, whole or not at all."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.archiver.large import BUFFER_SIZE, BUFFERS
from engine.archiver.streams import InvalidStream, Stream, StreamFailed
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.dump import dump_file
from engine.commands.ls import walk
from engine.commands.snapshots import list_snapshots
from engine.errors import Cancelled
from tests.engine.conftest import PASSWORD


def printing(text, status=0):
    return sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.stdout.flush(); sys.exit({status})"


def snapshot_of(repository):
    (snapshot,) = list_snapshots(repository)
    return snapshot


def content(repository, snapshot, path):
    return b"".join(dump_file(repository, snapshot, path))


@pytest.mark.restic
def test_restic_reads_what_a_command_wrote_beside_the_files(repository, location, source, tmp_path, restic):
    dump = random.Random(1).randbytes(3 * BUFFER_SIZE + 12345)
    (tmp_path / "dump").write_bytes(dump)
    streams = [
        Stream(b"/dumps/shop/db.sql", ("cat", str(tmp_path / "dump"))),
        Stream(b"/dumps/empty", ("true",)),
    ]
    summary = backup(repository, [source], host="box", streams=streams)
    assert summary.errors == 0
    assert snapshot_of(repository).paths == (str(source), "/dumps/shop/db.sql", "/dumps/empty")
    restic(location, "check", "--read-data")
    target = tmp_path / "target"
    restic(location, "restore", "latest", "--target", target)
    assert (target / "dumps/shop/db.sql").read_bytes() == dump
    assert (target / "dumps/shop/db.sql").stat().st_mode & 0o777 == 0o600
    assert (target / "dumps/empty").read_bytes() == b""
    assert (target / str(source)[1:]).is_dir()


def test_a_second_dump_of_the_same_stores_nothing_twice(repository, tmp_path):
    (tmp_path / "dump").write_bytes(random.Random(2).randbytes(5 << 20))
    streams = [Stream(b"/db.sql", ("cat", str(tmp_path / "dump")))]
    first = backup(repository, [], host="box", streams=streams)
    second = backup(repository, [], host="box", streams=streams)
    assert (first.files_new, second.files_changed) == (1, 1)
    assert first.bytes_added > 5 << 20
    assert second.bytes_added < 1000  # trees


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (printing("half of the ", status=3), "ended with exit status 3"),
        ((sys.executable, "-c", "import os; print('x', flush=True); os.kill(os.getpid(), 9)"), "was ended by signal 9"),
        (("/nowhere/pg_dump", "shop"), "exit status 127: /nowhere/pg_dump: No such file or directory"),
        ((sys.executable, "-c", "import sys; sys.exit('connection refused')"), "exit status 1: connection refused"),
    ],
)
def test_a_command_that_fails_leaves_no_snapshot_and_says_why(repository, location, source, command, reason):
    with pytest.raises(StreamFailed, match=reason) as raised:
        backup(repository, [source], host="box", streams=[Stream(b"/ok", printing("ok")), Stream(b"/db.sql", command)])
    assert "/db.sql" in str(raised.value)
    assert list((location / "snapshots").iterdir()) == []


def test_what_a_failed_backup_has_stored_is_not_stored_again(repository, location, tmp_path):
    (tmp_path / "dump").write_bytes(random.Random(3).randbytes(40 << 20))
    command = ("sh", "-c", f"cat {tmp_path}/dump; exit 3")
    with pytest.raises(StreamFailed):
        backup(repository, [], host="box", streams=[Stream(b"/db.sql", command)])
    assert list((location / "index").iterdir()) != []
    summary = backup(repository, [], host="box", streams=[Stream(b"/db.sql", ("cat", str(tmp_path / "dump")))])
    assert summary.bytes_added < 30 << 20
    assert check(repository).problems == []


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(repository, location, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Read and write, so that opening waits for nobody. What the command starts holds the other end as long as it lives.
    pipe = os.open(fifo, os.O_RDWR)
    command = ("sh", "-c", f"sleep 1000 3>{fifo} & echo x; wait")
    with pytest.raises(StreamFailed, match=r"longer than 0\.5 s"):
        backup(repository, [], host="box", streams=[Stream(b"/db.sql", command, timeout_s=0.5)])
    assert list((location / "snapshots").iterdir()) == []
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.close(pipe)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_cancelled_backup_ends_its_command(repository, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = (sys.executable, "-c", f"import time; open({str(fifo)!r}, 'w').close(); time.sleep(1000)")
    cancel = threading.Event()

    def cancel_when_it_runs() -> None:
        fifo.read_text()
        cancel.set()

    waiting = threading.Thread(target=cancel_when_it_runs)
    waiting.start()
    ended = []
    streams = [Stream(b"/db.sql", command, on_ended=lambda *how: ended.append(how))]
    with pytest.raises(Cancelled):
        backup(repository, [], host="box", streams=streams, cancel=cancel)
    waiting.join()
    assert ended[0][0] == -15


def test_streams_need_no_more_memory_than_their_buffers(location, tmp_path):
    """Many times the buffers go through a process that may not grow by more than the buffers and the packs on their way."""
    script = f"""
import resource, sys
from engine.archiver.streams import Stream
from engine.backends import open_store
from engine.commands.backup import backup
from engine.repository import Repository
repository = Repository.open(open_store({str(location)!r}), {PASSWORD!r})
def run(megabytes):
    command = ("head", "-c", str(megabytes << 20), "/dev/zero")
    backup(repository, [], host="box", streams=[Stream(b"/zeros", command)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
small, large = run(64), run(1024)
print(large - small)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < BUFFERS * BUFFER_SIZE


def test_a_stream_lies_among_the_entries_of_a_directory_that_is_backed_up(repository, tmp_path):
    root = tmp_path / "root"
    (root / "above" / "sub").mkdir(parents=True)
    for name in ("above/a", "above/z", "above/sub/file", "above/db.sql", "other"):
        (root / name).write_text(name)
    inside = os.fsencode(root / "above")
    streams = [Stream(inside + b"/db.sql", printing("dump")), Stream(inside + b"/new/deep.sql", printing("deep"))]
    for _ in range(2):
        summary = backup(repository, [root], host="box", excludes=["z"], streams=streams)
        assert summary.errors == 0
    snapshot = max(list_snapshots(repository), key=lambda each: each.time)
    paths = {path.removeprefix(os.fsencode(root)) for path, _ in walk(repository, snapshot, os.fsencode(root))}
    assert {b"/above/a", b"/above/sub/file", b"/above/db.sql", b"/above/new/deep.sql", b"/other"} <= paths
    assert b"/above/z" not in paths
    assert content(repository, snapshot, inside + b"/db.sql") == b"dump"
    assert content(repository, snapshot, inside + b"/a") == b"above/a"


def test_a_stream_takes_no_directorys_place_and_no_other_streams(repository, location, tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "file").write_text("x")
    root = os.fsencode(tmp_path / "root")
    for paths, wrong in (
        ([root], [root + b"/sub"]),
        ([root], [root + b"/file/db.sql"]),
        ([], [b"/a", b"/a"]),
        ([], [b"/a", b"/a/b"]),
        ([], [b"/a/b", b"/a"]),
        ([], [b"relative"]),
        ([], [b"/a/../b"]),
        ([], [b"/"]),
    ):
        with pytest.raises(InvalidStream):
            backup(repository, paths, host="box", streams=[Stream(path, printing("x")) for path in wrong])
    assert list((location / "snapshots").iterdir()) == []


def test_the_command_line_takes_standard_input_and_a_commands_output(engine, location, tmp_path):
    status, out, _ = engine("backup", "--json", "--stdin-from-command", "--stdin-filename", "db.sql", "--", *printing("dump"))
    assert status == 0
    assert json.loads(out.splitlines()[-1])["files_new"] == 1
    assert engine("dump", "latest", "/db.sql")[:2] == (0, b"dump")
    status, _, err = engine("backup", "--stdin-from-command", "--", "sh", "-c", "echo half; exit 1")
    assert (status, b"for /stdin ended with exit status 1" in err) == (1, True)
    assert len(list((location / "snapshots").iterdir())) == 1
    piped = subprocess.run(
        [sys.executable, "-m", "engine", "backup", "--stdin", "--stdin-filename", "a/b.txt"],
        input=b"piped", capture_output=True, env=os.environ, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert piped.returncode == 0
    assert engine("dump", "latest", "/a/b.txt")[:2] == (0, b"piped")
    for words in ((), ("--stdin-from-command",), ("--stdin", "/etc"), ("--stdin", "--stdin-from-command", "--", "true")):
        assert engine("backup", *words)[0] == 2


def test_a_killed_engine_takes_its_command_along(location, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The command holds the pipe open as long as it lives.
    command = [sys.executable, "-c", f"import os, time; f = open({str(fifo)!r}, 'w'); f.write('x'); f.flush(); time.sleep(1000)"]
    starting = [sys.executable, "-m", "engine", "-r", location, "backup", "--stdin-from-command", "--", *command]
    running = subprocess.Popen(starting, env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, cwd=Path(__file__).parents[2])
    with fifo.open() as pipe:
        assert pipe.read(1) == "x"
        running.kill()
        running.wait()
        assert pipe.read() == ""
