"""Serializer fields of the API: times in Unix seconds, addresses as numbers, integers that fit the database."""

import math
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from backupcenter.api.keys import ipv4_number
from backupcenter.api.text import storable

MAX_INT64 = (1 << 63) - 1
MAX_INT32 = (1 << 31) - 1
MAX_IPV4 = (1 << 32) - 1
# Two days before Python's last second, so that no time zone carries it over.
MAX_TIME = 253402128000


@extend_schema_field({"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_TIME})
class UnixTimeField(serializers.Field):  # type: ignore[type-arg]
    """An aware datetime, in JSON whole seconds since 1970 in UTC."""

    default_error_messages = {
        "invalid": _("Must be whole seconds since 1970-01-01 00:00 UTC."),
        "range": _("Is no time between the years 1970 and 9999."),
    }

    def to_internal_value(self, data: Any) -> datetime:
        if isinstance(data, str) and data.isascii() and data.isdigit() and len(data) <= 12:
            data = int(data)
        if isinstance(data, float) and data.is_integer():
            data = int(data)
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        if not 0 <= data <= MAX_TIME:
            self.fail("range")
        return datetime.fromtimestamp(data, UTC)

    def to_representation(self, value: datetime) -> int:
        return int(value.timestamp())


@extend_schema_field({"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_IPV4})
class Ipv4Field(serializers.Field):  # type: ignore[type-arg]
    """An IPv4 address as an unsigned 32-bit integer; the dotted form is taken too."""

    default_error_messages = {"invalid": _("Must be an IPv4 address as an unsigned 32-bit integer.")}

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str):
            data = ipv4_number(data.strip())
        if isinstance(data, bool) or not isinstance(data, int) or not 0 <= data <= MAX_IPV4:
            self.fail("invalid")
        return int(data)

    def to_representation(self, value: int) -> int:
        return value


class Ipv6Field(serializers.IPAddressField):
    """An IPv6 address as text, in its canonical form."""

    def __init__(self, **options: Any) -> None:
        super().__init__(protocol="ipv6", **options)

    def to_internal_value(self, data: Any) -> Any:
        # A zone means something to its own host only.
        if not isinstance(data, str) or "%" in data:
            self.fail("invalid")
        return super().to_internal_value(data)


class Int64Field(serializers.IntegerField):
    """An integer of 64 bits. `min_value` defaults to 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, "max_value": MAX_INT64, **options})


class Int32Field(serializers.IntegerField):
    """An integer of 32 bits, as the database's plain integer columns hold."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": -MAX_INT32 - 1, "max_value": MAX_INT32, **options})


class FiniteFloatField(serializers.FloatField):
    """A number that JSON can hold: neither infinite nor none at all."""

    def to_internal_value(self, data: Any) -> float:
        number = super().to_internal_value(data)
        if not math.isfinite(number):
            self.fail("invalid")
        return number


class ReportedTextField(serializers.CharField):
    """Text of a report, which must not be refused for it: what the database cannot hold is replaced, what is too long is cut.

    `length`: characters that are kept.
    """

    def __init__(self, *, length: int, **options: Any) -> None:
        super().__init__(**{"allow_blank": True, **options})
        self.length = length

    def to_internal_value(self, data: Any) -> str:
        return storable(super().to_internal_value(data))[: self.length]


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})
class ReportedValueField(serializers.Field):  # type: ignore[type-arg]
    """A figure, or a text as `ReportedTextField` takes it."""

    default_error_messages = {"invalid": _("Must be a text or a finite number.")}

    def __init__(self, *, length: int, **options: Any) -> None:
        super().__init__(**options)
        self.length = length

    def to_internal_value(self, data: Any) -> str | int | float:
        if isinstance(data, str):
            return storable(data)[: self.length]
        if not isinstance(data, int | float) or not math.isfinite(data):
            self.fail("invalid")
        return data

    def to_representation(self, value: str | int | float) -> str | int | float:
        return value
