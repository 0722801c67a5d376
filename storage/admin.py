"""The console's pages of endpoints, tenants and repositories. Secrets are taken and never shown."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from backupcenter.api.exceptions import Conflict
from backupcenter.console import ActionsOnPage, LookOnly
from backupcenter.deleting import NameToDelete
from engine.errors import EngineError, StoreError
from storage import probing
from storage.addresses import clean_address
from storage.buckets import restrict_agents
from storage.endpoints import require_endpoint
from storage.models import Endpoint, Repository, Tenant, UsageSample, Verification
from storage.showing import verification_lines, verification_state
from storage.tenants import new_tenant, refresh_tenants, take_agent_keys, take_keys

# Every state has its place, if no colour: of one that is missing the list would show the key.
VERIFICATION_COLOURS = {
    Verification.State.WAITING: "",
    Verification.State.SOUND: "success",
    Verification.State.OVERDUE: "warning",
    Verification.State.DAMAGED: "danger",
}


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    """An endpoint, which is checked when it is saved."""

    class Meta:
        model = Endpoint
        fields = ["address", "https", "type", "display_name", "authorities", "max_jobs"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.errors:
            return data
        try:
            data["address"] = clean_address(data["address"], is_directory=data["type"] == Endpoint.Type.DIRECTORY)
            require_endpoint(Endpoint(pk=self.instance.pk, **data))
        except (ValueError, EngineError) as error:
            raise forms.ValidationError({"address": str(error)}) from error
        except Conflict as error:
            raise forms.ValidationError(str(error.detail)) from error
        return data


@admin.register(Endpoint)
class EndpointAdmin(NameToDelete, ActionsOnPage, ModelAdmin):
    """Endpoints."""

    lost = _("The server forgets the store's address. What is in the store stays there.")

    page_actions = {"verify": _("Check that it answers")}
    form = EndpointForm
    list_display = ["address", "display_name", "type", "https", "tenant_count"]
    list_filter = ["type", "https"]
    search_fields = ["address", "display_name"]
    readonly_fields = ["authorities_end"]
    actions = ["verify"]

    @admin.display(description=_("the authorities expire"))
    def authorities_end(self, endpoint: Endpoint) -> datetime | None:
        return endpoint.authorities_end

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        rows: QuerySet[Endpoint] = super().get_queryset(request).annotate(tenant_count=Count("tenants"))
        return rows

    @admin.display(description=_("tenants"), ordering="tenant_count")
    def tenant_count(self, endpoint: Any) -> int:
        return int(endpoint.tenant_count)

    @admin.action(description=_("Check that the selected endpoints answer"), permissions=["change"])
    def verify(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            try:
                probing.check_endpoint(endpoint)
            except StoreError as error:
                self.message_user(request, f"{endpoint}: {error}", messages.ERROR)
            else:
                self.message_user(request, gettext("%(endpoint)s answers.") % {"endpoint": endpoint}, messages.SUCCESS)


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """The keys of a tenant: the store says the rest."""

    secret_key = forms.CharField(
        label=capfirst(_("secret key")), required=False, widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
    )

    agent_secret_key = forms.CharField(
        label=capfirst(_("agents' secret key")),
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Tenant
        fields = ["endpoint", "username", "access_key", "secret_key", "agent_access_key", "agent_secret_key", "lock_days"]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.instance.pk:
            for name in ("secret_key", "agent_secret_key"):
                self.initial[name] = ""
                if name in self.fields:
                    self.fields[name].help_text = _("Leave empty to keep the present one.")
        elif "username" in self.fields:
            self.fields["username"].required = False
            self.fields["username"].help_text = _("For a directory only; a store names its users itself.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.errors:
            return data
        present = Tenant.objects.select_related("endpoint").get(pk=self.instance.pk) if self.instance.pk else None
        secret_key = data["secret_key"] or (present.secret_key if present else "")
        data["secret_key"] = secret_key
        endpoint = present.endpoint if present else data["endpoint"]
        keys = {} if endpoint.is_directory else {"access_key": data["access_key"], "secret_key": secret_key}
        missing = {name: gettext("This field is required.") for name, key in keys.items() if not key}
        if missing:
            raise forms.ValidationError(missing)
        try:
            if present is None:
                self.instance = new_tenant(data["endpoint"], data["access_key"], secret_key, username=data.get("username", ""))
            else:
                take_keys(present, data["access_key"], secret_key)
                self.instance = present
            self._take_agent_keys(data)
        except (StoreError, APIException) as error:
            raise forms.ValidationError(str(error)) from error
        data["username"] = self.instance.username
        return data

    def _take_agent_keys(self, data: dict[str, Any]) -> None:
        tenant = self.instance
        access_key = data.get("agent_access_key", "")
        secret_key = data.get("agent_secret_key", "")
        if tenant.endpoint.is_directory and (access_key or secret_key or data.get("lock_days")):
            raise StoreError(gettext("A directory has neither keys nor locks."))
        if access_key == tenant.agent_access_key and not secret_key:
            secret_key = tenant.agent_secret_key
        elif bool(access_key) != bool(secret_key):
            raise StoreError(gettext("An access key and its secret key come together."))
        else:
            take_agent_keys(tenant, access_key, secret_key)
            if tenant.pk:
                restrict_agents(tenant)
        data["agent_secret_key"] = secret_key


def growth_text(per_day: int | None) -> str:
    """Return by how much it grows a day, or that nobody knows yet."""
    if per_day is None:
        return gettext("not known yet")
    return filesizeformat(per_day) if per_day > 0 else gettext("does not grow")


def usage_link(query: str) -> str:
    """Return a link to the use by day that a query names."""
    address = reverse("admin:storage_usagesample_changelist")
    return format_html('<a class="text-link" href="{}?{}">{}</a>', address, query, gettext("all days"))


@admin.register(UsageSample)
class UsageSampleAdmin(LookOnly, ModelAdmin):
    """How much was used on each day."""

    list_display = ["day", "tenant", "repository", "used_text"]
    list_filter = [("tenant", AutocompleteSelectFilter), ("repository", admin.EmptyFieldListFilter)]
    list_filter_submit = True
    list_select_related = ["tenant__endpoint", "repository__tenant__endpoint"]
    fields = ["day", "tenant", "repository", "used_text"]

    @admin.display(description=_("used"), ordering="used")
    def used_text(self, sample: UsageSample) -> str:
        return filesizeformat(sample.used)


@admin.register(Tenant)
class TenantAdmin(NameToDelete, ActionsOnPage, ModelAdmin):
    """Tenants, created from their keys alone."""

    lost = _("The server forgets the keys of the store's user. The user and what is in the store stay there.")

    page_actions = {"refresh": _("Read it from its store now")}
    form = TenantForm
    list_display = ["username", "endpoint", "used_text", "quota_text", "growth", "full_at", "refreshed_at", "is_well"]
    list_filter = ["endpoint"]
    list_select_related = ["endpoint"]
    search_fields = ["username", "display_name", "endpoint__address"]
    actions = ["refresh"]
    autocomplete_fields = ["endpoint"]

    def get_fields(self, request: HttpRequest, obj: Tenant | None = None) -> list[str]:
        taken = ["endpoint", "username", "access_key"]
        if self.has_change_permission(request, obj):
            # Who may only look would be shown its value instead of an empty input.
            taken += ["secret_key", "agent_access_key", "agent_secret_key", "lock_days"]
        told = ["display_name", "quota_text", "used_text", "growth", "full_at", "by_day", "refreshed_at", "refresh_error"]
        return taken if obj is None else taken + told

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> list[str]:
        told = ["display_name", "quota_text", "used_text", "growth", "full_at", "by_day", "refreshed_at", "refresh_error"]
        return told if obj is None else ["endpoint", "username", *told]

    @admin.display(description=_("growth a day"), ordering="growth_per_day")
    def growth(self, tenant: Tenant) -> str:
        return growth_text(tenant.growth_per_day)

    @admin.display(description=_("use by day"))
    def by_day(self, tenant: Tenant) -> str:
        return usage_link(f"tenant__id__exact={tenant.pk}&repository__isnull=True")

    @admin.display(description=_("used"), ordering="used")
    def used_text(self, tenant: Tenant) -> str:
        return "-" if tenant.used is None else filesizeformat(tenant.used)

    @admin.display(description=_("quota"), ordering="quota")
    def quota_text(self, tenant: Tenant) -> str:
        return "-" if tenant.quota is None else filesizeformat(tenant.quota)

    @admin.display(description=_("answers"), boolean=True, ordering="refresh_error")
    def is_well(self, tenant: Tenant) -> bool:
        return not tenant.refresh_error

    @admin.action(description=_("Read the selected tenants from their stores"), permissions=["change"])
    def refresh(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        tenants = list(queryset.select_related("endpoint"))
        refresh_tenants(tenants)
        for tenant in tenants:
            if tenant.refresh_error:
                self.message_user(request, f"{tenant}: {tenant.refresh_error}", messages.ERROR)
            else:
                self.message_user(request, gettext("%(tenant)s was read.") % {"tenant": tenant}, messages.SUCCESS)


@admin.register(Repository)
class RepositoryAdmin(NameToDelete, ModelAdmin):
    """Repositories. Plans make them; without its password, which is kept here alone, one cannot be read."""

    lost = _(
        "The server forgets the repository and its password. What is in the store stays there, and nobody can open it any more "
        "unless the password is in a recovery kit."
    )

    list_display = ["location", "tenant", "used_text", "growth", "max_jobs", "shown_verification", "created_at"]
    list_filter = ["tenant__endpoint", ("tenant", AutocompleteSelectFilter)]
    list_filter_submit = True
    list_per_page = 25
    list_select_related = ["tenant__endpoint", "verification"]
    search_fields = ["bucket", "prefix", "repository_id"]
    TOLD = ["verified", "checks", "used_text", "used_at", "growth", "by_day"]
    readonly_fields = ["location", "tenant", "bucket", "prefix", "repository_id", "created_at", *TOLD]
    fields = ["location", "tenant", "bucket", "prefix", "repository_id", "created_at", *TOLD, "max_jobs"]

    @admin.display(description=_("location"), ordering="bucket")
    def location(self, repository: Repository) -> str:
        return repository.location

    @admin.display(description=_("used"), ordering="used")
    def used_text(self, repository: Repository) -> str:
        return "-" if repository.used is None else filesizeformat(repository.used)

    @admin.display(description=_("growth a day"), ordering="growth_per_day")
    def growth(self, repository: Repository) -> str:
        return growth_text(repository.growth_per_day)

    @admin.display(description=_("use by day"))
    def by_day(self, repository: Repository) -> str:
        return usage_link(f"repository__id__exact={repository.pk}")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @display(description=_("verified"), ordering="verification__structure_at", label=VERIFICATION_COLOURS)
    def shown_verification(self, repository: Repository) -> tuple[str, str]:
        state = verification_state(repository)
        return state, str(Verification.State(state).label)

    @admin.display(description=_("verified"))
    def verified(self, repository: Repository) -> str:
        return verification_lines(repository)

    @admin.display(description=_("checks"))
    def checks(self, repository: Repository) -> str:
        address = reverse("admin:records_maintenancerun_changelist")
        query = f"?repository__id__exact={repository.pk}"
        return format_html('<a class="text-link" href="{}{}">{}</a>', address, query, gettext("all runs"))
