"""Cancelling jobs: the one that a page is about, by a button, or those that were selected in a list."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException

from backupcenter.console import came_from, tell_done
from records.models import DrillRecord, JobRecord


def cancel_one(page: Any, request: HttpRequest, number: int) -> HttpResponse:
    """Cancel a job (`POST`), and go back to where the button was."""
    if not page.has_cancel_permission(request):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    cancel_and_tell(page, request, get_object_or_404(page.model, pk=number))
    return redirect(came_from(request) or "admin:index")


def cancel_and_tell(page: Any, request: HttpRequest, record: JobRecord | DrillRecord) -> None:
    """Cancel a job, or a drill, as its page does, and say how that went."""
    try:
        page.cancel_record(record)
    except APIException as error:
        page.message_user(request, f"{record}: {error.detail}", messages.ERROR)
        return
    is_soon = record.is_active
    done = _("%(record)s will be cancelled with its agent's next report.") if is_soon else _("%(record)s is cancelled.")
    tell_done(page, request, record, done, record=record)
