"""What buttons of the console do with one plan or one run. They post, so that no link does it by being followed."""

import json
from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin

from backupcenter.api.exceptions import Conflict
from backupcenter.console import came_from, tell_done
from jobs.drills import drill_plan
from jobs.models import BackupPlan
from jobs.planning import pause_plan, resume_plan, run_plan
from jobs.recovery import request_recovery
from records.models import BackupRecord, RecoveryRecord

ACTS: dict[str, tuple[Callable[[BackupPlan], object], Promise]] = {
    "run": (run_plan, _("%(plan)s is queued.")),
    "pause": (pause_plan, _("%(plan)s is paused.")),
    "resume": (resume_plan, _("%(plan)s goes on.")),
    "drill": (drill_plan, _("A restore drill of %(plan)s is queued.")),
}


def act_on_plan(page: ModelAdmin, request: HttpRequest, number: int, act: str) -> HttpResponse:
    """Do one of `ACTS` with a plan (`POST`), and go back to where the button was."""
    if not page.has_change_permission(request):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    act_and_tell(page, request, get_object_or_404(BackupPlan, pk=number), act)
    return redirect(came_from(request) or "admin:index")


def act_and_tell(page: ModelAdmin, request: HttpRequest, plan: BackupPlan, act: str) -> None:
    """Do one of `ACTS` with a plan and say how that went."""
    do, done = ACTS[act]
    try:
        do(plan)
    except (APIException, ValidationError) as error:
        page.message_user(request, f"{plan}: {getattr(error, 'detail', error)}", messages.ERROR)
    else:
        tell_done(page, request, plan, done, plan=plan)


def repeat(page: ModelAdmin, request: HttpRequest, kind: str, number: int) -> HttpResponse:
    """Run the plan of a backup again, or ask for what a recovery was asked for (`POST`), and go to the new run's page.

    `kind`: `backup` or `recovery`. With `for_real` in the form a dry run is followed by the restore that it was one of.
    """
    if kind == RecoveryRecord.KIND:
        is_allowed = request.user.has_perm("records.add_recoveryrecord")
    else:
        is_allowed = page.has_change_permission(request)
    if not is_allowed:
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        is_recovery = kind == RecoveryRecord.KIND
        queued = _repeat_recovery(number, for_real="for_real" in request.POST) if is_recovery else _repeat_backup(number)
    except (APIException, ValidationError) as error:
        page.message_user(request, str(getattr(error, "detail", error)), messages.ERROR)
        return redirect(came_from(request) or "admin:index")
    tell_done(page, request, queued, _("%(record)s is queued."), record=queued)
    return redirect(f"admin:records_{kind}record_change", queued.pk)


def _repeat_backup(number: int) -> BackupRecord:
    plan = BackupPlan.objects.filter(uuid=get_object_or_404(BackupRecord, pk=number).plan_uuid).first()
    if plan is None:
        raise Conflict(gettext("The backup plan was deleted."))
    return run_plan(plan)


def _repeat_recovery(number: int, *, for_real: bool) -> RecoveryRecord:
    record = get_object_or_404(RecoveryRecord.objects.select_related("client", "backup_record"), pk=number)
    if record.client is None or record.backup_record is None:
        raise Conflict(gettext("Its client or its backup was deleted."))
    if record.is_drill:
        raise Conflict(gettext("This was a restore drill: drill its plan instead."))
    wanted = json.loads(record.recovery_data)
    if for_real:
        wanted.pop("dry_run", None)
    return request_recovery(record.client, record.backup_record, json.dumps(wanted) if for_real else record.recovery_data)
