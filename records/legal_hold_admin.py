"""Legal hold in the console: two actions of the list of backups, for administrators. Placing one asks for the reason first."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.models import User
from backupcenter.console import tell_done
from records.display import NOTHING, lines
from records.legal_hold import REASON_LENGTH, lift_legal_hold, place_legal_hold
from records.models import BackupRecord


class LegalHoldForm(forms.Form):
    """Why backups are put under legal hold."""

    legal_hold_reason = forms.CharField(
        label=capfirst(_("reason of the legal hold")),
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("such as the number of the case; everybody who sees the backup sees it"),
    )


class LegalHoldActions(ModelAdmin):
    """What the page of backup records has of it."""

    def has_legal_hold_permission(self, request: HttpRequest) -> bool:
        return isinstance(request.user, User) and request.user.is_administrator

    @admin.display(description=_("legal hold"))
    def legal_hold(self, record: BackupRecord) -> str:
        if record.legal_hold_at is None:
            return NOTHING
        return lines([f"{record.legal_hold_at:%Y-%m-%d %H:%M:%S} {record.legal_hold_by}", record.legal_hold_reason])

    @admin.action(description=_("Put the selected backups under legal hold"), permissions=["legal_hold"])
    def place_hold(self, request: HttpRequest, queryset: QuerySet[BackupRecord]) -> HttpResponse | None:
        form = LegalHoldForm(request.POST if "legal_hold_reason" in request.POST else None)
        if form.is_valid():
            reason = form.cleaned_data["legal_hold_reason"]
            by = request.user.get_username()
            done = _("%(record)s is under legal hold.")
            self._each_hold(request, queryset, lambda record: place_legal_hold(record, by, reason), done)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": _("Legal hold"),
            "opts": self.opts,
            "form": form,
            "records": queryset,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/legal_hold.html", context)

    @admin.action(description=_("Lift the legal hold of the selected backups"), permissions=["legal_hold"])
    def lift_hold(self, request: HttpRequest, queryset: QuerySet[BackupRecord]) -> None:
        by = request.user.get_username()
        done = _("%(record)s is no longer under legal hold.")
        self._each_hold(request, queryset, lambda record: lift_legal_hold(record, by), done)

    def _each_hold(
        self, request: HttpRequest, queryset: QuerySet[BackupRecord], act: Callable[[BackupRecord], Any], done: Promise
    ) -> None:
        for record in queryset:
            try:
                act(record)
            except APIException as error:
                self.message_user(request, f"{record}: {error.detail}", messages.ERROR)
            else:
                tell_done(self, request, record, done, record=record)
