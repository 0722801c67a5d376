"""Schedules in words are Quartz expressions, and these are found again in words."""

from datetime import time

import pytest

from jobs.quartz import QuartzExpression
from jobs.repeating import HOURS, MINUTES, Repeat, Schedule, schedule_of

WORDS = {
    "0 30 22 * * ?": Schedule(Repeat.DAILY, time(22, 30)),
    "0 0 3 ? * SUN,FRI": Schedule(Repeat.WEEKLY, time(3), ["FRI", "SUN"]),
    "0 5 0 31 * ?": Schedule(Repeat.MONTHLY, time(0, 5), day="31"),
    "0 0 4 L * ?": Schedule(Repeat.MONTHLY, time(4), day="L"),
    "0 15 0/6 * * ?": Schedule(Repeat.HOURLY, time(9, 15), every=6),
    "0 15 * * * ?": Schedule(Repeat.HOURLY, time(0, 15), every=1),
    "0 0/15 * * * ?": Schedule(Repeat.MINUTES, every=15),
    "0 0 4 ? * SUN#1": Schedule(Repeat.QUARTZ, text="0 0 4 ? * SUN#1"),
}


@pytest.mark.parametrize("expression", WORDS)
def test_words_are_an_expression_and_the_expression_the_words(expression: str) -> None:
    assert WORDS[expression].expression == expression
    QuartzExpression.parse(expression)
    found = schedule_of(expression)
    assert (found.repeat, found.expression) == (WORDS[expression].repeat, expression)


def test_every_number_that_is_offered_is_an_expression() -> None:
    for repeat, numbers in {Repeat.HOURLY: HOURS, Repeat.MINUTES: MINUTES}.items():
        for every in numbers:
            text = Schedule(repeat, every=every).expression
            assert text
            QuartzExpression.parse(text)
            assert schedule_of(text).every == every


def test_without_an_expression_it_is_once() -> None:
    assert schedule_of(None).repeat == Repeat.ONCE
    assert Schedule(Repeat.ONCE).expression is None


@pytest.mark.parametrize(
    "expression", ["0 0 03 * * ?", "1 0 3 * * ?", "0 0 3 ? * SUN,SUN", "0 0 3 * * ? 2027", "0 0/7 * * * ?", "0 0/5 3 * * ?"]
)
def test_what_the_words_have_no_place_for_stays_the_text_that_it_is(expression: str) -> None:
    assert schedule_of(expression) == Schedule(Repeat.QUARTZ, text=expression)
