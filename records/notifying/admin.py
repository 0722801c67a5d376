"""The console's pages of channels, rules and deliveries. Addresses are taken and never shown."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from backupcenter.console import ActionsOnPage, tell_done
from records.admin import ReadOnlyAdmin
from records.models import Event
from records.notifying.addresses import ChannelRefused, require_usable
from records.notifying.channels import save_channel
from records.notifying.models import Channel, Delivery, Rule
from records.notifying.sending import send_test
from records.notifying.speaking import NotTold

STATE_COLOURS = {Delivery.State.WAITING: "", Delivery.State.TOLD: "success", Delivery.State.GIVEN_UP: "danger"}


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """A channel; an address that is left empty stays as it is."""

    address = forms.CharField(
        label=capfirst(_("address")),
        required=False,
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text=_("for example mailtos://user:password@mail.example.com, slack://…, or the https:// address of a webhook"),
    )

    class Meta:
        model = Channel
        fields = ["name", "kind", "address", "language", "is_enabled"]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._present = self.instance.address
        if self.instance.pk:
            self.initial["address"] = ""
            if "address" in self.fields:
                self.fields["address"].help_text = _("Leave empty to keep the present one.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        data["address"] = data.get("address") or self._present
        if not data["address"]:
            raise forms.ValidationError({"address": _("This field is required.")})
        try:
            require_usable(Channel(kind=data.get("kind", Channel.Kind.APPRISE), address=data["address"]))
        except ChannelRefused as error:
            raise forms.ValidationError({"address": str(error)}) from error
        return data


def is_administrator(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_administrator", False))


class AdministratorsAdmin(ModelAdmin):
    """Pages for administrators alone: who sets an address has the server send requests there."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_administrator(request)

    has_add_permission = has_module_permission
    has_change_permission = has_delete_permission = has_view_permission


@admin.register(Channel)
class ChannelAdmin(ActionsOnPage, AdministratorsAdmin):
    """Channels."""

    page_actions = {"send_test": _("Send a test")}
    form = ChannelForm
    list_display = ["name", "kind", "language", "is_enabled"]
    list_filter = ["kind", "is_enabled"]
    search_fields = ["name"]
    actions = ["send_test"]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        found, counts, missing, protected = super().get_deleted_objects(objs, request)
        # What was told on a channel goes with it, though nobody deletes it by itself.
        return found, counts, set(missing) - {Delivery._meta.verbose_name}, protected

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        if secret := save_channel(obj):
            sentence = _("The webhook's secret, which is not shown again: %(secret)s")
            self.message_user(request, sentence % {"secret": secret}, messages.WARNING)

    @admin.action(description=_("Send a test on the selected channels"), permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        for channel in queryset:
            try:
                send_test(channel)
            except NotTold as error:
                self.message_user(request, f"{channel}: {error}", messages.ERROR)
            else:
                tell_done(self, request, channel, _("A test was sent on %(channel)s."), channel=channel)


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rule, with its occasions to tick."""

    occasions = forms.MultipleChoiceField(
        label=capfirst(_("occasions")), choices=Event.Occasion.choices, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Rule
        fields = [
            "name",
            "occasions",
            "channels",
            "clients",
            "plans",
            "digest",
            "quiet_from",
            "quiet_until",
            "timezone",
            "is_enabled",
        ]
        widgets = {"plans": UnfoldAdminTextareaWidget(attrs={"rows": 2})}


@admin.register(Rule)
class RuleAdmin(AdministratorsAdmin):
    """Rules."""

    form = RuleForm
    list_display = ["name", "told", "digest", "quiet_from", "quiet_until", "is_enabled"]
    search_fields = ["name"]
    autocomplete_fields = ["channels", "clients"]

    @admin.display(description=_("occasions"))
    def told(self, rule: Rule) -> str:
        return ", ".join(str(Event.Occasion(occasion).label) for occasion in rule.occasions)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What was told to whom, and what waits to be."""

    list_display = ["created_at", "channel", "event", "shown_state", "attempts", "due_at", "told_at", "error"]
    list_filter = ["state", "channel"]
    list_select_related = ["channel", "event"]
    fields = ["uid", "channel", "rule", "event", "state", "attempts", "created_at", "due_at", "told_at", "error"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_administrator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description=_("state"), ordering="state", label=STATE_COLOURS)
    def shown_state(self, delivery: Delivery) -> tuple[str, str]:
        return delivery.state, delivery.get_state_display()
