"""Retention in the console: keep rules as a line of text, and the page that shows what would go by them."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from jobs.models import BackupPlan
from jobs.retention import preview_retention
from records.display import NOTHING, job_link, size_text
from records.keeping import parse_rules, rules_text
from records.models import BackupRecord
from records.retention import Judged


class KeepField(forms.CharField):
    """Keep rules as a line of text."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return rules_text(value) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        try:
            return parse_rules(super().to_python(value) or "")
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class PreviewForm(forms.Form):
    """Keep rules to try."""

    keep = KeepField(label=capfirst(gettext_lazy("keep rules")), required=False, max_length=400)


def retention(page: ModelAdmin, request: HttpRequest, number: int) -> HttpResponse:
    """Show what would go now, by the plan's own rules or by those that are typed in to try."""
    plan = get_object_or_404(BackupPlan, pk=number)
    if not page.has_view_permission(request, plan):
        raise PermissionDenied
    form = PreviewForm(request.GET if "keep" in request.GET else None, initial={"keep": plan.keep})
    preview = preview_retention(plan, form.cleaned_data["keep"] if form.is_valid() else None)
    context = {
        **page.admin_site.each_context(request),
        "title": _("Retention of %(plan)s") % {"plan": plan},
        "opts": page.opts,
        "plan": plan,
        "form": form,
        "preview": preview,
        "tables": [
            (_("goes: %(count)d") % {"count": preview.total_go}, judged_table(preview.go)),
            (_("stays: %(count)d") % {"count": preview.total_stay}, judged_table(preview.stay)),
        ],
    }
    return TemplateResponse(request, "admin/retention.html", context)


def judged_table(judged: list[Judged]) -> dict[str, Any]:
    """Return backups and why they stay as a table of the console's."""
    rows = [
        [
            job_link(f"{BackupRecord.KIND}-{one.record}"),
            date_format(timezone.localtime(one.time), "DATETIME_FORMAT"),
            size_text(one.bytes_stored),
            ", ".join(one.reasons) or NOTHING,
        ]
        for one in judged
    ]
    return {"headers": [_("backup record"), _("time"), _("stored"), _("why it stays")], "rows": rows}
