"""What lists of records can be narrowed down by."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import QuerySet, TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils.translation import gettext_lazy as _
from django_filters import rest_framework as filters

from backupcenter.api.fields import MAX_TIME
from backupcenter.api.keys import address_of_key
from records.models import BackupRecord, RecoveryRecord, State


def by_since(rows: QuerySet[Any], name: str, value: int) -> QuerySet[Any]:
    return rows.filter(queued_at__gte=datetime.fromtimestamp(value, UTC))


def by_until(rows: QuerySet[Any], name: str, value: int) -> QuerySet[Any]:
    # By the column that narrows: by number, all rows that are newer would be read first.
    return rows.filter(queued_at__lte=datetime.fromtimestamp(value, UTC)).order_by("-queued_at", "-pk")


class SecondsFilter(filters.NumberFilter):
    """Whole Unix seconds."""

    field_class = forms.IntegerField


class TimeFilter(filters.Filter):
    """Unix seconds."""

    field_class = forms.IntegerField


class ClientAddressField(forms.CharField):
    """A client's address as its IPv4 number or its IPv6 text, in any form that a key in a path may have."""

    def clean(self, value: Any) -> int | str | None:
        text = super().clean(value)
        address = address_of_key(text) if text else None
        if text and address is None:
            raise forms.ValidationError(_("Must be an IPv4 or IPv6 address."))
        return address


class ClientFilter(filters.CharFilter):
    """A client's address."""

    field_class = ClientAddressField


class RecordFilter(filters.FilterSet):
    """By state, client and time. Times are Unix seconds of when the job was queued."""

    # Not distinct: no row is found twice by a column of its own, and whole rows would be sorted to see that.
    state = filters.MultipleChoiceFilter(choices=State.choices, distinct=False, help_text=_("May be repeated."))
    client = ClientFilter(method="by_client", help_text=_("The client's IPv4 or IPv6 address, in any form of a path's key."))
    since = SecondsFilter(method=by_since, min_value=0, max_value=MAX_TIME)
    until = SecondsFilter(method=by_until, min_value=0, max_value=MAX_TIME)

    def by_client(self, rows: QuerySet[Any], name: str, value: int | str) -> QuerySet[Any]:
        return rows.filter(client__ipv4=value) if isinstance(value, int) else rows.filter(client__ipv6=value)


class BackupRecordFilter(RecordFilter):
    backup = filters.UUIDFilter(field_name="plan_uuid", help_text=_("The plan's UUID."))

    class Meta:
        model = BackupRecord
        fields = ["backup", "client", "state", "since", "until"]


class RecoveryRecordFilter(RecordFilter):
    backup = filters.UUIDFilter(method="by_backup", help_text=_("The UUID of the plan that was restored from."))

    class Meta:
        model = RecoveryRecord
        fields = ["backup", "client", "state", "since", "until"]

    def by_backup(self, rows: QuerySet[Any], name: str, value: Any) -> QuerySet[Any]:
        # Not by the backup record, which may have been deleted.
        plan = Cast(KT("backup_record_detail__backup_detail__uuid"), TextField())
        found: QuerySet[Any] = rows.alias(restored_plan=plan).filter(restored_plan=str(value))
        return found
