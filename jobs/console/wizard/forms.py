"""The wizard's form, and what it begins with. It is made into what the API takes, and judged by the rules that the API has."""

import json
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from clients.models import Client
from jobs.commands import commands_problem
from jobs.console.wizard.commands import CommandForms
from jobs.console.wizard.schedule import BY_RULES, ScheduleForm
from jobs.models import BackupPlan, server_timezone
from jobs.repeating import Repeat, schedule_of
from storage.models import Tenant


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    def __init__(self, rows: int, **options: Any) -> None:
        attributes = {"rows": rows, "spellcheck": "false", "autocapitalize": "off"}
        super().__init__(required=False, max_length=1 << 20, strip=False, widget=UnfoldAdminTextareaWidget(attributes), **options)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]


class WizardForm(ScheduleForm):
    """A plan; its commands are in a form each (`CommandForms`)."""

    backup_name = forms.CharField(
        label=capfirst(gettext_lazy("name")), max_length=255, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"})
    )
    client = forms.ModelChoiceField(Client.objects.none(), label=capfirst(gettext_lazy("client")), widget=UnfoldAdminSelectWidget)
    include = LinesField(4, label=gettext_lazy("Back up"), help_text=gettext_lazy("a path a line, files or directories"))
    exclude = LinesField(
        3,
        label=gettext_lazy("Leave out"),
        help_text=gettext_lazy("a path or pattern a line, such as *.tmp or /srv/*/cache; what matches goes with all below it"),
    )
    presets = LinesField(
        2, label=gettext_lazy("Presets"), help_text=gettext_lazy("a name a line, of those that the client allows: databases, …")
    )
    tenant = forms.ModelChoiceField(Tenant.objects.none(), label=capfirst(gettext_lazy("tenant")), widget=UnfoldAdminSelectWidget)
    bucket = forms.CharField(
        label=capfirst(gettext_lazy("bucket")),
        max_length=255,
        widget=UnfoldAdminTextInputWidget({"list": "buckets", "autocomplete": "off", "autocapitalize": "off"}),
        help_text=gettext_lazy("it is made if there is none of this name"),
    )
    shared = forms.BooleanField(
        label=gettext_lazy("One repository for the whole bucket"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy(
            "Off: each client has a repository and a password of its own, and can read only what it wrote. On: what several "
            "clients have alike is stored once, and each of them can read the backups of all."
        ),
    )

    def __init__(self, *arguments: Any, commands: CommandForms, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = commands
        self.fields["client"].queryset = Client.objects.order_by("hostname")  # type: ignore[attr-defined]
        self.fields["tenant"].queryset = Tenant.objects.select_related("endpoint")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        if not self.commands.is_valid():
            self.add_error(None, _("The commands need another look."))
        return super().clean()

    def as_sent(self, data: dict[str, Any]) -> dict[str, Any]:
        wanted = {"include": data["include"], "exclude": data["exclude"], "presets": data["presets"], **self.commands.wanted()}
        backup_data = {name: value for name, value in wanted.items() if value or name in ("include", "exclude")}
        return {**super().as_sent(data), "backup_name": data["backup_name"], "backup_data": json.dumps(backup_data)}

    def require_sense(self, sent: dict[str, Any]) -> None:
        problem = commands_problem({"include": [], **self.commands.wanted()})
        if problem:
            self.commands.problem = problem
            self.add_error(None, _("The commands need another look."))
            return
        super().require_sense(sent)
        if not self.errors:
            self.plan.client, self.plan.tenant = self.cleaned_data["client"], self.cleaned_data["tenant"]
            self.plan.bucket = self.cleaned_data["bucket"]


def empty_values() -> dict[str, Any]:
    """Return what the wizard begins with."""
    return {
        "repeat": Repeat.DAILY,
        "at": "03:00",
        "weekdays": ["SUN"],
        "day": "1",
        "hours": 6,
        "minutes": 15,
        "timezone": server_timezone(),
        "misfire": BackupPlan.Misfire.RUN_ONCE,
        "hold_type": BY_RULES,
        "hold_time": 30,
        "keep": {"daily": 14, "weekly": 8, "monthly": 12},
    }


def values_of(plan: BackupPlan) -> dict[str, Any]:
    """Return what the wizard begins with for another plan like this one."""
    words, zone = schedule_of(plan.cron_expression), ZoneInfo(plan.timezone)
    every = {Repeat.HOURLY: {"hours": words.every}, Repeat.MINUTES: {"minutes": words.every}}.get(words.repeat, {})
    return {
        **empty_values(),
        "backup_name": _("%(plan)s (copy)") % {"plan": plan.backup_name},
        "client": plan.client_id,
        **{name: plan.data.get(name, []) for name in ("include", "exclude", "presets")},
        "tenant": plan.tenant_id,
        "bucket": plan.bucket,
        "shared": plan.repository.prefix == "",
        "repeat": words.repeat,
        "at": f"{words.at:%H:%M}",
        "weekdays": list(words.weekdays) or ["SUN"],
        "day": words.day,
        **every,
        "cron_expression": plan.cron_expression or "",
        "timezone": plan.timezone,
        "end": plan.end_time.astimezone(zone) if plan.end_time else None,
        "jitter_s": plan.jitter_s or "",
        "misfire": plan.misfire,
        "hold_type": BY_RULES if plan.keep else str(plan.hold_type),
        "hold_time": plan.hold_time or 30,
        "keep": plan.keep or empty_values()["keep"],
    }
