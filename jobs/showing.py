"""Each plan's row among django-celery-beat's periodic tasks, so that the console shows schedules in the place people look for them.

Beat never loads these rows (`jobs.beat`). They are changed by plain updates: saving one would make beat read its schedule anew.
"""

import json
from collections.abc import Sequence
from typing import Any

from django_celery_beat.models import ClockedSchedule, PeriodicTask

from jobs.beat import PLAN_TASK
from jobs.models import BackupPlan

NAME_LENGTH = 200
AT_ONCE = 500


def show_plan(plan: BackupPlan) -> None:
    """Make or update the plan's row after the plan was created or changed."""
    if plan.periodic_task is None:
        show_new_plans([plan])
        return
    PeriodicTask.objects.filter(pk=plan.periodic_task.pk).update(**_shown(plan))
    show_next_fires([plan])


def show_new_plans(plans: Sequence[BackupPlan]) -> None:
    """Make the rows of plans that have none. As many queries for a hundred plans as for one."""
    clocks = [ClockedSchedule(clocked_time=plan.next_fire_at or plan.start_time) for plan in plans]
    ClockedSchedule.objects.bulk_create(clocks, batch_size=AT_ONCE)
    for plan, clocked in zip(plans, clocks, strict=True):
        own = {"task": PLAN_TASK, "args": json.dumps([str(plan.uuid)]), "clocked": clocked, "one_off": True, "queue": "control"}
        plan.periodic_task = PeriodicTask(**own, **_shown(plan))
    PeriodicTask.objects.bulk_create((plan.periodic_task for plan in plans if plan.periodic_task), batch_size=AT_ONCE)
    BackupPlan.objects.bulk_update(plans, ["periodic_task"], batch_size=AT_ONCE)


def _shown(plan: BackupPlan) -> dict[str, Any]:
    return {
        "name": f"{plan.backup_name[: NAME_LENGTH - 40]} ({plan.uuid})",
        "description": f"{plan.cron_expression} ({plan.timezone})" if plan.cron_expression else "once",
        "enabled": plan.next_fire_at is not None,
        "start_time": plan.start_time,
        "expires": plan.end_time,
    }


def show_next_fires(plans: Sequence[BackupPlan]) -> None:
    """Note the plans' next fires in their rows. As many queries for a hundred plans as for one."""
    fires = {plan.periodic_task_id: plan.next_fire_at for plan in plans if plan.periodic_task_id is not None}
    rows = PeriodicTask.objects.filter(pk__in=fires)
    rows.filter(pk__in=[key for key, fire in fires.items() if fire is None]).update(enabled=False)
    going_on = rows.filter(pk__in=[key for key, fire in fires.items() if fire is not None], clocked__isnull=False)
    clocks = [ClockedSchedule(pk=clocked, clocked_time=fires[key]) for key, clocked in going_on.values_list("pk", "clocked")]
    ClockedSchedule.objects.bulk_update(clocks, ["clocked_time"])


def hide_plan(plan: BackupPlan) -> None:
    """Remove the plan's row."""
    task = plan.periodic_task
    if task is None:
        return
    plan.periodic_task = None
    plan.save(update_fields=["periodic_task"])
    clocked = task.clocked
    task.delete()
    if clocked is not None:
        clocked.delete()
