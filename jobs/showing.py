"""Each plan's row among django-celery-beat's periodic tasks, so that the console shows schedules in the place people look for them.

Beat never loads these rows (`jobs.beat`). They are changed by plain updates: saving one would make beat read its schedule anew.
"""

import json

from django_celery_beat.models import ClockedSchedule, PeriodicTask

from jobs.beat import PLAN_TASK
from jobs.models import BackupPlan

NAME_LENGTH = 200


def show_plan(plan: BackupPlan) -> None:
    """Make or update the plan's row after the plan was created or changed."""
    schedule = f"{plan.cron_expression} ({plan.timezone})" if plan.cron_expression else "once"
    fields = {
        "name": f"{plan.backup_name[: NAME_LENGTH - 40]} ({plan.uuid})",
        "description": schedule,
        "enabled": plan.next_fire_at is not None,
        "start_time": plan.start_time,
        "expires": plan.end_time,
    }
    if plan.periodic_task is None:
        clocked = ClockedSchedule.objects.create(clocked_time=plan.next_fire_at or plan.start_time)
        arguments = json.dumps([str(plan.uuid)])
        plan.periodic_task = PeriodicTask.objects.create(
            task=PLAN_TASK, args=arguments, clocked=clocked, one_off=True, queue="control", **fields
        )
        plan.save(update_fields=["periodic_task"])
        return
    PeriodicTask.objects.filter(pk=plan.periodic_task.pk).update(**fields)
    show_next_fire(plan)


def show_next_fire(plan: BackupPlan) -> None:
    """Note the plan's next fire in its row."""
    if plan.periodic_task_id is None:
        return
    rows = PeriodicTask.objects.filter(pk=plan.periodic_task_id)
    if plan.next_fire_at is None:
        rows.update(enabled=False)
    else:
        ClockedSchedule.objects.filter(periodictask__in=rows).update(clocked_time=plan.next_fire_at)


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
