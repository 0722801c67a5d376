"""Endpoints and tenants as the API shows and takes them."""

from typing import Any

from django.http import Http404
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import User
from backupcenter.api.fields import Int32Field, Int64Field, UnixTimeField
from backupcenter.api.fixed import without_fixed
from storage.addresses import clean_address
from storage.models import Endpoint, Repository, Tenant, Verification
from storage.secrets import MASK
from storage.tenants import find_tenant

PRINTABLE_KEY = r"^[\x21-\x7e]+\Z"


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    """An object store, or a mounted directory."""

    address = serializers.CharField(max_length=255, help_text=_("host[:port]; for type 2 the absolute path of a directory."))
    max_jobs = Int32Field(min_value=1, required=False, allow_null=True, help_text=_("Jobs at once; null: as the settings say."))

    authorities_end = UnixTimeField(
        read_only=True, allow_null=True, help_text=_("When the first of the authorities expires; null without any.")
    )

    class Meta:
        model = Endpoint
        fields = ["address", "https", "type", "display_name", "max_jobs", "authorities", "authorities_end"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = attrs.get("type", self.instance.type if self.instance else Endpoint.Type.CEPH)
        address = attrs.get("address", self.instance.address if self.instance else "")
        try:
            attrs["address"] = clean_address(address, is_directory=kind == Endpoint.Type.DIRECTORY)
        except ValueError as error:
            raise serializers.ValidationError({"address": [str(error)]}) from error
        return attrs


class NestedEndpointSerializer(EndpointSerializer):
    """An endpoint inside a tenant, plan or record."""

    class Meta(EndpointSerializer.Meta):
        fields = ["address", "https", "type", "display_name"]
        read_only_fields = fields


class EndpointKeySerializer(serializers.Serializer[Any]):
    """An endpoint as other objects refer to it."""

    address = serializers.CharField(max_length=255)


class TenantKeySerializer(serializers.Serializer[Any]):
    """A tenant as other objects refer to it."""

    username = serializers.CharField(max_length=255)
    endpoint = EndpointKeySerializer()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        try:
            found: Tenant = find_tenant(attrs["username"], attrs["endpoint"]["address"])
        except Http404 as error:
            raise serializers.ValidationError(gettext("There is no such tenant.")) from error
        return {"found": found}


class NestedTenantSerializer(serializers.ModelSerializer[Tenant]):
    """A tenant inside a plan or record: its secret key never shows there."""

    endpoint = NestedEndpointSerializer(read_only=True)
    secret_key = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ["username", "endpoint", "access_key", "secret_key", "quota", "used", "display_name"]
        read_only_fields = ["username", "access_key", "quota", "used", "display_name"]

    @extend_schema_field(str)
    def get_secret_key(self, tenant: Tenant) -> str:
        return MASK


class TenantSerializer(NestedTenantSerializer):
    """A tenant; its secret key shows to administrators only."""

    refreshed_at = UnixTimeField(read_only=True, allow_null=True)
    full_time = UnixTimeField(
        source="full_at",
        read_only=True,
        allow_null=True,
        help_text=_("When the quota is full at the present growth; null: not known, no quota, or not within ten years."),
    )

    class Meta(NestedTenantSerializer.Meta):
        times = ["full_time", "refreshed_at"]
        told = ["growth_per_day", "refresh_error", "agent_access_key", "agent_username", "lock_days"]
        fields = [*NestedTenantSerializer.Meta.fields, *times, *told]
        read_only_fields = [*NestedTenantSerializer.Meta.read_only_fields, *told]

    @extend_schema_field(str)
    def get_secret_key(self, tenant: Tenant) -> str:
        request = self.context.get("request")
        may_see = request is not None and isinstance(request.user, User) and request.user.is_administrator
        return tenant.secret_key if may_see else MASK


class KeyField(serializers.RegexField):
    """An access or secret key: printable ASCII without blanks."""

    default_error_messages = {"invalid": _("A key consists of printable ASCII characters.")}

    def __init__(self, **options: Any) -> None:
        super().__init__(PRINTABLE_KEY, **{"max_length": 255, **options})


class TenantKeysSerializer(serializers.Serializer[Any]):
    """Other keys of the same tenant, keys for its agents, and a lock. What else it has is the store's word, and stays."""

    access_key = KeyField(required=False, allow_blank=True)
    secret_key = KeyField(required=False, allow_blank=True)
    agent_access_key = KeyField(
        required=False, allow_blank=True, help_text=_("Of another user, who may not delete backups; empty: the tenant's own.")
    )
    agent_secret_key = KeyField(required=False, allow_blank=True)
    lock_days = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=36500, help_text=_("Object Lock of the buckets made from now on.")
    )
    username = serializers.CharField(max_length=255, required=False, trim_whitespace=False)
    endpoint = EndpointKeySerializer(required=False)
    display_name = serializers.CharField(max_length=255, required=False, allow_blank=True, trim_whitespace=False)
    quota = Int64Field(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        tenant = self.instance
        assert isinstance(tenant, Tenant)
        present = {
            "username": tenant.username,
            "endpoint": {"address": tenant.endpoint.address},
            "display_name": tenant.display_name,
            "quota": tenant.quota,
        }
        keys = without_fixed(attrs, present)
        names = ("agent_access_key", "agent_secret_key", "lock_days")
        settings: dict[str, Any] = {name: keys.pop(name) for name in names if name in keys}
        if settings.get("agent_access_key") == tenant.agent_access_key and not settings.get("agent_secret_key"):
            # Sent back as it was shown.
            settings = {name: value for name, value in settings.items() if name == "lock_days"}
        if any(settings.values()) and tenant.endpoint.is_directory:
            message = _("A directory has neither keys nor locks.")
            raise serializers.ValidationError({name: [message] for name, value in settings.items() if value})
        if bool(settings.get("agent_access_key")) != bool(settings.get("agent_secret_key")):
            raise serializers.ValidationError({"agent_secret_key": [_("An access key and its secret key come together.")]})
        if not tenant.endpoint.is_directory and "" in keys.values():
            raise serializers.ValidationError({name: [_("This field is required.")] for name, key in keys.items() if not key})
        return {**keys, **settings}


class NewTenantSerializer(serializers.Serializer[Any]):
    """The keys of a new tenant: the store says whose they are. A directory needs none."""

    endpoint = EndpointKeySerializer()
    access_key = KeyField(required=False, allow_blank=True, default="")
    secret_key = KeyField(required=False, allow_blank=True, default="")
    username = serializers.CharField(
        max_length=255, required=False, default="", help_text=_("For a directory only; default: its owner's name.")
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        address = attrs["endpoint"]["address"]
        endpoint = Endpoint.objects.filter(address=address).first()
        if endpoint is None:
            message = _("There is no endpoint at %(address)s.") % {"address": address}
            raise serializers.ValidationError({"endpoint": {"address": [message]}})
        if not endpoint.is_directory:
            missing = [name for name in ("access_key", "secret_key") if not attrs[name]]
            if missing:
                raise serializers.ValidationError({name: [_("This field is required.")] for name in missing})
        return {**attrs, "endpoint": endpoint}


class NestedTenantKeySerializer(serializers.ModelSerializer[Tenant]):
    """Whose repository it is."""

    endpoint = serializers.CharField(source="endpoint.address", read_only=True)

    class Meta:
        model = Tenant
        fields = ["username", "endpoint"]
        read_only_fields = fields


class VerificationSerializer(serializers.ModelSerializer[Verification]):
    """How far a repository is known to be sound."""

    state = serializers.ChoiceField(Verification.State.choices, read_only=True)
    structure_time = UnixTimeField(
        source="structure_at", read_only=True, allow_null=True, help_text=_("When its structure was last found sound.")
    )
    data_since = UnixTimeField(
        read_only=True, allow_null=True, help_text=_("Since when every byte was read; null: some were not yet.")
    )
    data_share = serializers.FloatField(read_only=True, help_text=_("Which share of the data was ever read, from 0 to 1."))

    class Meta:
        model = Verification
        fields = ["state", "structure_time", "data_since", "data_share", "problem"]
        read_only_fields = fields


class RepositorySerializer(serializers.ModelSerializer[Repository]):
    """A restic repository. Plans make them; all that can be changed is how many jobs may work in it at once."""

    tenant = NestedTenantKeySerializer(read_only=True)
    location = serializers.CharField(read_only=True)
    max_jobs = Int32Field(min_value=1, required=False, allow_null=True, help_text=_("Jobs at once; null: as the settings say."))
    used_time = UnixTimeField(source="used_at", read_only=True, allow_null=True)
    verification = VerificationSerializer(
        read_only=True, allow_null=True, help_text=_("What checks have shown; null: nothing was backed up to it yet.")
    )

    class Meta:
        model = Repository
        fields = [
            "id", "location", "tenant", "bucket", "prefix", "max_jobs", "verification", "used", "used_time", "growth_per_day"
        ]  # fmt: skip
        read_only_fields = ["id", "bucket", "prefix", "used", "growth_per_day"]


class UsageSerializer(serializers.Serializer[Any]):
    """What was used on a day."""

    day = serializers.DateField()
    used = serializers.IntegerField(help_text=_("Bytes."))
