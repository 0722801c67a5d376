"""The console's page of where the server's own database is backed up to, for administrators."""

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backupcenter.api.exceptions import Conflict
from backupcenter.console import OutsideTransaction
from engine.errors import EngineError
from jobs.models import OwnBackup
from jobs.ownbackup.keeping import back_up_now, choose_place, newest_backup, newest_run
from records.models import State
from records.notifying.admin import AdministratorsAdmin
from storage.models import Tenant


class OwnBackupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A bucket, in which a repository is made; it is asked of the store before it is saved."""

    tenant = forms.ModelChoiceField(
        Tenant.objects.select_related("endpoint"), label=capfirst(_("tenant")), widget=UnfoldAdminSelectWidget
    )
    bucket = forms.CharField(
        label=capfirst(_("bucket")),
        max_length=255,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("It is made if there is none. Best at another site than the server."),
    )

    class Meta:
        model = OwnBackup
        fields: list[str] = []

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            try:
                self.instance = choose_place(data["tenant"], data["bucket"])
            except EngineError as error:
                raise ValidationError({"bucket": [str(error)]}) from error
        return data


@admin.register(OwnBackup)
class OwnBackupAdmin(AdministratorsAdmin, OutsideTransaction):
    """Where the server's own database is backed up to."""

    form = OwnBackupForm
    list_display = ["repository", "newest", "problem"]
    list_display_links = None
    actions = ["back_up"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Another place is chosen by adding it, and takes this one's. Actions are about no single one.
        return super().has_view_permission(request) and obj is None

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["repository", "newest", "problem"] if obj else ["tenant", "bucket"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["repository", "newest", "problem"] if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[OwnBackup]:
        rows: QuerySet[OwnBackup] = super().get_queryset(request).select_related("repository__tenant__endpoint")
        return rows

    @admin.display(description=_("newest backup"))
    def newest(self, place: OwnBackup) -> str:
        run = newest_backup()
        return date_format(localtime(run.end_time), "DATETIME_FORMAT") if run and run.end_time else "-"

    @admin.display(description=_("problem"))
    def problem(self, place: OwnBackup) -> str:
        run = newest_run()
        return run.error if run and run.state != State.SUCCESS else "-"

    def save_model(self, request: HttpRequest, obj: OwnBackup, form: Any, change: bool) -> None:
        # It was saved when the store was asked.
        with suppress(Conflict):
            back_up_now()

    @admin.action(description=_("Back up the server's database now"), permissions=["change"])
    def back_up(self, request: HttpRequest, queryset: QuerySet[OwnBackup]) -> None:
        try:
            run = back_up_now()
        except Conflict as error:
            self.message_user(request, str(error.detail), messages.ERROR)
        else:
            self.message_user(request, _("%(run)s is queued.") % {"run": run}, messages.SUCCESS)
