"""The console's page of notification rules, to which this room adds that plans are named and not numbered."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget

from jobs.models import BackupPlan
from records.models import Rule
from records.notifying.admin import RuleAdmin, RuleForm

admin.site.unregister(Rule)


class PlansField(forms.CharField):
    """Plans by their names, one a line; kept as UUIDs. A UUID is taken as well, and shown of a plan that is no more."""

    widget = UnfoldAdminTextareaWidget

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        names = dict(BackupPlan.objects.filter(uuid__in=value).values_list("uuid", "backup_name"))
        return "\n".join(str(names.get(UUID(uuid), uuid)) for uuid in value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        return list(dict.fromkeys(_uuid_of(line.strip()) for line in text.splitlines() if line.strip()))


def _uuid_of(name: str) -> str:
    """Return the UUID of the plan with this name or UUID. Raises ValidationError."""
    try:
        return str(UUID(name))
    except ValueError:
        found = BackupPlan.objects.filter(backup_name=name).values_list("uuid", flat=True)[:2]
    match list(found):
        case [uuid]:
            return str(uuid)
        case []:
            raise forms.ValidationError(_("There is no plan with the name %(name)s."), params={"name": name})
        case _several:
            text = _("Several plans have the name %(name)s: write the UUID instead, which the plan's page shows.")
            raise forms.ValidationError(text, params={"name": name})


class NamedPlansForm(RuleForm):
    """A rule, with the names of its plans."""

    plans = PlansField(
        label=capfirst(_("plans")),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("one name a line: only events of these plans; none: of all"),
    )


@admin.register(Rule)
class NamedPlansRuleAdmin(RuleAdmin):
    """Rules."""

    form = NamedPlansForm
