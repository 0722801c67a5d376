"""The console's pages of the history. Records are read, cancelled and deleted here, never edited."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from backupcenter.api.exceptions import Conflict
from backupcenter.console import tell_done
from backupcenter.counting import EstimatingPaginator
from backupcenter.exporting import export
from records.console.browser import browse
from records.console.cancelling import cancel_and_tell, cancel_one
from records.console.differences import differences
from records.console.finder import find_files
from records.console.run import run_context
from records.deleting import delete_backup_record, delete_recovery_record, undelete_backup_record
from records.display import (
    NOTHING,
    command_lines,
    duration_text,
    job_link,
    plan_link,
    progress_lines,
    recovery_lines,
    result_lines,
    selection_lines,
    size_text,
    unreadable_lines,
)
from records.legal_hold_admin import LegalHoldActions
from records.lifecycle import cancel_job
from records.models import BackupRecord, DeletedBackup, Event, JobRecord, MaintenanceRun, RecoveryRecord, State
from records.searching import search_events, search_records
from records.slots import explain_waiting

REMARK_LENGTH = 80
EVENT_COLUMNS = ["id", "time", "level", "topic", "occasion", "title", "message", "plan_uuid", "job"]
# Every state has its place, if no colour: of one that is missing the list would show the number.
STATE_COLOURS = {
    State.QUEUED: "",
    State.CANCELLED: "",
    State.SUCCESS: "success",
    State.RUNNING: "info",
    State.WARNINGS: "warning",
    State.FAILED: "danger",
    State.LOST: "danger",
}
LEVEL_COLOURS = {
    Event.Level.INFO: "info",
    Event.Level.SUCCESS: "success",
    Event.Level.WARNING: "warning",
    Event.Level.ERROR: "danger",
}


class ReadOnlyAdmin(ModelAdmin):
    """A page of what happened, which may be millions of rows: nobody adds to it or changes it by hand."""

    paginator = EstimatingPaginator
    show_full_result_count = False
    list_per_page = 25

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        super().response_delete(request, obj_display, obj_id)
        # Back to the list; the front page is where Django sends who may not change rows.
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


class JobList(ChangeList):
    """A page of a list, with what its queued jobs wait for."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        explain_waiting(self.result_list)


def own_pages(page: ModelAdmin, views: dict[str, Callable[..., HttpResponse]]) -> list[URLPattern]:
    """Return the routes of pages about one record, which have the record's number before their name."""
    names = f"{page.opts.app_label}_{page.opts.model_name}"
    wrap = page.admin_site.admin_view
    return [path(f"<int:number>/{name}/", wrap(partial(view, page)), name=f"{names}_{name}") for name, view in views.items()]


class JobRecordAdmin(ReadOnlyAdmin):
    """What the lists of backups and recoveries have in common."""

    TIMES = ["start_time", "end_time", "duration"]
    # What somebody must be allowed who runs such a job again.
    REPEATING = ""
    JOB = ["attempt", "handed_back", "not_before", "offered_at", "published_at", "lease_until", "cancel_requested"]

    list_filter = ["state", ("client", AutocompleteSelectFilter), "queued_at"]
    list_filter_submit = True
    list_select_related = ["client"]
    actions = ["cancel"]
    change_form_outer_before_template = "console/run.html"
    delete: Callable[[Any], object]
    cancel_record = staticmethod(cancel_job)

    def delete_model(self, request: HttpRequest, obj: JobRecord) -> None:
        self.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for record in queryset:
            try:
                self.delete(record)
            except Conflict as error:
                raise Conflict(f"{record}: {error.detail}") from error

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return self._unless_refused(request, super().delete_view, object_id, extra_context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return self._unless_refused(request, super().changelist_view, extra_context)

    def _unless_refused(self, request: HttpRequest, view: Callable[..., Any], *arguments: Any) -> Any:
        """Answer with the view; what it could not delete as a whole stays as a whole, and the reason shows above the list."""
        if request.method != "POST":
            return view(request, *arguments)
        try:
            with transaction.atomic():
                return view(request, *arguments)
        except Conflict as error:
            self.message_user(request, str(error.detail), messages.ERROR)
            return redirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def get_urls(self) -> list[URLPattern]:
        return [*own_pages(self, {"cancel": cancel_one}), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        may = {
            "may_cancel": self.has_cancel_permission(request),
            "may_repeat": request.user.has_perm(self.REPEATING),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **may})

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        if isinstance(record := context.get("original"), JobRecord):
            context |= run_context(record)
        return super().render_change_form(request, context, *arguments, **options)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    @display(description=_("state"), ordering="state", label=STATE_COLOURS)
    def shown_state(self, record: JobRecord) -> tuple[int, str]:
        return record.state, record.get_state_display()

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return JobList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        explain_waiting([record] if record else [])
        return record

    @admin.display(description=_("waits, since"))
    def waits(self, record: JobRecord) -> str:
        return record.waits_for or NOTHING

    @admin.display(description=_("duration"), ordering="duration_s")
    def duration(self, record: JobRecord) -> str:
        return duration_text(record.duration_s)

    @admin.display(description=_("remark"))
    def remark(self, record: JobRecord) -> str:
        """What there is to know of a run in a list: its error, how many files are missing, or what it waits for."""
        if record.error:
            return format_html('<span title="{}">{}</span>', record.error, Truncator(record.error).chars(REMARK_LENGTH))
        if count := len(record.unreadable):
            text = ngettext("%(count)s file could not be read or written", "%(count)s files could not be read or written", count)
            return text % {"count": count}
        return record.waits_for or ""

    @admin.display(description=_("files that could not be read or written"))
    def unreadable_files(self, record: JobRecord) -> str:
        return unreadable_lines(record.unreadable)

    @admin.display(description=_("commands that were run"))
    def shown_commands(self, record: JobRecord) -> str:
        return command_lines(record.commands)

    @admin.display(description=_("progress"))
    def shown_progress(self, record: JobRecord) -> str:
        return progress_lines(record.progress)

    @admin.action(description=_("Cancel the selected jobs"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for record in queryset:
            cancel_and_tell(self, request, record)


@admin.register(BackupRecord)
class BackupRecordAdmin(JobRecordAdmin, LegalHoldActions):
    """Runs of backup plans. To delete one puts it into the trash."""

    list_display = ["id", "plan_name", "client", "shown_state", "queued_at", "duration", "read", "stored", "remark"]
    list_display_links = ["id", "plan_name"]
    search_fields = ["plan_name", "error"]
    search_help_text = _("Words of the plan's name, the client or the error; the plan's UUID; the beginning of a snapshot's id.")
    actions = ["cancel", "place_hold", "lift_hold"]
    delete = staticmethod(delete_backup_record)
    REPEATING = "jobs.change_backupplan"
    fieldsets = [
        (None, {"fields": ["plan", "client", "repository", "state", "waits", "error", "unreadable_files", "shown_progress"]}),
        (_("Commands"), {"fields": ["shown_commands"]}),
        (_("Times"), {"fields": ["queued_at", "scheduled_at", "shown_late", *JobRecordAdmin.TIMES, "adopted_at", "vanished_at"]}),
        (_("Hold"), {"fields": ["hold_until", "is_let_go", "legal_hold"]}),
        (_("Data"), {"fields": ["selection", "snapshot", "files_total", "files_new", "files_changed", "files_unmodified"]}),
        (_("Sizes"), {"fields": ["read", "added", "stored"]}),
        (_("Job"), {"fields": JobRecordAdmin.JOB}),
    ]

    @admin.display(description=_("run late"))
    def shown_late(self, record: BackupRecord) -> str:
        # In words: that it was on time is no failure, which a cross would say.
        return gettext("yes") if record.is_late else gettext("no")

    def get_urls(self) -> list[URLPattern]:
        return [*own_pages(self, {"browse": browse, "find": find_files, "differences": differences}), *super().get_urls()]

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        return search_records(queryset, search_term), False

    @admin.display(description=_("plan"))
    def plan(self, record: BackupRecord) -> str:
        return plan_link(record.plan_uuid, record.plan_name)

    @admin.display(description=_("what to back up"))
    def selection(self, record: BackupRecord) -> str:
        return selection_lines(record.backup_detail)

    @admin.display(description=_("read"), ordering="bytes_read")
    def read(self, record: BackupRecord) -> str:
        return size_text(record.bytes_read)

    @admin.display(description=_("added"), ordering="bytes_added")
    def added(self, record: BackupRecord) -> str:
        return size_text(record.bytes_added)

    @admin.display(description=_("stored"), ordering="bytes_stored")
    def stored(self, record: BackupRecord) -> str:
        return size_text(record.bytes_stored)



@admin.register(DeletedBackup)
class DeletedBackupAdmin(ReadOnlyAdmin):
    """The trash: what was deleted, until its grace is over."""

    list_display = ["id", "plan_name", "client", "start_time", "deleted_at", "gone_at", "is_let_go", "stored"]
    list_filter = ["is_let_go", ("client", AutocompleteSelectFilter)]
    list_filter_submit = True
    list_select_related = ["client"]
    search_fields = ["plan_name", "plan_uuid", "client__hostname", "snapshot"]
    actions = ["undelete"]
    fields = ["plan_name", "client", "repository", "start_time", "deleted_at", "gone_at", "is_let_go", "snapshot", "stored"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Nobody is to end the grace that mistakes have.
        return False

    def has_undelete_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("records.delete_backuprecord"))

    @admin.display(description=_("can be brought back until"))
    def gone_at(self, record: DeletedBackup) -> Any:
        return record.gone_at

    @admin.display(description=_("stored"), ordering="bytes_stored")
    def stored(self, record: DeletedBackup) -> str:
        return size_text(record.bytes_stored)

    @admin.action(description=_("Bring the selected backups back"), permissions=["undelete"])
    def undelete(self, request: HttpRequest, queryset: QuerySet[DeletedBackup]) -> None:
        for record in queryset:
            try:
                undelete_backup_record(record)
            except Conflict as error:
                self.message_user(request, f"{record}: {error.detail}", messages.ERROR)
            else:
                tell_done(self, request, record, _("%(record)s was brought back."), record=record)


@admin.register(RecoveryRecord)
class RecoveryRecordAdmin(JobRecordAdmin):
    """Restores."""

    list_display = [
        "id",
        "client",
        "backup_record",
        "shown_state",
        "is_dry_run",
        "is_drill",
        "queued_at",
        "duration",
        "files_restored",
        "files_verified",
        "remark",
    ]
    list_select_related = ["client", "backup_record"]
    search_fields = ["backup_record__plan_name", "client__hostname", "recovery_data", "error"]
    delete = staticmethod(delete_recovery_record)
    REPEATING = "records.add_recoveryrecord"
    fieldsets = [
        (None, {"fields": ["backup_record", "client", "state", "waits", "error", "unreadable_files", "shown_progress"]}),
        (_("Times"), {"fields": ["queued_at", *JobRecordAdmin.TIMES]}),
        (_("Data"), {"fields": ["selection", "files_restored", "files_skipped", "files_verified", "restored"]}),
        (_("Job"), {"fields": JobRecordAdmin.JOB}),
    ]

    @admin.display(description=_("recovery data"))
    def selection(self, record: RecoveryRecord) -> str:
        return recovery_lines(record.recovery_data)

    @admin.display(description=_("bytes restored"))
    def restored(self, record: RecoveryRecord) -> str:
        return size_text(record.bytes_restored)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What happened, as people were told."""

    list_display = ["time", "shown_level", "topic", "title", "message", "shown_job"]
    fields = ["time", "level", "topic", "occasion", "title", "message", "plan", "client", "shown_job"]
    list_filter = ["level", "topic", "occasion", "time"]
    search_fields = ["title", "message", "job"]
    search_help_text = _("Words of the title or the message; a job, as backup-12.")
    actions = ["export_csv", "export_lines"]

    @admin.action(description=_("Export the selected events as CSV"), permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Event]) -> StreamingHttpResponse:
        return export(queryset, EVENT_COLUMNS, "events", "csv")

    @admin.action(description=_("Export the selected events as JSON lines"), permissions=["view"])
    def export_lines(self, request: HttpRequest, queryset: QuerySet[Event]) -> StreamingHttpResponse:
        return export(queryset, EVENT_COLUMNS, "events", "jsonl")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        return search_events(queryset, search_term), False

    @display(description=_("level"), ordering="level", label=LEVEL_COLOURS)
    def shown_level(self, event: Event) -> tuple[int, str]:
        return event.level, event.get_level_display()

    @admin.display(description=_("plan"))
    def plan(self, event: Event) -> str:
        return plan_link(event.plan_uuid)

    @admin.display(description=_("job"), ordering="job")
    def shown_job(self, event: Event) -> str:
        return job_link(event.job)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(MaintenanceRun)
class MaintenanceRunAdmin(ReadOnlyAdmin):
    """Checks of repositories, and what was forgotten."""

    list_display = ["id", "kind", "repository", "shown_state", "queued_at", "start_time", "end_time", "error"]
    list_filter = ["kind", "state"]
    search_fields = ["repository__bucket", "repository__prefix", "error"]
    list_select_related = ["repository__tenant__endpoint"]
    fields = ["kind", "repository", "state", "error", "shown_result", "queued_at", "not_before", "start_time", "end_time"]

    def has_delete_permission(self, request: HttpRequest, obj: MaintenanceRun | None = None) -> bool:
        # What is still to be forgotten stands nowhere else.
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.is_active)

    @display(description=_("state"), ordering="state", label=STATE_COLOURS)
    def shown_state(self, run: MaintenanceRun) -> tuple[int, str]:
        return run.state, run.get_state_display()

    @admin.display(description=_("result"))
    def shown_result(self, run: MaintenanceRun) -> str:
        return result_lines(run.result)


# The page of repositories, to which this room adds the adopting of existing ones.
from records import repository_admin  # noqa: E402, F401
