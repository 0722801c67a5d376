"""The console's page of the plans' drill settings. A command, which the server runs, is set by administrators alone."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.models import User
from jobs.drills import CHANGEABLE, change_drill, check_drill
from jobs.models import PlanDrill


class PlanDrillForm(forms.ModelForm):  # type: ignore[type-arg]
    """Drill settings; what they say is checked by the rules that the API has."""

    class Meta:
        model = PlanDrill
        fields = list(CHANGEABLE)
        widgets = {"command": UnfoldAdminTextareaWidget(attrs={"rows": 3})}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            data["cron_expression"] = data.get("cron_expression") or None
            # What the account may not change is no field.
            given = {name: data.get(name, getattr(self.instance, name)) for name in ("client", "command")}
            check_drill(PlanDrill(cron_expression=data["cron_expression"], **given))
        return data


@admin.register(PlanDrill)
class PlanDrillAdmin(ModelAdmin):
    """When and how each plan's newest backup is restored to prove that it can be."""

    form = PlanDrillForm
    list_display = ["plan", "plan_client", "schedule", "client", "extent", "has_command", "next_at"]
    list_filter = ["extent"]
    list_per_page = 25
    autocomplete_fields = ["client"]
    search_fields = ["plan__backup_name", "plan__uuid", "plan__client__hostname"]
    fields = ["plan", *CHANGEABLE, "next_at"]
    readonly_fields = ["plan", "next_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanDrill]:
        rows: QuerySet[PlanDrill] = super().get_queryset(request).select_related("plan__client", "client")
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        user = request.user
        is_administrator = isinstance(user, User) and user.has_role(User.Role.ADMINISTRATOR)
        if is_administrator:
            return [*self.readonly_fields]
        # Elsewhere the command would be another.
        is_bound = obj is not None and obj.command
        return [*self.readonly_fields, "command", *(["client"] if is_bound else [])]

    @admin.display(description=_("client"), ordering="plan__client__hostname")
    def plan_client(self, drill: PlanDrill) -> str:
        return str(drill.plan.client)

    @admin.display(description=_("schedule"), ordering="cron_expression")
    def schedule(self, drill: PlanDrill) -> str:
        return f"{drill.cron_expression} ({drill.plan.timezone})" if drill.cron_expression else str(_("never"))

    @display(description=_("command"), boolean=True)
    def has_command(self, drill: PlanDrill) -> bool:
        return bool(drill.command)

    def save_model(self, request: HttpRequest, obj: PlanDrill, form: Any, change: bool) -> None:
        change_drill(obj.plan, **{name: form.cleaned_data[name] for name in CHANGEABLE if name in form.cleaned_data})
