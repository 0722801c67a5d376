"""Endpoints and tenants as the API shows and takes them."""

import ipaddress
import os
import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import User
from backupcenter.api.fields import UnixTimeField
from storage.models import Endpoint, Tenant
from storage.secrets import MASK

LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?", re.ASCII)
PRINTABLE_KEY = r"^[\x21-\x7e]+\Z"


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    """An object store, or a mounted directory."""

    address = serializers.CharField(max_length=255, help_text=_("host[:port]; for type 2 the absolute path of a directory."))

    class Meta:
        model = Endpoint
        fields = ["address", "https", "type", "display_name"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind = attrs.get("type", self.instance.type if self.instance else Endpoint.Type.CEPH)
        address = attrs.get("address", self.instance.address if self.instance else "")
        try:
            attrs["address"] = clean_address(address, is_directory=kind == Endpoint.Type.DIRECTORY)
        except ValueError as error:
            raise serializers.ValidationError({"address": [str(error)]}) from error
        return attrs


def clean_address(address: str, *, is_directory: bool) -> str:
    """Return the address in its one spelling. Raises ValueError with a sentence if it is none."""
    if is_directory:
        if not address.startswith("/") or not address.isprintable():
            raise ValueError(_("A directory's address is its absolute path."))
        return "/" + os.path.normpath(address).strip("/")
    host, port = split_address(address)
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(_("A port is a number from 1 to 65535."))
    if not host:
        raise ValueError(_("An object store's address is host:port, without a scheme or a path."))
    return address


def split_address(address: str) -> tuple[str, int | None]:
    """Return host and port of `host`, `host:port` or `[ipv6]:port`; the host is empty if it is none of them."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", address, re.ASCII)
    if match is None:
        return "", None
    host, port = match[1], None if match[2] is None else int(match[2])
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return "", port
        return host, port
    return (host if HOST.fullmatch(host) else ""), port


class EndpointKeySerializer(serializers.Serializer[Any]):
    """An endpoint as other objects refer to it."""

    address = serializers.CharField(max_length=255)


class NestedTenantSerializer(serializers.ModelSerializer[Tenant]):
    """A tenant inside a plan or record: its secret key never shows there."""

    endpoint = EndpointSerializer(read_only=True)
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

    class Meta(NestedTenantSerializer.Meta):
        fields = [*NestedTenantSerializer.Meta.fields, "refreshed_at", "refresh_error"]
        read_only_fields = [*NestedTenantSerializer.Meta.read_only_fields, "refresh_error"]

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
    """Other keys of the same tenant."""

    access_key = KeyField(required=False)
    secret_key = KeyField(required=False)


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
