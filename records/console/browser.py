"""The snapshot browser: a backup's directories, the other backups of the same plan at the same place, a look at a file."""

import base64
import posixpath
from typing import Any
from urllib.parse import unquote_to_bytes

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin

from backupcenter.api.exceptions import Conflict
from engine.errors import EngineError
from records.browsing import Preview, describe_path, list_files, preview
from records.models import RESTORABLE_STATES, BackupRecord

ENTRIES_A_PAGE = 500
VERSIONS_SHOWN = 30


def browse(page: ModelAdmin, request: HttpRequest, number: int) -> HttpResponse:
    """Show a directory of a backup, or a file with `?file=`. What cannot be read is said on the page."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    records = BackupRecord.objects.select_related("client", "repository__tenant__endpoint")
    record = get_object_or_404(records, pk=number)
    path = unquote_to_bytes(request.GET.get("path") or "/")
    entries: list[dict[str, Any]] = []
    shown: Preview | None = None
    problem = ""
    try:
        entries = sorted(list_files(record, path), key=lambda entry: (entry["type"] != "dir", entry["name"].lower()))
        if file := request.GET.get("file"):
            shown = preview(record, unquote_to_bytes(file))
    except (Conflict, EngineError) as error:
        problem = str(error)
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": _("Backup of %(plan)s") % {"plan": record.plan_name},
        "record": record,
        "entries": Paginator(entries, ENTRIES_A_PAGE).get_page(request.GET.get("p")),
        "crumbs": _crumbs(path),
        "here": describe_path(path),
        "preview": shown,
        "preview_path": request.GET.get("file", ""),
        "image": _data_address(shown),
        "problem": problem,
        "versions": _versions(record),
        "may_restore": request.user.has_perm("records.add_recoveryrecord"),
    }
    return render(request, "console/browser.html", context)


def _crumbs(path: bytes) -> list[dict[str, str]]:
    parts = [part for part in path.split(b"/") if part]
    crumbs = [{"name": "/", **describe_path(b"/")}]
    for count in range(1, len(parts) + 1):
        whole = b"/" + posixpath.join(*parts[:count])
        crumbs.append({"name": parts[count - 1].decode("utf-8", "replace"), **describe_path(whole)})
    return crumbs


def _versions(record: BackupRecord) -> list[BackupRecord]:
    """Return the newest backups of the same plan, and this one, the newest first."""
    rows = BackupRecord.objects.filter(plan_uuid=record.plan_uuid, state__in=RESTORABLE_STATES, vanished_at=None)
    newest = rows.exclude(snapshot="").order_by("-pk").values_list("pk", flat=True)[:VERSIONS_SHOWN]
    return list(BackupRecord.objects.filter(Q(pk__in=list(newest)) | Q(pk=record.pk)).order_by("-pk"))


def _data_address(shown: Preview | None) -> str:
    """Return an image as an address: within the page, so that nothing out of a backup is ever served as a page of ours."""
    if shown is None or not shown.image_type:
        return ""
    return f"data:{shown.image_type};base64,{base64.b64encode(shown.content).decode()}"
