"""When plans are drilled, and what of that can be changed. Unless somebody says otherwise, each plan is drilled once a week."""

import logging
import shlex
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from clients.models import Client
from jobs.models import BackupPlan, PlanDrill
from jobs.offering import offer_after_commit
from jobs.quartz import InvalidExpression, QuartzExpression
from records.drills.drilling import newest_restorable, request_drill
from records.drills.onclient import catch_up
from records.models import DrillRecord

log = logging.getLogger(__name__)

CHANGEABLE = ("cron_expression", "extent", "client", "command")
BEGUN_AT_ONCE = 500


def weekly(plan: BackupPlan) -> str:
    """Return a Quartz expression of a time in the week that is the plan's own, so that plans are spread over it."""
    second = plan.uuid.int % (7 * 86_400)
    minutes, second = divmod(second, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{second} {minute} {hour} ? * {day + 1}"


def drill_of(plan: BackupPlan) -> PlanDrill:
    """Return the plan's drill settings, the usual ones if it has none yet."""
    found = PlanDrill.objects.filter(plan=plan).select_related("plan", "client").first()
    return found or PlanDrill.objects.get_or_create(plan=plan, defaults=_usual(plan))[0]


def change_drill(plan: BackupPlan, **fields: Any) -> PlanDrill:
    """Change some of a plan's drill settings (see CHANGEABLE). Raises ValidationError, naming the field."""
    drill_of(plan)
    with transaction.atomic():
        drill = PlanDrill.objects.select_for_update(of=("self",)).select_related("plan").get(plan=plan)
        for name, value in fields.items():
            setattr(drill, name, value)
        check_drill(drill)
        drill.next_at = next_drill(drill, timezone.now())
        drill.save()
    log.info("plan=%s drill changed=%s", plan.uuid, ",".join(sorted(fields)))
    return drill


def check_drill(drill: PlanDrill) -> None:
    """Raise ValidationError, naming the field, if the settings do not make sense."""
    drill.cron_expression = drill.cron_expression or None
    if drill.cron_expression is not None:
        try:
            QuartzExpression.parse(drill.cron_expression)
        except InvalidExpression as error:
            raise ValidationError({"cron_expression": [str(error)]}) from error
    if drill.client_id is not None:
        try:
            shlex.split(drill.command)
        except ValueError as error:
            problem = _("Must be the name of a command that the client allows, and parameter=value after it.")
            raise ValidationError({"command": [problem]}) from error


@receiver(pre_delete, sender=Client)
def leave_client(sender: object, instance: Client, **_extra: Any) -> None:
    """Have the server drill what a client did that goes; the name of a command there means nothing to the server's shell."""
    PlanDrill.objects.filter(client=instance).update(client=None, command="")


def next_drill(drill: PlanDrill, after: datetime) -> datetime | None:
    """Return when the plan is drilled next; None: never."""
    if drill.cron_expression is None:
        return None
    return QuartzExpression.parse(drill.cron_expression).next_after(after, ZoneInfo(drill.plan.timezone))


def drill_plan(plan: BackupPlan, scheduled_at: datetime | None = None) -> DrillRecord:
    """Queue a drill of the plan now. Raises Conflict if nothing can be restored yet, or a drill of it is under way."""
    drill = drill_of(plan)
    record = request_drill(plan.uuid, plan.backup_name, drill.extent, drill.command, scheduled_at, drill.client)
    offer_after_commit()
    return record


def request_due_drills(now: datetime | None = None) -> int:
    """Queue the drills that are due, each once however many are missed; return how many. A plan without a backup waits."""
    moment = now or timezone.now()
    _begin()
    catch_up()
    requested = 0
    for drill in PlanDrill.objects.select_related("plan").filter(next_at__lte=moment).order_by("next_at"):
        due = drill.next_at
        # Only one of several schedulers changes the row.
        if not PlanDrill.objects.filter(pk=drill.pk, next_at=due).update(next_at=next_drill(drill, moment)):
            continue
        if newest_restorable(drill.plan.uuid) is None:
            continue
        try:
            drill_plan(drill.plan, due)
        except Conflict as error:
            log.info("plan=%s no drill: %s", drill.plan.uuid, error.detail)
        else:
            requested += 1
    return requested


def _begin() -> None:
    """Give the plans the usual settings that have none, as those from before there were drills."""
    plans = BackupPlan.objects.filter(drill=None)[:BEGUN_AT_ONCE]
    PlanDrill.objects.bulk_create([PlanDrill(plan=plan, **_usual(plan)) for plan in plans], ignore_conflicts=True)


def _usual(plan: BackupPlan) -> dict[str, Any]:
    if not settings.DRILLS:
        return {}
    drill = PlanDrill(plan=plan, cron_expression=weekly(plan))
    return {"cron_expression": drill.cron_expression, "next_at": next_drill(drill, timezone.now())}
