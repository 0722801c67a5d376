"""Schedules as people say them, and the Quartz expressions that they are; the text alone counts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time

from django.db import models
from django.utils.translation import gettext_lazy as _

from jobs.quartz import WEEKDAYS

LAST_DAY = "L"
# Those that divide what they count, so that the time between two runs is always the same.
MINUTES = (5, 10, 15, 20, 30)
HOURS = (1, 2, 3, 4, 6, 8, 12)


class Repeat(models.TextChoices):
    """How often a plan fires."""

    DAILY = "daily", _("every day")
    WEEKLY = "weekly", _("on days of the week")
    MONTHLY = "monthly", _("once a month")
    HOURLY = "hourly", _("every so many hours")
    MINUTES = "minutes", _("every so many minutes")
    ONCE = "once", _("only once")
    QUARTZ = "quartz", _("as a Quartz expression says")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule in words. `day`: of the month, a number or LAST_DAY; `every`: hours or minutes; `text`: of `Repeat.QUARTZ`."""

    repeat: Repeat = Repeat.DAILY
    at: time = time(3)
    weekdays: Sequence[str] = ()
    day: str = "1"
    every: int = 6
    text: str = ""

    @property
    def expression(self) -> str | None:
        """The Quartz expression, None for once."""
        clock = f"0 {self.at.minute} {self.at.hour}"
        match self.repeat:
            case Repeat.DAILY:
                return f"{clock} * * ?"
            case Repeat.WEEKLY:
                return f"{clock} ? * {','.join(day for day in WEEKDAYS if day in self.weekdays)}"
            case Repeat.MONTHLY:
                return f"{clock} {self.day} * ?"
            case Repeat.HOURLY:
                return f"0 {self.at.minute} {'*' if self.every == 1 else f'0/{self.every}'} * * ?"
            case Repeat.MINUTES:
                return f"0 0/{self.every} * * * ?"
            case Repeat.ONCE:
                return None
        return self.text


def schedule_of(expression: str | None) -> Schedule:
    """Return the words for an expression; those of `Repeat.QUARTZ` where there are no others."""
    if expression is None:
        return Schedule(Repeat.ONCE)
    clock = r"0 (?P<minute>[0-5]?\d) (?P<hour>1?\d|2[0-3])"
    shapes = {
        Repeat.DAILY: rf"{clock} \* \* \?",
        Repeat.WEEKLY: rf"{clock} \? \* (?P<weekdays>[A-Z]{{3}}(,[A-Z]{{3}})*)",
        Repeat.MONTHLY: rf"{clock} (?P<day>\d\d?|L) \* \?",
        Repeat.HOURLY: r"0 (?P<minute>[0-5]?\d) (\*|0/(?P<every>\d+)) \* \* \?",
        Repeat.MINUTES: r"0 0/(?P<every>\d+) \* \* \* \?",
    }
    for repeat, shape in shapes.items():
        if found := re.fullmatch(shape, expression, re.ASCII):
            said = {name: value for name, value in found.groupdict().items() if value is not None}
            words = Schedule(
                repeat,
                time(int(said.get("hour", 0)), int(said.get("minute", 0))),
                said.get("weekdays", "").split(","),
                said.get("day", "1"),
                int(said.get("every", 1)),
            )
            # Spelled otherwise, or with what the words have no place for: its own text is what was meant.
            if words.expression == expression and _is_offered(words):
                return words
    return Schedule(Repeat.QUARTZ, text=expression)


def _is_offered(words: Schedule) -> bool:
    offered = {Repeat.HOURLY: HOURS, Repeat.MINUTES: MINUTES}
    return words.every in offered.get(words.repeat, (words.every,))
