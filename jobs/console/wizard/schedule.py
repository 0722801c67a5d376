"""When, and how long kept: what the wizard asks, and its previews need. It is judged by the rules that the API has."""

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from jobs.console.retention import KeepField
from jobs.models import BackupPlan, server_timezone
from jobs.planning import check_plan
from jobs.quartz import WEEKDAYS
from jobs.repeating import HOURS, LAST_DAY, MINUTES, Repeat, Schedule
from jobs.serializers import PlanFieldsSerializer

BY_RULES = "rules"
DAY_NAMES = [
    gettext_lazy("Sunday"),
    gettext_lazy("Monday"),
    gettext_lazy("Tuesday"),
    gettext_lazy("Wednesday"),
    gettext_lazy("Thursday"),
    gettext_lazy("Friday"),
    gettext_lazy("Saturday"),
]
# Where the wizard shows what the plan's rules find wrong with a field.
SHOWN_AT = {"backup_data": "include", "start_time": "start", "end_time": "end"}


class LocalTimeField(forms.DateTimeField):
    """A time as the chosen zone's clocks show it; the form makes it aware."""

    def __init__(self, **options: Any) -> None:
        widget = UnfoldAdminTextInputWidget({"type": "datetime-local", "step": "1"})
        super().__init__(required=False, widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> datetime | None:
        try:
            return datetime.fromisoformat(value).replace(tzinfo=None) if value else None
        except ValueError as error:
            raise ValidationError(_("Enter a date and a time.")) from error


class ScheduleForm(forms.Form):
    """When, and how long kept: all that the previews need."""

    repeat = forms.ChoiceField(label=gettext_lazy("How often"), choices=Repeat.choices, widget=UnfoldAdminSelectWidget)
    at = forms.TimeField(
        label=gettext_lazy("At"),
        required=False,
        widget=UnfoldAdminTextInputWidget({"type": "time"}),
        help_text=gettext_lazy("every so many hours: the minute counts alone"),
    )
    weekdays = forms.MultipleChoiceField(
        label=gettext_lazy("On"),
        required=False,
        choices=list(zip(WEEKDAYS, DAY_NAMES, strict=True)),
        widget=forms.CheckboxSelectMultiple,
    )
    day = forms.ChoiceField(
        label=gettext_lazy("On day"),
        required=False,
        choices=[*((str(day), str(day)) for day in range(1, 32)), (LAST_DAY, gettext_lazy("the last"))],
        widget=UnfoldAdminSelectWidget,
        help_text=gettext_lazy("in months that have it"),
    )
    hours = forms.TypedChoiceField(
        label=gettext_lazy("Hours between"), required=False, coerce=int, choices=[(each, str(each)) for each in HOURS],
        widget=UnfoldAdminSelectWidget,
    )  # fmt: skip
    minutes = forms.TypedChoiceField(
        label=gettext_lazy("Minutes between"), required=False, coerce=int, choices=[(each, str(each)) for each in MINUTES],
        widget=UnfoldAdminSelectWidget,
    )  # fmt: skip
    cron_expression = forms.CharField(
        label=capfirst(gettext_lazy("Quartz expression")),
        required=False,
        widget=UnfoldAdminTextInputWidget({"spellcheck": "false", "autocapitalize": "off"}),
        help_text=gettext_lazy("seconds, minutes, hours, day of month, month, day of week; such as 0 0 4 ? * SUN#1"),
    )
    timezone = forms.ChoiceField(label=capfirst(gettext_lazy("time zone")), widget=UnfoldAdminSelectWidget)
    start = LocalTimeField(label=gettext_lazy("Not before"), help_text=gettext_lazy("empty: from now on"))
    end = LocalTimeField(label=gettext_lazy("Not after"))
    jitter_s = forms.CharField(
        label=capfirst(gettext_lazy("jitter (seconds)")),
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("each run may begin so much later, by a part of it that the plan and the fire decide"),
    )
    misfire = forms.ChoiceField(
        label=capfirst(gettext_lazy("missed fires")), choices=BackupPlan.Misfire.choices, widget=UnfoldAdminSelectWidget
    )
    hold_type = forms.ChoiceField(
        label=gettext_lazy("Keep"),
        choices=[*((str(value), label) for value, label in BackupPlan.HoldType.choices), (BY_RULES, gettext_lazy("by keep rules"))],
        widget=UnfoldAdminSelectWidget,
    )
    hold_time = forms.CharField(label=gettext_lazy("How many"), required=False, widget=UnfoldAdminIntegerFieldWidget)
    keep = KeepField(
        label=capfirst(gettext_lazy("keep rules")),
        required=False,
        max_length=400,
        help_text=gettext_lazy(
            "like: last 7, daily 14, weekly 8, monthly unlimited, within 30d. Those of restic: last, hourly, daily, weekly, "
            "monthly, yearly; within, within_hourly, …"
        ),
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        zones = sorted(available_timezones() | {server_timezone()})
        self.fields["timezone"].choices = [(zone, zone) for zone in zones]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("hold_type") == BY_RULES and data.get("keep") == {}:
            self.add_error("keep", _("Name at least one rule."))
        if not self.errors:
            self.require_sense(self.as_sent(data))
        return data

    def require_sense(self, sent: dict[str, Any]) -> None:
        """Judge the plan as the API does, which `sent` would be sent to; `plan` is it then, not stored, and `sent` its fields."""
        form = PlanFieldsSerializer(data=sent)
        if not form.is_valid():
            self.tell(dict(form.errors))
            return
        self.sent = dict(form.validated_data)
        self.plan = BackupPlan(**self.sent)
        try:
            check_plan(self.plan)
        except ValidationError as error:
            self.tell(error.message_dict)

    def as_sent(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return what the API would be sent."""
        schedule = Schedule(
            Repeat(data["repeat"]),
            data["at"] or time(0),
            data["weekdays"],
            data["day"] or "1",
            data["minutes"] or MINUTES[0] if data["repeat"] == Repeat.MINUTES else data["hours"] or HOURS[0],
            data["cron_expression"],
        )
        zone = ZoneInfo(data["timezone"])
        start = data["start"].replace(tzinfo=zone) if data["start"] else timezone.now()
        by_rules = data["hold_type"] == BY_RULES
        hold_type = BackupPlan.HoldType.FOREVER if by_rules else BackupPlan.HoldType(int(data["hold_type"]))
        is_held = hold_type != BackupPlan.HoldType.FOREVER
        return {
            # The previews do without a name and paths.
            "backup_name": "-",
            "backup_data": '{"include": ["/"]}',
            "cron_expression": schedule.expression,
            "timezone": data["timezone"],
            "start_time": int(start.astimezone(UTC).timestamp()),
            "end_time": int(data["end"].replace(tzinfo=zone).timestamp()) if data["end"] else None,
            "jitter_s": data["jitter_s"] or 0,
            "misfire": data["misfire"],
            "hold_type": hold_type.value,
            "hold_time": (data["hold_time"] or 0) if is_held else 0,
            "keep": data["keep"] if by_rules else None,
        }

    def tell(self, problems: dict[str, Any]) -> None:
        """Show what is wrong at the fields that it is about."""
        for name, sentences in problems.items():
            place = SHOWN_AT.get(name, name)
            if name == "cron_expression" and self.cleaned_data.get("repeat") == Repeat.WEEKLY:
                place, sentences = "weekdays", [_("Choose at least one day.")]
            for sentence in sentences:
                self.add_error(place if place in self.fields else None, str(sentence))
