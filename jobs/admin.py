"""The console's pages of backup plans and schedules.

Plans are made, changed, run, paused and verified by the same functions as the API's. django-celery-beat's rows are to look at.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

import jobs.drill_admin
import jobs.ownbackup.admin
import jobs.pinging_admin
import jobs.report_admin
import jobs.rule_admin  # noqa: F401 -- they register their pages
from backupcenter.console import LookOnly, OutsideTransaction, tell_done
from backupcenter.deleting import NameToDelete
from jobs.console.acting import ACTS, act_and_tell, act_on_plan, repeat
from jobs.console.restoring import restore
from jobs.console.retention import KeepField, retention
from jobs.console.wizard.looks import answer, ask
from jobs.console.wizard.pages import preview as preview_plan
from jobs.console.wizard.pages import wizard
from jobs.drills import drill_of
from jobs.models import BackupPlan, PlanDrill, PlanPing
from jobs.pinging import host_of
from jobs.planning import CHANGEABLE, change_plan, check_plan, create_plan, delete_plan
from jobs.proof import Proof, ProofState, proof_of
from records.display import duration_text
from records.lifecycle import KINDS
from records.maintenance import request_maintenance
from records.models import MaintenanceRun, State
from records.notifying.admin import is_administrator

admin.site.unregister([PeriodicTask, ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule])

# Every state has its place, if no colour: of one that is missing the list would show the number.
STATE_COLOURS = {
    BackupPlan.State.IDLE: "",
    BackupPlan.State.ENDED: "",
    BackupPlan.State.RUNNING: "info",
    BackupPlan.State.QUEUED: "info",
    BackupPlan.State.PAUSED: "warning",
}

PROOF_COLOURS = {ProofState.NONE: "", ProofState.PROVEN: "success", ProofState.FAILED: "danger"}


def proof_lines(proof: Proof) -> str:
    """Return what is proven of a plan as HTML: how the last drill went, and what the last good one has shown."""
    shown = [str(ProofState(proof.state).label)]
    if proof.at is not None:
        text = gettext("last proven restorable: %(ago)s ago, in %(duration)s, from a backup %(age)s old")
        age = timezone.now() - timedelta(seconds=proof.age_s or 0)
        names = {"ago": timesince(proof.at), "duration": duration_text(proof.duration_s), "age": timesince(age)}
        shown.append(text % names)
    return format_html_join("", "<div>{}</div>", ((text,) for text in shown))


def schedule_text(plan: BackupPlan) -> str:
    return f"{plan.cron_expression} ({plan.timezone})" if plan.cron_expression else gettext("once")


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    """A plan; what it says is checked by the rules that the API has."""

    keep = KeepField(
        label=capfirst(_("keep rules")),
        required=False,
        max_length=400,
        help_text=_(
            "instead of a hold, like: last 7, daily 14, weekly 8, monthly unlimited, within 30d. Those of restic: last, hourly, "
            "daily, weekly, monthly, yearly; within, within_hourly, …. They apply to the backups that there are, too."
        ),
    )

    shared = forms.BooleanField(
        label=_("One repository for the whole bucket"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_(
            "Off: each client has a repository and a password of its own, and can read only what it wrote. On: what several "
            "clients have alike is stored once, and each of them can read the backups of all."
        ),
    )

    class Meta:
        model = BackupPlan
        fields = [*CHANGEABLE[:2], "client", "tenant", "bucket", *CHANGEABLE[2:]]
        widgets = {"backup_data": UnfoldAdminTextareaWidget(attrs={"rows": 4})}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.errors:
            return data
        data["cron_expression"] = data["cron_expression"] or None
        data["jitter_s"] = data["jitter_s"] or 0
        fields = {name: data[name] for name in CHANGEABLE}
        check_plan(BackupPlan(**fields))
        if self.instance.pk is None:
            # Here and not on saving: the store may still refuse, and the form is where people read that.
            place = {name: data[name] for name in ("client", "tenant", "bucket", "shared")}
            self.instance = create_plan(**place, **fields)
        return data


class StateFilter(admin.SimpleListFilter):
    """Plans in one of their states (`BackupPlan.state`); the rows come from `with_activity`."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        return list(BackupPlan.State.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> QuerySet[BackupPlan]:
        calm: dict[str, Any] = {"active_state": None}
        conditions: dict[BackupPlan.State, dict[str, Any]] = {
            BackupPlan.State.IDLE: {**calm, "paused": False, "next_fire_at__isnull": False},
            BackupPlan.State.QUEUED: {"active_state": State.QUEUED},
            BackupPlan.State.RUNNING: {"active_state": State.RUNNING},
            BackupPlan.State.PAUSED: {**calm, "paused": True},
            BackupPlan.State.ENDED: {**calm, "paused": False, "next_fire_at": None},
        }
        wanted = {str(state): condition for state, condition in conditions.items()}
        return queryset.filter(**wanted.get(self.value() or "", {}))


@admin.register(BackupPlan)
class BackupPlanAdmin(NameToDelete, ModelAdmin, OutsideTransaction):
    """Backup plans."""

    lost = _("Its schedule ends, and what runs of it is cancelled. Its backups stay, each until its hold ends.")

    TOLD = ["told_state", "next_fire", "repository", "uuid", "runs", "preview", "told_proof", "drills", "allowed_there"]

    change_form_outer_before_template = "console/plan.html"
    list_before_template = "console/plans.html"
    form = PlanForm
    list_display = ["backup_name", "client", "tenant", "bucket", "schedule", "next_fire", "shown_state", "shown_proof"]
    list_filter = [StateFilter, ("client", AutocompleteSelectFilter), ("tenant", AutocompleteSelectFilter)]
    list_filter_submit = True
    list_per_page = 25
    search_fields = ["backup_name", "uuid", "client__hostname", "bucket"]
    actions = ["run_now", "pause", "resume", "verify", "drill_now"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BackupPlan]:
        return BackupPlan.objects.with_activity().with_proof()

    def get_urls(self) -> list[URLPattern]:
        acts = [
            path(
                f"<int:number>/{name}/",
                self.admin_site.admin_view(partial(act_on_plan, self)),
                {"act": name},
                name=f"jobs_backupplan_{name}",
            )
            for name in ACTS
        ]
        restoring = path(
            "restore/<int:number>/", self.admin_site.admin_view(partial(restore, self)), name="jobs_backupplan_restore"
        )
        preview = path(
            "<int:number>/retention/", self.admin_site.admin_view(partial(retention, self)), name="jobs_backupplan_retention"
        )
        again = [
            path(
                f"repeat/{kind}/<int:number>/",
                self.admin_site.admin_view(partial(repeat, self)),
                {"kind": kind},
                name=f"jobs_backupplan_repeat_{kind}",
            )
            for kind in KINDS
        ]
        return [*acts, *again, *self._wizard_urls(), restoring, preview, *super().get_urls()]

    def _wizard_urls(self) -> list[URLPattern]:
        pages: dict[str, tuple[str, Callable[..., HttpResponse], dict[str, str]]] = {
            "wizard": ("", wizard, {}),
            "wizard_preview": ("preview/", preview_plan, {}),
            "wizard_listing": ("listing/", ask, {"what": "listing"}),
            "wizard_estimate": ("estimate/", ask, {"what": "estimate"}),
            "wizard_answer": ("look/<str:number>/", answer, {}),
        }
        return [
            path(f"wizard/{place}", self.admin_site.admin_view(partial(view, self)), known, name=f"jobs_backupplan_{name}")
            for name, (place, view, known) in pages.items()
        ]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj:
            return [*PlanForm.Meta.fields, *self._told(request)]
        after_bucket = PlanForm.Meta.fields.index("bucket") + 1
        return [*PlanForm.Meta.fields[:after_bucket], "shared", *PlanForm.Meta.fields[after_bucket:]]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["client", "tenant", "bucket", *self._told(request)] if obj else []

    def _told(self, request: HttpRequest) -> list[str]:
        return [*self.TOLD, "pings"] if is_administrator(request) else self.TOLD

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"start_time": timezone.now().replace(microsecond=0), **super().get_changeform_initial_data(request)}

    @admin.display(description=_("backup records"))
    def runs(self, plan: BackupPlan) -> str:
        address = reverse("admin:records_backuprecord_changelist")
        return format_html('<a class="text-link" href="{}?plan_uuid={}">{}</a>', address, plan.uuid, gettext("all runs"))

    @display(description=_("proof"), ordering="proven_start_time", label=PROOF_COLOURS)
    def shown_proof(self, plan: BackupPlan) -> tuple[str, str]:
        proof = proof_of(plan)
        return proof.state, str(ProofState(proof.state).label)

    @admin.display(description=_("proof"))
    def told_proof(self, plan: BackupPlan) -> str:
        return proof_lines(proof_of(plan))

    @admin.display(description=_("restore drills"))
    def drills(self, plan: BackupPlan) -> str:
        links = [
            (f"{reverse('admin:records_drillrecord_changelist')}?plan_uuid={plan.uuid}", gettext("all drills")),
            (reverse("admin:jobs_plandrill_change", args=[drill_of(plan).pk]), gettext("settings")),
        ]
        return format_html_join(" · ", '<a class="text-link" href="{}">{}</a>', links)

    @admin.display(description=_("dead-man ping"))
    def pings(self, plan: BackupPlan) -> str:
        ping: PlanPing | None = getattr(plan, "ping", None)
        if ping is None:
            address = f"{reverse('admin:jobs_planping_add')}?plan={plan.pk}"
            text = gettext("have a service outside hear of the runs")
        else:
            address, text = reverse("admin:jobs_planping_change", args=[ping.pk]), host_of(ping.address)
        return format_html('<a class="text-link" href="{}">{}</a>', address, text)

    @admin.display(description=_("retention"))
    def preview(self, plan: BackupPlan) -> str:
        address = reverse("admin:jobs_backupplan_retention", args=[plan.pk])
        return format_html('<a class="text-link" href="{}">{}</a>', address, gettext("what would go now"))

    @admin.display(description=_("commands that the client allows"))
    def allowed_there(self, plan: BackupPlan) -> str:
        return ", ".join(plan.client.allowed) or "-"

    @admin.display(description=_("schedule"), ordering="cron_expression")
    def schedule(self, plan: BackupPlan) -> str:
        return schedule_text(plan)

    @admin.display(description=_("next fire"), ordering="next_fire_at")
    def next_fire(self, plan: BackupPlan) -> str:
        """The next fire as the plan's own zone has it."""
        if plan.next_fire_at is None:
            return "-"
        return date_format(plan.next_fire_at.astimezone(ZoneInfo(plan.timezone)), "DATETIME_FORMAT")

    @display(description=_("state"), label=STATE_COLOURS)
    def shown_state(self, plan: BackupPlan) -> tuple[int, str]:
        return plan.state, plan.state_text

    @admin.display(description=_("state"))
    def told_state(self, plan: BackupPlan) -> str:
        # A page, unlike a list, has no colour for it.
        return plan.state_text

    def save_model(self, request: HttpRequest, obj: BackupPlan, form: Any, change: bool) -> None:
        plan = change_plan(obj, **{name: form.cleaned_data[name] for name in CHANGEABLE}) if change else obj
        if plan.next_fire_at is None and not plan.paused:
            self.message_user(request, gettext("%(plan)s has no time left to fire at.") % {"plan": plan}, messages.WARNING)
        if plan.not_allowed:
            text = gettext(
                "%(client)s does not allow: %(names)s. Runs of %(plan)s will fail until it does (docs/sources.md)."
            )
            told = {"client": plan.client, "names": ", ".join(plan.not_allowed), "plan": plan}
            self.message_user(request, text % told, messages.WARNING)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        named, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        # They go with their plan, and only with it.
        forbidden -= {PlanDrill._meta.verbose_name, PlanPing._meta.verbose_name}
        return named, counts, forbidden, protected

    def delete_model(self, request: HttpRequest, obj: BackupPlan) -> None:
        delete_plan(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        for plan in queryset:
            delete_plan(plan)

    @admin.action(description=_("Run the selected plans now"), permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        self._each(request, queryset, "run")

    @admin.action(description=_("Pause the selected plans"), permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        self._each(request, queryset, "pause")

    @admin.action(description=_("Resume the selected plans"), permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        self._each(request, queryset, "resume")

    @admin.action(description=_("Verify the repositories of the selected plans"), permissions=["change"])
    def verify(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        for repository in {plan.repository_id: plan.repository for plan in queryset}.values():
            request_maintenance(repository, MaintenanceRun.Kind.CHECK_DATA)
            message = _("A check of %(repository)s is queued; its result will be among the maintenance runs.")
            tell_done(self, request, repository, message, repository=repository)

    @admin.action(description=_("Drill the selected plans now"), permissions=["change"])
    def drill_now(self, request: HttpRequest, queryset: QuerySet[BackupPlan]) -> None:
        self._each(request, queryset, "drill")

    def _each(self, request: HttpRequest, queryset: QuerySet[BackupPlan], act: str) -> None:
        for plan in queryset:
            act_and_tell(self, request, plan, act)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(LookOnly, ModelAdmin):
    """Schedules: a row for each plan, which the tick fires, and for each chore, which beat runs."""

    list_display = ["name", "enabled", "schedule", "plan_link", "start_time", "expires", "last_run_at"]
    list_filter = ["enabled", "task"]
    list_select_related = ["plan", "interval", "crontab", "solar", "clocked"]
    search_fields = ["name", "task"]
    fields = ["name", "plan_link", "task", "enabled", "schedule", "start_time", "expires", "last_run_at"]
    readonly_fields = fields

    @admin.display(description=_("schedule"))
    def schedule(self, task: PeriodicTask) -> str:
        # The row of a plan holds no more than its next fire.
        plan = getattr(task, "plan", None)
        return str(task.schedule) if plan is None else schedule_text(plan)

    @admin.display(description=_("backup plan"))
    def plan_link(self, task: PeriodicTask) -> str:
        plan = getattr(task, "plan", None)
        if plan is None:
            return "-"
        return format_html('<a href="{}">{}</a>', reverse("admin:jobs_backupplan_change", args=[plan.pk]), plan)
