"""The course of an attempt: phases, a curve that never grows past its bound, the latest lines, and when it is worth telling."""

from itertools import pairwise

import pytest

from agent import course as agent_course
from agent.course import LINES, SAMPLES, Course
from agent.hooks import command_record


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock's hand, which the test moves."""
    hand = [100.0]
    monkeypatch.setattr(agent_course.time, "monotonic", lambda: hand[0])
    return hand


def test_the_curve_of_a_long_run_is_thinned_and_keeps_its_beginning_and_end(clock) -> None:
    course = Course()
    for second in range(100_000):
        clock[0] = 100.0 + second
        course.follow({"phase": "backup", "bytes_done": second * 10, "bytes_added": second, "files_done": 1})
        assert len(course.tell()["samples"]) < SAMPLES
    samples = course.tell()["samples"]
    assert len(samples) >= SAMPLES / 2 - 1
    gaps = {round(later[0] - earlier[0]) for earlier, later in pairwise(samples)}
    assert max(gaps) <= 2 * min(gaps)
    assert samples[0][0] < 100_000 / SAMPLES * 4
    assert samples[-1][0] > 100_000 * (1 - 4 / SAMPLES)
    assert all(read == at * 10 and stored == at for at, read, stored, _files in samples)


def test_phases_begin_when_another_ends(clock) -> None:
    course = Course()
    course.enter("opening the repository")
    clock[0] += 2
    course.follow({"phase": "backup"})
    course.follow({"phase": "backup"})
    clock[0] += 3
    course.enter("commands after")
    assert course.tell()["phases"] == [("opening the repository", 0.0), ("backup", 2.0), ("commands after", 5.0)]


def test_the_latest_lines_are_kept_and_the_others_counted(clock) -> None:
    course = Course()
    for number in range(LINES + 7):
        course.say("warning", f"line {number} " + "x" * 1000)
    told = course.tell()
    assert len(told["log"]) == LINES
    assert told["log_left_out"] == 7
    assert told["log"][-1][2].startswith(f"line {LINES + 6} ")
    assert max(len(text) for _at, _level, text in told["log"]) < 400


def test_what_was_told_is_told_again_only_with_something_new(clock) -> None:
    course = Course()
    course.enter("backup")
    assert course.is_worth_telling
    course.note_told(course.tell())
    assert not course.is_worth_telling
    tellings = 0
    for second in range(20_000):
        clock[0] += 1
        course.follow({"phase": "backup", "bytes_done": second})
        if course.is_worth_telling:
            tellings += 1
            course.note_told(course.tell())
    assert tellings < 150, "of 20,000 reports hardly any carries the course"
    course.say("info", "news")
    assert course.is_worth_telling


def test_a_command_is_told_with_the_last_line_it_wrote(clock) -> None:
    course = Course()
    course.say_command(command_record("before", "dump", 0, 1.0, "first\nlast\n"))
    course.say_command(command_record("after", "mount", 1, 1.0, "", "ended with status 1"))
    assert [line[1:] for line in course.tell()["log"]] == [
        ("info", "dump (before): done – last"), ("warning", "mount (after): ended with status 1"),
    ]  # fmt: skip
