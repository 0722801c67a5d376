"""How often and for how long something is tried: pauses that grow at random up to a ceiling, a deadline, and a way to end it."""

import multiprocessing
import time
from itertools import pairwise

import pytest

from engine.backends.patience import Patience, Repeater
from engine.errors import AnswerBroken, CertificateRefused, QuotaExceeded, StoreBusy, StoreError, StoreUnreachable

PATIENCE = Patience(first_pause_s=1, longest_pause_s=8, deadline_s=100, first_answer_s=10, broken_answers=3)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.on_sleep = lambda: None

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


@pytest.fixture
def tried(clock):
    """Return a function that does something which always fails; it returns when it was tried, in seconds from the first try."""

    def tried(repeat, error=StoreBusy):
        begun, times = clock.now, []

        def fail():
            times.append(clock.now - begun)
            raise error("no")

        with pytest.raises(error, match="no"):
            repeat(fail)
        return times

    return tried


def answering(patience=PATIENCE):
    repeat = Repeater(patience)
    assert repeat(lambda: "done") == "done"
    return repeat


@pytest.mark.parametrize("error", [StoreBusy, StoreUnreachable])
def test_a_store_that_has_answered_is_waited_for_until_the_deadline(tried, error):
    times = tried(answering(), error)
    assert 100 - PATIENCE.longest_pause_s <= times[-1] <= 100


def test_pauses_are_random_and_their_bound_doubles_up_to_the_ceiling(tried):
    pauses = [
        [later - earlier for earlier, later in pairwise(times)]
        for times in (tried(answering(Patience(first_pause_s=1, longest_pause_s=8, deadline_s=3000))) for _ in range(5))
    ]
    for bound, *of_each_run in zip((1, 2, 4, 8, 8, 8, 8), *pauses, strict=False):
        assert max(of_each_run) <= bound + 1e-6
        assert len(set(of_each_run)) == len(of_each_run)
    assert max(max(run) for run in pauses) > 6


def test_an_address_where_nothing_has_ever_answered_is_given_up_on_early(tried):
    assert tried(Repeater(PATIENCE), StoreUnreachable)[-1] <= 10


def test_after_the_deadline_the_store_is_not_waited_for_so_long_again_until_it_answers(tried):
    repeat = answering()
    tried(repeat)
    assert tried(repeat)[-1] <= 10
    repeat(lambda: None)
    assert tried(repeat)[-1] > 10


def test_a_refusal_is_an_answer(tried):
    repeat = Repeater(PATIENCE)
    tried(repeat, QuotaExceeded)
    assert tried(repeat)[-1] > 10


@pytest.mark.parametrize("error", [QuotaExceeded, StoreError, CertificateRefused, ValueError])
def test_what_will_not_pass_is_tried_once(tried, error):
    assert tried(answering(), error) == [0]


def test_answers_that_break_off_are_counted(tried):
    assert len(tried(answering(), AnswerBroken)) == 3


def test_what_succeeds_in_the_end_has_succeeded(clock):
    errors = [StoreBusy("no"), StoreUnreachable("no")]

    def act():
        if errors:
            raise errors.pop()
        return "done"

    assert Repeater(PATIENCE)(act) == "done"


def test_every_failure_that_is_waited_out_is_told(clock, caplog):
    errors = [StoreBusy("the store is busy")]
    Repeater(PATIENCE)(lambda: [] if not errors else (_ for _ in ()).throw(errors.pop()))
    assert "the store is busy; trying again in" in caplog.text


def test_in_a_hurry_a_pause_ends_and_nothing_is_repeated(tried, clock):
    repeat = answering()
    clock.on_sleep = repeat.hurry
    assert len(tried(repeat)) == 2
    assert tried(repeat) == [0]


def test_a_hurry_reaches_the_processes_that_were_forked():
    repeat = answering(Patience(first_pause_s=3600, longest_pause_s=3600, deadline_s=1e6))
    context = multiprocessing.get_context("fork")
    trying = context.Semaphore(0)

    def fail():
        trying.release()
        raise StoreBusy("no")

    process = context.Process(target=repeat, args=(fail,))
    process.start()
    assert trying.acquire(timeout=30)
    repeat.hurry()
    process.join(30)
    try:
        assert process.exitcode == 1
    finally:
        process.kill()
