"""Making and changing backup plans. What a plan may hold is checked here, for the API and the console alike."""

import json
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from backupcenter.api.exceptions import Conflict
from clients.models import Client
from engine.errors import EngineError
from engine.filter import compile_patterns
from jobs.commands import brings_files, commands_problem
from jobs.dispatch import Launch, launch_backups
from jobs.drills import drill_of
from jobs.models import BackupPlan
from jobs.offering import offer_after_commit
from jobs.quartz import InvalidExpression, QuartzExpression
from jobs.scheduling import fire_or_report, set_next_fire
from jobs.showing import hide_plan, show_plan
from records.keeping import clean_rules
from records.lifecycle import cancel_job
from records.models import ACTIVE_STATES, BackupRecord, State
from storage.models import Endpoint, Tenant
from storage.repositories import ensure_repository

log = logging.getLogger(__name__)

# What a unit of `hold_time` may count at most: a century.
HOLD_LIMITS = {
    BackupPlan.HoldType.DAYS: 36_500,
    BackupPlan.HoldType.WEEKS: 5_200,
    BackupPlan.HoldType.MONTHS: 1_200,
    BackupPlan.HoldType.YEARS: 100,
}
CHANGEABLE = (
    "backup_name",
    "backup_group",
    "cron_expression",
    "timezone",
    "start_time",
    "end_time",
    "hold_type",
    "hold_time",
    "keep",
    "backup_data",
    "misfire",
    "jitter_s",
)
# Of these, what the plan's fires follow from.
SCHEDULE = ("cron_expression", "timezone", "start_time", "end_time")


def create_plan(*, client: Client, tenant: Tenant, bucket: str, shared: bool = False, **fields: Any) -> BackupPlan:
    """Make a plan, and the repository that it writes to. `shared`: one repository for the bucket, not one per client.

    Raises ValidationError, naming the field.
    """
    plan = BackupPlan(client=client, tenant=tenant, bucket=bucket, **fields)
    check_plan(plan)
    prefix = "" if shared else repository_prefix(client)
    try:
        plan.repository = ensure_repository(tenant, bucket, prefix)
    except EngineError as error:
        raise ValidationError({"bucket": [str(error)]}) from error
    with transaction.atomic():
        set_next_fire(plan)
        plan.save()
        show_plan(plan)
        drill_of(plan)
    log.info("plan=%s client=%d created", plan.uuid, client.pk)
    return plan


def change_plan(plan: BackupPlan, **fields: Any) -> BackupPlan:
    """Change some of a plan's fields (see CHANGEABLE). Raises ValidationError.

    A new schedule counts from now; what was due by the old one is started first.
    """
    with transaction.atomic():
        locked = BackupPlan.objects.select_for_update().get(pk=plan.pk)
        is_rescheduled = any(name in fields and fields[name] != getattr(locked, name) for name in SCHEDULE)
        now = timezone.now()
        if is_rescheduled and locked.next_fire_at is not None and locked.next_fire_at <= now:
            fire_or_report(locked, now)
            offer_after_commit()
        for name, value in fields.items():
            setattr(locked, name, value)
        check_plan(locked)
        if is_rescheduled:
            set_next_fire(locked, now)
        locked.save()
        show_plan(locked)
    log.info("plan=%s changed=%s", locked.uuid, ",".join(sorted(fields)))
    return locked


def delete_plan(plan: BackupPlan) -> None:
    """Delete the plan and cancel what runs; its records, which know it by its UUID, and their data stay until their hold ends."""
    with transaction.atomic():
        locked = BackupPlan.objects.select_for_update().filter(pk=plan.pk).first()
        if locked is None:
            return
        hide_plan(locked)
        locked.delete()
        # Kept with the records, so not in the language of whoever deletes.
        with override(settings.LANGUAGE_CODE):
            reason = _("The backup plan was deleted.")
        for record in BackupRecord.objects.filter(plan_uuid=plan.uuid, state__in=ACTIVE_STATES):
            # One that has ended in the meantime has nothing left to cancel.
            with suppress(Conflict):
                cancel_job(record, reason)
    log.info("plan=%s deleted", plan.uuid)


def pause_plan(plan: BackupPlan) -> BackupPlan:
    """Stop the schedule until it is resumed; what runs goes on."""
    return _set_paused(plan, True)


def resume_plan(plan: BackupPlan) -> BackupPlan:
    """Let the schedule go on from now; fires in between are not made up."""
    return _set_paused(plan, False)


def run_plan(plan: BackupPlan) -> BackupRecord:
    """Start a run by hand. Raises Conflict if one waits already, or if the plan was deleted."""
    with transaction.atomic():
        # Locked, so that of two who ask at once one is refused, and none starts what is being deleted.
        locked = BackupPlan.objects.select_for_update().filter(pk=plan.pk).first()
        if locked is None:
            raise Conflict(_("The backup plan was deleted."))
        if BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.QUEUED).exists():
            raise Conflict(_("A run of this plan already waits for its client."))
        # Only scheduled runs can have been started by somebody else.
        (record,) = launch_backups([Launch(locked)])
        offer_after_commit()
    return record


def check_plan(plan: BackupPlan) -> None:
    """Raise ValidationError, naming the field, if the plan does not make sense."""
    problems = {
        "cron_expression": _cron_problem(plan.cron_expression, plan.start_time),
        "timezone": _timezone_problem(plan.timezone),
        "end_time": _end_problem(plan.start_time, plan.end_time),
        "hold_time": _hold_problem(plan.hold_type, plan.hold_time),
        "keep": _keep_problem(plan),
        "backup_data": _data_problem(plan.backup_data),
    }
    found = {name: [problem] for name, problem in problems.items() if problem}
    if found:
        raise ValidationError(found)


def repository_prefix(client: Client) -> str:
    """Return where in a bucket a client's own repository lies."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", client.hostname).strip(".-")[:100]
    return f"{readable or 'client'}-{client.pk}"


def _set_paused(plan: BackupPlan, is_paused: bool) -> BackupPlan:
    with transaction.atomic():
        locked = BackupPlan.objects.select_for_update().get(pk=plan.pk)
        if locked.paused != is_paused:
            locked.paused = is_paused
            now = timezone.now()
            if not is_paused and locked.cron_expression is None and locked.start_time <= now:
                # Its time came while it was paused, and nothing is made up for.
                locked.fired_at = locked.start_time
            set_next_fire(locked, now)
            locked.save()
            show_plan(locked)
    log.info("plan=%s paused=%s", plan.uuid, is_paused)
    return locked


def _cron_problem(text: str | None, start: datetime) -> str | None:
    if text is None:
        return None
    try:
        expression = QuartzExpression.parse(text)
    except InvalidExpression as error:
        return str(error)
    # From a day before, since the plan's zone may lie behind. Whether now is too late is no matter: then the plan has ended.
    if expression.next_after(start - timedelta(days=1), UTC) is None:
        return _("It never fires after the start.")
    return None


def _timezone_problem(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return _("There is no such time zone.")
    return None


def _end_problem(start: datetime, end: datetime | None) -> str | None:
    return _("The end must lie after the start.") if end is not None and end <= start else None


def _hold_problem(hold_type: int, hold_time: int) -> str | None:
    if hold_type == BackupPlan.HoldType.FOREVER:
        return None
    if hold_time < 1:
        return _("Must be at least 1 for this hold type.")
    limit = HOLD_LIMITS.get(BackupPlan.HoldType(hold_type))
    if limit is not None and hold_time > limit:
        return _("Must be at most %(limit)d for this hold type.") % {"limit": limit}
    return None


def _keep_problem(plan: BackupPlan) -> str | None:
    try:
        rules = clean_rules(plan.keep)
    except ValueError as error:
        return str(error)
    if rules and plan.hold_type != BackupPlan.HoldType.FOREVER:
        return _("A plan has either a hold or keep rules: give rules with hold type 0.")
    return None


def _data_problem(text: str) -> str | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _("Must be a JSON text.")
    if not isinstance(data, dict):
        return _('Must be a JSON object like {"include": [...], "exclude": [...]}.')
    include, exclude = data.get("include", []), data.get("exclude", [])
    if not _is_list_of_paths(include) or not _is_list_of_paths(exclude):
        return _("“include” and “exclude” must be lists of paths without NUL.")
    if problem := commands_problem(data):
        return problem
    if not include and not brings_files(data):
        return _("“include” must name at least one path.")
    try:
        compile_patterns(exclude)
    except EngineError as error:
        return str(error)
    return None


def _is_list_of_paths(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item and is_path(item) for item in value)


def is_path(text: str) -> bool:
    """Whether a text can name a file of a plan."""
    # Lone surrogates, which JSON can spell, neither name a file nor fit a database.
    return "\0" not in text and all(not 0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def stores_of(client: Client) -> QuerySet[Endpoint]:
    """Return where the client's plans back up to."""
    return Endpoint.objects.filter(pk__in=BackupPlan.objects.filter(client=client).values("repository__tenant__endpoint"))
