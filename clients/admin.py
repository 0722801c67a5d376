"""The console's pages of clients and join tokens."""

import ipaddress
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from backupcenter.api.keys import ipv4_number
from backupcenter.console import ActionsOnPage, tell_done
from backupcenter.deleting import NameToDelete
from clients.compatibility import AgentStatus
from clients.joining import join_command
from clients.leaving import revoke
from clients.models import AgentLogin, Client, JoinToken

# Every status has its place, if no colour: of one that is missing the list would show the name.
AGENT_COLOURS = {None: "", AgentStatus.CURRENT: "", AgentStatus.OUTDATED: "warning", AgentStatus.UNSUPPORTED: "danger"}

STATUS_SIGNS = {"ok": "✓", "note": "·", "failed": "✗"}


class Ipv4FormField(forms.CharField):
    """An IPv4 address, written with dots and kept as a number."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return str(ipaddress.IPv4Address(value)) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        number = ipv4_number(text)
        if number is None:
            raise forms.ValidationError(_("This is no IPv4 address."))
        return number

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class ClientForm(forms.ModelForm):  # type: ignore[type-arg]
    """A client with its addresses as people write them."""

    ipv4 = Ipv4FormField(label=_("IPv4 address"), required=False)

    class Meta:
        model = Client
        fields = ["hostname", "ipv4", "ipv6", "root", "max_jobs"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and data.get("ipv4") is None and not data.get("ipv6"):
            raise forms.ValidationError(_("A client needs an IPv4 or an IPv6 address."))
        return data


class OnlineFilter(admin.SimpleListFilter):
    """Clients that are there, or not."""

    title = _("online")
    parameter_name = "online"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Client]) -> QuerySet[Client]:
        heard = {"last_seen__gte": timezone.now() - timedelta(seconds=settings.CLIENT_OFFLINE_S)}
        match self.value():
            case "yes":
                return queryset.filter(**heard)
            case "no":
                return queryset.exclude(**heard)
            case _:
                return queryset


@admin.register(Client)
class ClientAdmin(NameToDelete, ActionsOnPage, ModelAdmin):
    """Clients."""

    lost = _("Its agent is cut off at once, and what it does is ended. Its backups stay and can be restored to another client.")

    page_actions = {"issue_join_token": _("Show the command to join with")}
    form = ClientForm
    list_display = ["hostname", "address", "is_online", "last_seen", "shown_version", "os", "load", "running_jobs", "has_joined"]
    list_filter = [OnlineFilter, "version", "os"]
    list_per_page = 25
    search_fields = ["hostname", "ipv6", "os"]
    heard_fields = ["os", "version", "agent", "load", "running_jobs", "last_seen"]
    readonly_fields = [*heard_fields, "created_at", "shown_login", "shown_allowed", "checked_at", "shown_checks"]
    fields = ["hostname", "ipv4", "ipv6", "root", "max_jobs", *readonly_fields]
    actions = ["issue_join_token", "revoke_agent"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Client]:
        rows: QuerySet[Client] = super().get_queryset(request)
        return rows.annotate(joined=Exists(AgentLogin.objects.filter(client=OuterRef("pk"))))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        number = ipv4_number(search_term.strip())
        return (found if number is None else found | queryset.filter(ipv4=number)), has_duplicates

    def save_model(self, request: HttpRequest, obj: Client, form: Any, change: bool) -> None:
        # Not the whole row: its agent may join, or be heard of, at this moment.
        obj.save(update_fields=form.changed_data if change else None)

    @admin.display(description=_("address"), ordering="ipv4")
    def address(self, client: Client) -> str:
        return client.address

    @admin.display(description=_("online"), boolean=True, ordering="last_seen")
    def is_online(self, client: Client) -> bool:
        return client.online

    @display(description=_("agent version"), ordering="version", label=AGENT_COLOURS)
    def shown_version(self, client: Client) -> tuple[str | None, str]:
        return client.agent_status, client.version or "-"

    @admin.display(description=_("agent"))
    def agent(self, client: Client) -> str:
        return str(client.agent_status.label) if client.agent_status else "-"

    @admin.display(description=_("what the agent has checked"))
    def shown_checks(self, client: Client) -> str:
        rows = (
            (STATUS_SIGNS[check["status"]], check["name"], check["found"], f"→ {check['fix']}" if check["fix"] else "")
            for check in client.checks
        )
        return format_html_join("", "<div>{} {}: {} {}</div>", rows) or "-"

    @admin.display(description=_("allowed commands"))
    def shown_allowed(self, client: Client) -> str:
        return ", ".join(client.allowed) or "-"

    @admin.display(description=_("jobs at work"))
    def running_jobs(self, client: Client) -> str:
        return ", ".join(client.running) or "-"

    @admin.display(description=_("joined"), boolean=True)
    def has_joined(self, client: Client) -> bool:
        return bool(getattr(client, "joined", False))

    @admin.display(description=_("the agent's login"))
    def shown_login(self, client: Client) -> str:
        login = client.logins.order_by("pk").last()
        if login is None:
            return "-"
        kind = gettext("with a login of its own to the broker") if login.broker_hash else gettext("with the broker's shared login")
        expiry = date_format(timezone.localtime(login.expires_at), "DATETIME_FORMAT") if login.expires_at else gettext("never")
        issued = date_format(timezone.localtime(login.created_at), "DATETIME_FORMAT")
        return gettext("issued %(issued)s, %(kind)s, expires: %(expiry)s") % {"issued": issued, "kind": kind, "expiry": expiry}

    @admin.action(description=_("Issue a join token"), permissions=["change"])
    def issue_join_token(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        for client in queryset:
            row, token = JoinToken.issue(client, created_by=request.user.get_username())
            show_token(self, request, row, token)
            tell_done(self, request, client, _("A join token for %(client)s was issued."), client=client)

    @admin.action(description=_("Revoke the agent's login"), permissions=["change"])
    def revoke_agent(self, request: HttpRequest, queryset: QuerySet[Client]) -> None:
        for client in queryset:
            revoke(client)
            tell_done(self, request, client, _("%(client)s has to join again."), client=client)


@admin.register(JoinToken)
class JoinTokenAdmin(ModelAdmin):
    """Join tokens; a new one shows once, when it is saved."""

    list_display = ["created_at", "client", "created_by", "expires_at", "used_at"]
    list_filter = ["used_at", ("client", AutocompleteSelectFilter)]
    list_filter_submit = True
    list_select_related = ["client"]
    search_fields = ["client__hostname", "created_by"]
    fields = ["client", "created_by", "created_at", "expires_at", "used_at"]
    readonly_fields = ["created_by", "created_at", "expires_at", "used_at"]
    autocomplete_fields = ["client"]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **options)
        if field is not None and db_field.name == "client":
            field.help_text = _("Empty: for a host that is new here. To give a client another agent takes a token for that client.")
        return field

    def save_model(self, request: HttpRequest, obj: JoinToken, form: Any, change: bool) -> None:
        row, token = JoinToken.issue(obj.client, created_by=request.user.get_username())
        # What the page reports on is the row that was stored.
        obj.__dict__.update(row.__dict__)
        show_token(self, request, row, token)

    def has_change_permission(self, request: HttpRequest, obj: JoinToken | None = None) -> bool:
        return False


def show_token(page: ModelAdmin, request: HttpRequest, row: JoinToken, token: str) -> None:
    """Show the command to join with, this once."""
    text = gettext("Run this on %(client)s, as root and once; it works until %(time)s:")
    client = row.client or gettext("any client")
    names = {"client": client, "time": date_format(timezone.localtime(row.expires_at), "DATETIME_FORMAT")}
    shown = '{}<span class="line"><code>{}</code><button type="button" data-copy>{}</button></span>'
    page.message_user(request, format_html(shown, text % names, join_command(token), gettext("Copy")), messages.WARNING)
