"""What lists of records can be narrowed down by."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from django_filters import rest_framework as filters

from backupcenter.api.fields import MAX_TIME
from backupcenter.api.keys import decode_base64, ipv4_number
from records.models import BackupRecord, RecoveryRecord, State


class SecondsFilter(filters.NumberFilter):
    """Whole Unix seconds."""

    field_class = forms.IntegerField


class TimeFilter(filters.Filter):
    """Unix seconds."""

    field_class = forms.IntegerField


class RecordFilter(filters.FilterSet):
    """By state, client and time. Times are Unix seconds of when the job was queued."""

    state = filters.MultipleChoiceFilter(choices=State.choices, help_text=_("May be repeated."))
    client = filters.CharFilter(method="by_client", help_text=_("The client's IPv4 address, in any form of a path's key."))
    since = SecondsFilter(method="by_since", min_value=0, max_value=MAX_TIME)
    until = SecondsFilter(method="by_until", min_value=0, max_value=MAX_TIME)

    def by_client(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        numbers = [ipv4_number(text) for text in (value, decode_base64(value)) if text]
        return rows.filter(client__ipv4__in=[number for number in numbers if number is not None])

    def by_since(self, rows: QuerySet[Any], name: str, value: int) -> QuerySet[Any]:
        return rows.filter(queued_at__gte=datetime.fromtimestamp(value, UTC))

    def by_until(self, rows: QuerySet[Any], name: str, value: int) -> QuerySet[Any]:
        return rows.filter(queued_at__lte=datetime.fromtimestamp(value, UTC))


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
        return rows.filter(backup_record__plan_uuid=value)
