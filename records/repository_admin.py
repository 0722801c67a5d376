"""The console's page that adopts a repository: it makes records, which the room of the stores knows nothing of."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException
from unfold.widgets import UnfoldAdminPasswordWidget

from backupcenter.console import ActionsOnPage, tell_done
from engine.errors import EngineError
from records.adopting import Comparison, adopt_repository
from records.adopting_api import field_of
from records.upkeep import request_prune
from storage.admin import RepositoryAdmin
from storage.models import Repository

PRUNE_REQUESTED = _("Prune %(run)s is queued; its page among the maintenance runs tells what it gave back.")


class AdoptionForm(forms.ModelForm):  # type: ignore[type-arg]
    """Where an existing repository lies, and what opens it."""

    password = forms.CharField(
        label=capfirst(_("password")),
        strip=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=_("It is kept encrypted, and shown to nobody."),
    )
    found: Comparison | None = None

    class Meta:
        model = Repository
        fields = ["tenant", "bucket", "prefix", "password"]
        help_texts = {
            "bucket": _("Of a repository that exists, made by restic or another tool; plans make their own."),
            "prefix": _("Where in the bucket it lies; empty: at its top."),
        }

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.errors:
            return data
        try:
            place = data["tenant"], data["bucket"], data.get("prefix", "")
            self.instance, _is_new, self.found = adopt_repository(*place, data["password"])
        except EngineError as error:
            raise forms.ValidationError({field_of(error) or "__all__": str(error)}) from error
        except APIException as error:
            raise forms.ValidationError(str(error.detail)) from error
        return data

    def validate_unique(self) -> None:
        """One that is registered is adopted again: what is new in it becomes records."""


admin.site.unregister(Repository)


@admin.register(Repository)
class AdoptingRepositoryAdmin(ActionsOnPage, RepositoryAdmin):
    """Repositories, to which existing ones can be added, and which can be pruned."""

    page_actions = {"prune_now": _("Prune now")}
    actions = ["prune_now"]

    def has_prune_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("records.add_maintenancerun"))

    @admin.action(description=_("Prune now"), permissions=["prune"])
    def prune_now(self, request: HttpRequest, queryset: QuerySet[Repository]) -> None:
        for repository in queryset:
            try:
                run = request_prune(repository)
            except APIException as error:
                self.message_user(request, f"{repository}: {error.detail}", messages.ERROR)
            else:
                tell_done(self, request, repository, PRUNE_REQUESTED, run=run.pk)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("storage.add_repository"))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, **({**options, "form": AdoptionForm} if obj is None else options))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return AdoptionForm.Meta.fields if obj is None else super().get_fields(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else super().get_readonly_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: Repository, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        found: Comparison = form.found
        text = ngettext("%(count)d backup was found in it.", "%(count)d backups were found in it.", len(found.adopted))
        self.message_user(request, text % {"count": len(found.adopted)}, messages.SUCCESS)
        if found.unreadable:
            reason = gettext("Snapshots that cannot be read: %(snapshots)s") % {"snapshots": ", ".join(found.unreadable)}
            self.message_user(request, reason, messages.WARNING)
