"""The commands of a plan (`jobs.commands`), a form each: which, when, and where their output goes."""

import shlex
from collections.abc import Iterator
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from jobs.commands import LONGEST_S
from jobs.models import BackupPlan

MOST_COMMANDS = 50


class CommandForm(forms.Form):
    """A command before, after or beside the backup."""

    STREAM = "stream"
    STAGES = [
        ("before", gettext_lazy("before the backup; if it fails, there is none")),
        ("before-continue", gettext_lazy("before the backup, which goes on if it fails")),
        (STREAM, gettext_lazy("its output is a file of the backup")),
        ("on_success", gettext_lazy("after a good backup")),
        ("on_failure", gettext_lazy("after one that failed")),
        ("after", gettext_lazy("after each, good or failed")),
    ]

    stage = forms.ChoiceField(label=gettext_lazy("When"), choices=STAGES, widget=UnfoldAdminSelectWidget)
    command = forms.CharField(
        label=gettext_lazy("Command"),
        required=False,
        max_length=4096,
        widget=UnfoldAdminTextInputWidget({"list": "allowed", "autocomplete": "off", "autocapitalize": "off"}),
        help_text=gettext_lazy("a name that the client allows, then parameter=value"),
    )
    file = forms.CharField(
        label=gettext_lazy("File in the backup"),
        required=False,
        max_length=4096,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("of an output, such as /dumps/shop.sql"),
    )
    timeout_s = forms.IntegerField(
        label=gettext_lazy("At most (seconds)"),
        required=False,
        min_value=1,
        max_value=LONGEST_S,
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def clean_command(self) -> list[str]:
        try:
            return shlex.split(self.cleaned_data["command"])
        except ValueError as error:
            raise ValidationError(_("A quotation mark is not closed.")) from error

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("command") and data.get("file") and "command" not in self.errors:
            self.add_error("command", _("Name a command."))
        return data


class CommandForms(forms.BaseFormSet):  # type: ignore[type-arg]
    """The commands of a plan; rows without a command count nothing."""

    problem = ""

    def wanted(self) -> dict[str, Any]:
        """Return streams and hooks as a plan's data have them."""
        streams: list[dict[str, Any]] = []
        hooks: dict[str, list[dict[str, Any]]] = {}
        for row in self.cleaned_data:
            if not row.get("command"):
                continue
            command = {"command": row["command"], **({"timeout_s": row["timeout_s"]} if row["timeout_s"] else {})}
            stage, _dash, on_failure = row["stage"].partition("-")
            if stage == CommandForm.STREAM:
                streams.append({"name": row["file"], **command})
                continue
            hooks.setdefault(stage, []).append({**command, **({"on_failure": on_failure} if on_failure else {})})
        return {"streams": streams, "hooks": hooks}


def command_forms(data: Any = None, initial: Any = None) -> CommandForms:
    """Return the forms of a plan's commands, with an empty one at the end."""
    made: Any = forms.formset_factory(CommandForm, formset=CommandForms, extra=1, max_num=MOST_COMMANDS, absolute_max=MOST_COMMANDS)
    forms_of: CommandForms = made(data, initial=initial, prefix="command")
    return forms_of


def commands_of(plan: BackupPlan) -> list[dict[str, Any]]:
    """Return the rows of `CommandForms` for a plan's commands."""
    return list(_rows(plan.data))


def _rows(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for stream in data.get("streams", []):
        yield {**_row(stream), "stage": CommandForm.STREAM, "file": stream["name"]}
    for stage, commands in data.get("hooks", {}).items():
        for command in commands:
            goes_on = command.get("on_failure") == "continue"
            yield {**_row(command), "stage": f"{stage}-continue" if goes_on else stage}


def _row(command: dict[str, Any]) -> dict[str, Any]:
    return {"command": shlex.join(command["command"]), "timeout_s": command.get("timeout_s")}
