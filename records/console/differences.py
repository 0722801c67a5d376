"""What changed between a backup and the one before it of the same plan: entries, and bytes that only one of the two has."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from backupcenter.api.exceptions import Conflict
from engine.errors import EngineError
from records.comparing import Comparison, compare, previous_backup
from records.models import BackupRecord


def differences(page: ModelAdmin, request: HttpRequest, number: int) -> HttpResponse:
    """Compare a backup with the one before it."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    record = get_object_or_404(BackupRecord.objects.select_related("client", "repository__tenant__endpoint"), pk=number)
    before = previous_backup(record)
    found: Comparison | None = None
    problem = ""
    try:
        if before is None:
            problem = _("There is no earlier backup of this plan to compare with.")
        else:
            found = compare(before, record)
    except (Conflict, EngineError) as error:
        problem = str(error)
    context: dict[str, Any] = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": _("What changed since the backup before"),
        "record": record,
        "before": before,
        "found": found,
        "problem": problem,
    }
    return render(request, "console/differences.html", context)
