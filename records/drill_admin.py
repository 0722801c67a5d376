"""The console's page of restore drills."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from records.admin import STATE_COLOURS, ReadOnlyAdmin, own_pages
from records.console.cancelling import cancel_one
from records.display import duration_text, lines, plan_link, size_text
from records.drills.drilling import cancel_drill
from records.models import DrillRecord


@admin.register(DrillRecord)
class DrillRecordAdmin(ReadOnlyAdmin):
    """Restore drills and their evidence, which nobody deletes. One that has not ended can be cancelled."""

    list_display = [
        "id",
        "plan_name",
        "shown_state",
        "start_time",
        "extent",
        "compared",
        "restored",
        "duration",
        "age",
        "mismatches",
        "command_status",
    ]
    list_display_links = ["id", "plan_name"]
    list_filter = ["state", "extent", "queued_at"]
    search_fields = ["plan_name", "plan_uuid", "snapshot", "error"]
    fieldsets = [
        (None, {"fields": ["plan", "state", "error", "shown_problems"]}),
        (_("What"), {"fields": ["backup_record", "snapshot", "age", "extent", "place"]}),
        (_("Evidence"), {"fields": ["files", "of_files", "compared", "mismatches", "restored", "duration", "notes"]}),
        (_("Command"), {"fields": ["command", "command_status", "shown_output"]}),
        (_("Times"), {"fields": ["queued_at", "scheduled_at", "start_time", "end_time", "run", "recovery"]}),
    ]

    change_form_outer_before_template = "console/drill.html"
    cancel_record = staticmethod(cancel_drill)

    def get_urls(self) -> list[URLPattern]:
        return [*own_pages(self, {"cancel": cancel_one}), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        may = {"may_cancel": self.has_cancel_permission(request)}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **may})

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("records.change_drillrecord"))

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False

    @display(description=_("state"), ordering="state", label=STATE_COLOURS)
    def shown_state(self, drill: DrillRecord) -> tuple[int, str]:
        return drill.state, drill.get_state_display()

    @admin.display(description=_("plan"))
    def plan(self, drill: DrillRecord) -> str:
        return plan_link(drill.plan_uuid, drill.plan_name)

    @admin.display(description=_("bytes restored"), ordering="bytes_restored")
    def restored(self, drill: DrillRecord) -> str:
        return size_text(drill.bytes_restored)

    @admin.display(description=_("recovery time"), ordering="duration_s")
    def duration(self, drill: DrillRecord) -> str:
        return duration_text(drill.duration_s)

    @admin.display(description=_("age of the backup"), ordering="age_s")
    def age(self, drill: DrillRecord) -> str:
        return duration_text(drill.age_s)

    @admin.display(description=_("problems"))
    def shown_problems(self, drill: DrillRecord) -> str:
        return lines(drill.problems)

    @admin.display(description=_("end of the command's output"))
    def shown_output(self, drill: DrillRecord) -> str:
        return lines(drill.command_output.splitlines())
