"""Beat's scheduler: django-celery-beat's, without the rows that only show plans.

Each plan has a row among django-celery-beat's periodic tasks, so that the console lists its schedule; the tick fires it. Beat
loading ten thousand rows that it must never run would cost it half a minute after every change of a plan.
"""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

PLAN_TASK = "jobs.fire_plan"


class Scheduler(DatabaseScheduler):
    """Runs the chores from the settings and whatever else was entered by hand, but no plan."""

    def enabled_models_qs(self) -> Any:
        return super().enabled_models_qs().exclude(task=PLAN_TASK)
