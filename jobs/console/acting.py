"""What buttons of the console do with one plan or one run. They post, so that no link does it by being followed."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin

from backupcenter.console import came_from, tell_done
from jobs.drills import drill_plan
from jobs.models import BackupPlan
from jobs.planning import pause_plan, resume_plan, run_plan

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
