"""Processes are forked when no thread can leave them a lock that nobody will ever open."""

import threading

from engine import lifeline


def test_a_fork_waits_for_the_threads_that_are_on_their_way_out(monkeypatch):
    counts = iter([3, 2, 1])
    monkeypatch.setattr(lifeline.os, "listdir", lambda path: [str(number) for number in range(next(counts))])
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    lifeline.await_ended_threads()
    assert list(counts) == []


def test_a_fork_does_not_wait_forever_for_a_thread_that_python_does_not_know(monkeypatch):
    monkeypatch.setattr(lifeline, "_GOING_S", 0.0)
    monkeypatch.setattr(lifeline.os, "listdir", lambda path: ["1", "2"])
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    lifeline.await_ended_threads()


def test_threads_that_run_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(lifeline, "_GOING_S", 3600.0)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    lifeline.await_ended_threads()
    ended.set()
    thread.join()
