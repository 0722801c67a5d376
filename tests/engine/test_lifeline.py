"""Processes are forked when no thread can leave them a lock that nobody will ever open."""

import _thread
import threading

import pytest

from engine import lifeline


@pytest.fixture
def gate():
    """What a thread waits at. The threads that the tests' own process may have are known to be none that go."""
    lifeline.await_ended_threads()
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_fork_waits_for_the_threads_that_are_on_their_way_out(monkeypatch):
    going = iter([{1, 2}, {1}, set()])
    monkeypatch.setattr(lifeline, "_unknown_threads", lambda: next(going))
    lifeline.await_ended_threads()
    assert list(going) == []


def test_a_fork_does_not_wait_forever_for_a_thread_that_python_does_not_know_and_the_next_not_at_all(gate, monkeypatch):
    monkeypatch.setattr(lifeline, "_GOING_S", 0.0)
    _thread.start_new_thread(gate.wait, ())
    lifeline.await_ended_threads()
    monkeypatch.setattr(lifeline, "_GOING_S", 3600.0)
    lifeline.await_ended_threads()


def test_threads_that_run_are_not_waited_for(gate, monkeypatch):
    monkeypatch.setattr(lifeline, "_GOING_S", 3600.0)
    thread = threading.Thread(target=gate.wait)
    thread.start()
    lifeline.await_ended_threads()
    gate.set()
    thread.join()
