"""Beat's scheduler: django-celery-beat's, without the rows that only show plans.

Each plan has a row among django-celery-beat's periodic tasks, so that the console lists its schedule; the tick fires it. Beat
loading ten thousand rows that it must never run would cost it half a minute after every change of a plan.

When the clock is put back, the library waits until the time of the last tick has come again, for hours if need be; this one
looks at all chores anew, and goes on.
"""

from datetime import datetime
from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from backupcenter.clock import StepWatch

PLAN_TASK = "jobs.fire_plan"
# How long after a step of the clock all chores are looked at anew each time.
SETTLE_S = 2.0


class Entry(ModelEntry):
    """A chore; one that ran in the future, before the clock was put back, counts as run now."""

    last_run_at: datetime

    def is_due(self) -> Any:
        now = self._default_now()
        if self.last_run_at > now:
            self.last_run_at = self.model.last_run_at = now
        return super().is_due()


class Scheduler(DatabaseScheduler):
    """Runs the chores from the settings and whatever else was entered by hand, but no plan."""

    Entry = Entry

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._clock = StepWatch()
        super().__init__(*arguments, **options)

    def tick(self, *arguments: Any, **options: Any) -> Any:
        if not self._clock.is_steady(SETTLE_S):
            # It holds the times at which chores are next, by the clock as it was.
            self._heap = None
        return super().tick(*arguments, **options)

    def reserve(self, entry: Any) -> Any:
        """Return the entry for its next run. The library keeps the one before for whenever it looks at all of them anew."""
        reserved = super().reserve(entry)
        self._schedule[reserved.name] = reserved
        return reserved

    def enabled_models_qs(self) -> Any:
        return super().enabled_models_qs().exclude(task=PLAN_TASK)
