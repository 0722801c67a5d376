"""`/api/audit`: the audit log, to read and to take along."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from accounts.audit.export import export_audit
from accounts.models import AuditEntry, User
from backupcenter.api.fields import MAX_TIME, UnixTimeField
from backupcenter.api.keys import ID_PATTERN
from backupcenter.api.pages import RecordPagination
from backupcenter.exporting import CONTENT_TYPES

NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH, description="The entry's number.")
FORM = OpenApiParameter("format", str, enum=sorted(CONTENT_TYPES), default="jsonl", description="CSV, or an entry in JSON a line.")


class SecondsFilter(filters.NumberFilter):
    """Whole Unix seconds."""

    field_class = forms.IntegerField


class AuditFilter(filters.FilterSet):
    """By who, from where, what and when. Times are Unix seconds."""

    actor = filters.CharFilter(help_text=gettext_lazy("Name of an account, or of the operating system's user."))
    address = filters.CharFilter(method="by_address")
    via = filters.MultipleChoiceFilter(choices=AuditEntry.Via.choices)
    outcome = filters.MultipleChoiceFilter(choices=AuditEntry.Outcome.choices)
    action = filters.CharFilter(lookup_expr="startswith", help_text=gettext_lazy("How the action begins, like `backup-`."))
    since = SecondsFilter(method="by_since", min_value=0, max_value=MAX_TIME)
    until = SecondsFilter(method="by_until", min_value=0, max_value=MAX_TIME)

    class Meta:
        model = AuditEntry
        fields = ["actor", "address", "via", "outcome", "action", "since", "until"]

    def by_address(self, rows: QuerySet[AuditEntry], name: str, value: str) -> QuerySet[AuditEntry]:
        try:
            return rows.filter(address=forms.GenericIPAddressField().clean(value))
        except forms.ValidationError:
            return rows.none()

    def by_since(self, rows: QuerySet[AuditEntry], name: str, value: int) -> QuerySet[AuditEntry]:
        return rows.filter(time__gte=datetime.fromtimestamp(value, UTC))

    def by_until(self, rows: QuerySet[AuditEntry], name: str, value: int) -> QuerySet[AuditEntry]:
        return rows.filter(time__lte=datetime.fromtimestamp(value, UTC))


class TouchedSerializer(serializers.Serializer[Any]):
    """An object that an act touched, and the names of the fields that changed."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # Not as attributes: a serializer has one of its own that is called `fields`.
        return {
            "model": serializers.CharField(),
            "id": serializers.CharField(allow_blank=True),
            "name": serializers.CharField(),
            "change": serializers.ChoiceField(["created", "changed", "deleted", "acted on"]),
            "fields": serializers.ListField(child=serializers.CharField()),
        }


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    """Something that somebody did, or was refused."""

    time = UnixTimeField(read_only=True)
    objects = TouchedSerializer(many=True, source="touched", read_only=True)

    class Meta:
        model = AuditEntry
        fields = ["id", "time", "actor", "address", "via", "action", "path", "outcome", "status", "objects", "unnamed"]
        read_only_fields = fields


@extend_schema_view(
    list=extend_schema(description="Who did what, the newest first."),
    retrieve=extend_schema(parameters=[NUMBER]),
)
class AuditViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[AuditEntry]):
    """The audit log. Nothing changes it."""

    queryset = AuditEntry.objects.all()
    serializer_class = AuditSerializer
    filterset_class = AuditFilter
    pagination_class = RecordPagination
    lookup_value_regex = ID_PATTERN
    read_role = write_role = User.Role.ADMINISTRATOR
    schema_tags = ["audit"]
    audited_reads = {"export"}

    @extend_schema(
        parameters=[FORM],
        responses={(200, content_type): OpenApiTypes.STR for content_type in ("text/csv", "application/x-ndjson")},
    )
    @action(detail=False, pagination_class=None)
    def export(self, request: Request) -> HttpResponseBase:
        """Send all entries that the filters leave, oldest first."""
        form = request.query_params.get("format", "jsonl")
        if form not in CONTENT_TYPES:
            raise ValidationError({"format": [_("Must be csv or jsonl.")]})
        return export_audit(self.filter_queryset(self.get_queryset()), form)
