"""The restore wizard: what was chosen in a backup, to which client, where to, and what happens to files that are there."""

import json
from typing import Any
from urllib.parse import unquote_to_bytes

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from backupcenter.console import tell_done
from clients.models import Client
from engine.restorer.existing import OVERWRITE_MODES
from jobs.recovery import request_recovery
from records.models import BackupRecord

ORIGINAL = "/"
# The button that only asks what would change.
DRY_RUN = "dry_run"
POLICIES = {
    "always": gettext_lazy("replace them"),
    "if-changed": gettext_lazy("replace those that differ"),
    "if-newer": gettext_lazy("replace those that are older than in the backup"),
    "never": gettext_lazy("leave them as they are"),
}


class RestoreForm(forms.Form):
    """Where to and how. The paths come from the page before."""

    client = forms.ModelChoiceField(
        Client.objects.none(), label=gettext_lazy("To which client"), widget=UnfoldAdminSelectWidget
    )
    place = forms.ChoiceField(
        label=gettext_lazy("Where to"),
        choices=[("other", gettext_lazy("into a directory of its own")), ("original", gettext_lazy("to where it was"))],
        widget=UnfoldAdminSelectWidget,
    )
    directory = forms.CharField(
        label=gettext_lazy("Directory"),
        required=False,
        max_length=4096,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("on the client; it is made if there is none, and below it the files have their whole path"),
    )
    overwrite = forms.ChoiceField(
        label=gettext_lazy("Files that are there already"),
        choices=[(mode, POLICIES[mode]) for mode in sorted(OVERWRITE_MODES, key=list(POLICIES).index)],
        widget=UnfoldAdminSelectWidget,
    )
    verify = forms.BooleanField(
        label=gettext_lazy("Read everything back and compare"), required=False, widget=UnfoldBooleanSwitchWidget
    )
    confirmed = forms.BooleanField(
        label=gettext_lazy("Files at their old place may be replaced"), required=False, widget=UnfoldBooleanSwitchWidget
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields["client"].queryset = Client.objects.order_by("hostname")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("place") == "other" and not data.get("directory", "").startswith("/"):
            self.add_error("directory", _("Must be a path that begins with “/”."))
        replaces = data.get("place") == "original" and data.get("overwrite") != "never"
        if replaces and not data.get("confirmed") and DRY_RUN not in self.data:
            self.add_error("confirmed", _("Confirm that files at their old place may be replaced, or choose another place."))
        return data


def restore(page: ModelAdmin, request: HttpRequest, number: int) -> HttpResponse:
    """Ask where to and how (`GET`, paths as `?path=` once for each), and queue the recovery (`POST`)."""
    if not request.user.has_perm("records.add_recoveryrecord"):
        raise PermissionDenied
    record = get_object_or_404(BackupRecord.objects.select_related("client"), pk=number)
    asked = request.POST if request.method == "POST" else request.GET
    problems: list[str] = []
    try:
        paths = [unquote_to_bytes(path).decode() for path in asked.getlist("path")]
    except UnicodeDecodeError:
        paths = []
        problems.append(_("A name that is no UTF-8 cannot be chosen by itself: choose the directory that it is in."))
    initial = {
        "client": record.client_id,
        "place": "other",
        "directory": f"/restored/backup-{record.pk}",
        "overwrite": "if-changed",
        "verify": True,
    }
    form = RestoreForm(request.POST) if request.method == "POST" else RestoreForm(initial=initial)
    if request.method == "POST" and not problems and form.is_valid():
        try:
            wanted = recovery_data(form.cleaned_data, paths) | ({"dry_run": True} if DRY_RUN in request.POST else {})
            queued = request_recovery(form.cleaned_data["client"], record, json.dumps(wanted))
        except APIException as error:
            problems.append(str(error.detail))
        else:
            done = gettext_lazy("Restore %(record)s is queued.")
            if queued.is_dry_run:
                done = gettext_lazy("%(record)s is queued: it looks what would change, and writes nothing.")
            tell_done(page, request, queued, done, record=queued)
            return redirect("admin:records_recoveryrecord_change", queued.pk)
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": _("Restore from the backup of %(plan)s") % {"plan": record.plan_name},
        "record": record,
        "form": form,
        "paths": zip(asked.getlist("path"), paths, strict=False),
        "problems": problems,
    }
    return render(request, "console/restore.html", context, status=400 if problems or form.errors else 200)


def recovery_data(data: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Return what `jobs.recovery` takes, of the form's values and the chosen paths (none: all)."""
    destination = ORIGINAL if data["place"] == "original" else data["directory"]
    return {"destination": destination, "include": paths, "overwrite": data["overwrite"], "verify": data["verify"]}
