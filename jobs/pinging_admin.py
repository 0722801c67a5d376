"""The console's page of dead-man pings, for administrators. Addresses are taken and never shown."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordWidget

from jobs.models import PlanPing
from jobs.pinging import end_ping, host_of, set_ping
from records.notifying.addresses import ChannelRefused, require_web_address
from records.notifying.admin import AdministratorsAdmin


class PlanPingForm(forms.ModelForm):  # type: ignore[type-arg]
    """Who hears of a plan's runs; the address is entered anew each time."""

    address = forms.CharField(
        label=capfirst(_("address")),
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=_("for example https://hc-ping.com/… or that of a check of your own service; /start and /fail are put behind it"),
    )

    class Meta:
        model = PlanPing
        fields = ["plan", "address"]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.initial.pop("address", None)

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"]
        try:
            require_web_address(address)
        except ChannelRefused as error:
            raise forms.ValidationError(str(error)) from error
        return address


@admin.register(PlanPing)
class PlanPingAdmin(AdministratorsAdmin):
    """Who outside hears of the plans' runs."""

    form = PlanPingForm
    list_display = ["plan", "client", "host", "signal", "told_at", "error"]
    list_per_page = 25
    search_fields = ["plan__backup_name", "plan__uuid", "plan__client__hostname"]
    autocomplete_fields = ["plan"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanPing]:
        rows: QuerySet[PlanPing] = super().get_queryset(request).select_related("plan__client")
        return rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["plan", "address", *(["host", "signal", "told_at", "error"] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["plan", "host", "signal", "told_at", "error"] if obj else []

    @admin.display(description=_("client"), ordering="plan__client__hostname")
    def client(self, ping: PlanPing) -> str:
        return str(ping.plan.client)

    @admin.display(description=_("host"))
    def host(self, ping: PlanPing) -> str:
        return host_of(ping.address)

    def save_model(self, request: HttpRequest, obj: PlanPing, form: Any, change: bool) -> None:
        obj.pk = set_ping(obj.plan, form.cleaned_data["address"]).pk

    def delete_model(self, request: HttpRequest, obj: PlanPing) -> None:
        end_ping(obj.plan)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PlanPing]) -> None:
        for ping in queryset:
            end_ping(ping.plan)
