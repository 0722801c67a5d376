"""Locks that nobody can hold are removed on request, those that are held only on an explicit one."""

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from engine.commands.unlock import unlock
from engine.errors import DataDamaged
from engine.gotime import format_time
from engine.store import FileKind
from tests.engine.conftest import PASSWORD
from tests.engine.test_locks import ended_pid, names, write_lock


def test_stale_locks_go_and_those_that_may_be_held_stay_and_are_told(repository):
    write_lock(repository, time=format_time(datetime.now(UTC) - timedelta(minutes=31)))
    write_lock(repository, exclusive=True, hostname=platform.node(), pid=ended_pid())
    held = {write_lock(repository), write_lock(repository, hostname=platform.node(), pid=os.getpid())}
    unlocked = unlock(repository)
    assert (unlocked.removed, names(repository)) == (2, held)
    assert sorted((holder.hostname, holder.pid) for holder in unlocked.left) == sorted(
        [("elsewhere", 7), (platform.node(), os.getpid())]
    )


def test_all_locks_go_on_request_even_held_and_damaged_ones(repository):
    write_lock(repository)
    repository.store.put(FileKind.LOCKS, "0" * 64, b"damaged")
    with pytest.raises(DataDamaged, match="only removing all locks removes it"):
        unlock(repository)
    assert len(names(repository)) == 2
    unlocked = unlock(repository, remove_all=True)
    assert (unlocked.removed, unlocked.left, names(repository)) == (2, [], set())


def test_the_command_says_what_it_removed_and_left(engine, repository):
    write_lock(repository, time=format_time(datetime.now(UTC) - timedelta(minutes=31)))
    write_lock(repository)
    status, out, err = engine("unlock")
    removed, left = out.decode().splitlines()
    assert (status, removed, err) == (0, "removed 1 locks", b"")
    assert left.startswith("left a lock of u@elsewhere (process 7, since ")
    status, out, _ = engine("unlock", "--remove-all", "--json")
    assert (status, json.loads(out)) == (0, {"message_type": "summary", "locks_removed": 1, "locks_left": []})
    assert names(repository) == set()


@pytest.mark.restic
def test_a_lock_of_restic_stays_while_it_runs_and_goes_when_it_was_killed(repository, location):
    command = ["restic", "--no-cache", "-r", str(location), "backup", "--stdin"]
    environment = os.environ | {"RESTIC_PASSWORD": PASSWORD}
    running = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not names(repository):
            assert time.monotonic() < deadline
            assert running.poll() is None
        (holder,) = unlock(repository).left
        assert (holder.pid, len(names(repository))) == (running.pid, 1)
    finally:
        running.kill()
        running.communicate()
    assert (unlock(repository).removed, names(repository)) == (1, set())
