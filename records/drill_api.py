"""`/api/record/drill`: restore drills and their evidence."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from backupcenter.api.fields import MAX_TIME, UnixTimeField
from backupcenter.api.keys import ID_PATTERN
from backupcenter.api.pages import RecordPagination
from records.drills.drilling import cancel_drill
from records.filters import SecondsFilter, by_since, by_until
from records.models import DrillRecord, State

NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH, description="The drill's number.")


class DrillRecordSerializer(serializers.ModelSerializer[DrillRecord]):
    """A restore drill. `duration_s` is the measured time of recovery, `age_s` how old the backup was when the drill began."""

    backup = serializers.UUIDField(source="plan_uuid", read_only=True)
    backup_name = serializers.CharField(source="plan_name", read_only=True)
    backup_record: Any = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text=_("Number of the backup record; null: it was deleted since.")
    )
    recovery: Any = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text=_("Number of the recovery by which a client does it; null: the server does.")
    )
    queued_at = UnixTimeField(read_only=True)
    scheduled_time = UnixTimeField(source="scheduled_at", read_only=True, allow_null=True)
    start_time = UnixTimeField(read_only=True, allow_null=True)
    end_time = UnixTimeField(read_only=True, allow_null=True)
    problems = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = DrillRecord
        fields = [
            "id",
            "backup",
            "backup_name",
            "backup_record",
            "snapshot",
            "extent",
            "place",
            "recovery",
            "state",
            "queued_at",
            "scheduled_time",
            "start_time",
            "end_time",
            "error",
            "files",
            "of_files",
            "compared",
            "bytes_restored",
            "mismatches",
            "problems",
            "notes",
            "duration_s",
            "age_s",
            "command",
            "command_status",
            "command_output",
        ]
        read_only_fields = fields


class DrillRecordFilter(filters.FilterSet):
    """By plan, state and time. Times are Unix seconds of when the drill was queued."""

    backup = filters.UUIDFilter(field_name="plan_uuid", help_text=_("The plan's UUID."))
    state = filters.MultipleChoiceFilter(choices=State.choices, help_text=_("May be repeated."))
    since = SecondsFilter(method=by_since, min_value=0, max_value=MAX_TIME)
    until = SecondsFilter(method=by_until, min_value=0, max_value=MAX_TIME)

    class Meta:
        model = DrillRecord
        fields = ["backup", "state", "since", "until"]


@extend_schema_view(
    list=extend_schema(description="Restore drills, the newest first."),
    retrieve=extend_schema(parameters=[NUMBER]),
)
class DrillRecordViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]):
    """Restore drills. Evidence is neither changed nor deleted; a drill that has not ended can be cancelled."""

    queryset = DrillRecord.objects.all()
    serializer_class = DrillRecordSerializer
    filterset_class = DrillRecordFilter
    pagination_class = RecordPagination
    lookup_value_regex = ID_PATTERN
    schema_tags = ["drill"]

    @extend_schema(parameters=[NUMBER], request=None, responses=DrillRecordSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancels at once what is queued, within seconds what runs; 409 if it has ended. Its scratch directory is removed."""
        drill = self.get_object()
        cancel_drill(drill)
        return Response(self.get_serializer(drill).data)
