"""The console's page of restore drills."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from records.admin import STATE_COLOURS, ReadOnlyAdmin
from records.display import duration_text, lines, plan_link, size_text
from records.models import DrillRecord


@admin.register(DrillRecord)
class DrillRecordAdmin(ReadOnlyAdmin):
    """Restore drills and their evidence, which nobody deletes."""

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
        (_("Times"), {"fields": ["queued_at", "scheduled_at", "start_time", "end_time", "run"]}),
    ]

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
