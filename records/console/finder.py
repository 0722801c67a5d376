"""Finding a file by its name in all backups of a plan: every version of it, the newest first."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from engine.errors import EngineError
from records.finding import Findings, find_versions
from records.models import BackupRecord


def find_files(page: ModelAdmin, request: HttpRequest, number: int) -> HttpResponse:
    """Show what `?name=` matches in the backups of the plan of this record."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    record = get_object_or_404(BackupRecord.objects.select_related("client"), pk=number)
    name = request.GET.get("name", "").strip()
    found: Findings | None = None
    problem = ""
    if name:
        try:
            found = find_versions(record, name)
        except EngineError as error:
            problem = str(error)
    context: dict[str, Any] = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": _("Find a file in the backups of %(plan)s") % {"plan": record.plan_name},
        "record": record,
        "name": name,
        "found": found,
        "problem": problem,
        "may_restore": request.user.has_perm("records.add_recoveryrecord"),
    }
    return render(request, "console/finder.html", context)
