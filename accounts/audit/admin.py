"""The console's page of the audit log, to read and to take along."""


from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.html import format_html_join
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.audit.export import export_audit
from accounts.models import AuditEntry
from backupcenter.console import LookOnly

COLOURS = {
    AuditEntry.Outcome.DONE: "success",
    AuditEntry.Outcome.REFUSED: "danger",
    AuditEntry.Outcome.INVALID: "warning",
    AuditEntry.Outcome.FAILED: "danger",
}


@admin.register(AuditEntry)
class AuditEntryAdmin(LookOnly, ModelAdmin):
    """Who did what. Nobody adds to it, changes it or deletes of it by hand."""

    list_display = ["time", "actor", "address", "via", "action", "shown_outcome", "names"]
    list_filter = ["outcome", "via", "time"]
    search_fields = ["actor", "action", "path", "address"]
    date_hierarchy = "time"
    actions = ["export_csv", "export_lines"]
    fields = ["time", "actor", "address", "via", "action", "path", "shown_outcome", "status", "named", "unnamed"]
    readonly_fields = fields

    @display(description=_("outcome"), ordering="outcome", label=COLOURS)
    def shown_outcome(self, entry: AuditEntry) -> tuple[str, str]:
        return entry.outcome, entry.get_outcome_display()

    @admin.display(description=_("objects"))
    def names(self, entry: AuditEntry) -> str:
        return ", ".join(each["name"] for each in entry.touched[:3])

    @admin.display(description=_("objects"))
    def named(self, entry: AuditEntry) -> str:
        rows = ((each["model"], each["name"], each["change"], ", ".join(each["fields"])) for each in entry.touched)
        return format_html_join("", "<div>{} {}: {} {}</div>", rows) or "-"

    @admin.action(description=_("Export the selected entries as CSV"), permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> HttpResponseBase:
        return export_audit(queryset, "csv")

    @admin.action(description=_("Export the selected entries as JSON lines"), permissions=["view"])
    def export_lines(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> HttpResponseBase:
        return export_audit(queryset, "jsonl")
