"""`/api/backup` and `/api/recovery`: plans, running them, and asking for restores."""

from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.pages import RecordPagination
from jobs.drills import change_drill, drill_of, drill_plan
from jobs.fitting import plan_usage
from jobs.models import BackupPlan, PlanQuerySet
from jobs.planning import change_plan, create_plan, delete_plan, pause_plan, resume_plan, run_plan
from jobs.recovery import request_recovery
from jobs.retention import preview_retention
from jobs.scheduling import jitter, next_fires
from jobs.serializers import (
    FiresSerializer,
    NewPlanSerializer,
    NewRecoverySerializer,
    PlanChangeSerializer,
    PlanDrillSerializer,
    PlanSerializer,
    PlanUsageSerializer,
    ProposedRulesSerializer,
    RetentionPreviewSerializer,
)
from records.drill_api import DrillRecordSerializer
from records.serializers import BackupRecordSerializer, RecoveryRecordSerializer

MAX_FIRES = 1000
NEW_PLAN = {
    "backup_name": "backup1",
    "backup_group": 1,
    "client": {"ipv4": 2886769509},
    "tenant": {"username": "s3user", "endpoint": {"address": "192.168.1.101:7480"}},
    "bucket": "bucket-1",
    "cron_expression": "0/3 * * * * ? ",
    "start_time": 1589627522,
    "end_time": None,
    "hold_time": 0,
    "hold_type": 0,
    "backup_data": '{"include": ["a.txt", "b.txt", "directory"], "exclude": ["directory/c.txt"]}',
}
NEW_RECOVERY = {
    "client": {"ipv4": 2886769509},
    "backup_record": {"id": 1},
    "recovery_data": '{"destination": "destination_directory"}',
}
UUID = OpenApiParameter("uuid", str, OpenApiParameter.PATH, description="The plan's UUID.")
COUNT = OpenApiParameter("count", int, default=5, description=f"How many, from 1 to {MAX_FIRES}.")


@extend_schema_view(
    list=extend_schema(description="Backup plans, the newest first."),
    retrieve=extend_schema(parameters=[UUID]),
)
class PlanViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[BackupPlan]):
    """Backup plans."""

    serializer_class = PlanSerializer
    pagination_class = RecordPagination
    filter_backends: list[Any] = []
    lookup_field = "uuid"
    lookup_value_regex = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
    schema_tags = ["backup"]

    def get_queryset(self) -> PlanQuerySet:
        return BackupPlan.objects.with_activity().with_proof()

    @extend_schema(
        request=NewPlanSerializer,
        responses={201: PlanSerializer},
        examples=[OpenApiExample("every three seconds", NEW_PLAN, request_only=True)],
        description="Makes a plan, and its bucket and repository if they do not exist.",
    )
    def create(self, request: Request) -> Response:
        form = NewPlanSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        plan = create_plan(**form.validated_data)
        return Response(self._shown(plan), status=201)

    @extend_schema(
        parameters=[UUID],
        request=PlanChangeSerializer,
        responses=PlanSerializer,
        examples=[OpenApiExample("schedule", {"backup_name": "backup1", "cron_expression": "0/5 * * * * ?"}, request_only=True)],
    )
    def partial_update(self, request: Request, uuid: str) -> Response:
        plan = self.get_object()
        form = PlanChangeSerializer(plan, data=request.data)
        form.is_valid(raise_exception=True)
        return Response(self._shown(change_plan(plan, **form.validated_data)))

    @extend_schema(
        parameters=[UUID],
        responses={204: None},
        description="Deletes the plan and cancels what runs; its records stay until their hold ends.",
    )
    def destroy(self, request: Request, uuid: str) -> Response:
        delete_plan(self.get_object())
        return Response(status=204)

    @extend_schema(parameters=[UUID], request=None, responses={201: BackupRecordSerializer})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, uuid: str) -> Response:
        """Start a run now; 409 if one waits already."""
        return Response(BackupRecordSerializer(run_plan(self.get_object())).data, status=201)

    @extend_schema(parameters=[UUID], request=None, responses=PlanSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, uuid: str) -> Response:
        """Stop the schedule until it is resumed."""
        return Response(self._shown(pause_plan(self.get_object())))

    @extend_schema(parameters=[UUID], request=None, responses=PlanSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, uuid: str) -> Response:
        """Let the schedule go on."""
        return Response(self._shown(resume_plan(self.get_object())))

    @extend_schema(parameters=[UUID], responses=PlanDrillSerializer)
    @action(detail=True, pagination_class=None)
    def drill(self, request: Request, uuid: str) -> Response:
        """Tell when and how the plan is drilled."""
        return Response(PlanDrillSerializer(drill_of(self.get_object())).data)

    @extend_schema(
        parameters=[UUID],
        request=PlanDrillSerializer,
        responses=PlanDrillSerializer,
        examples=[OpenApiExample("whole, on Sundays", {"cron_expression": "0 0 4 ? * SUN", "extent": "whole"}, request_only=True)],
    )
    @drill.mapping.put
    def change_drill(self, request: Request, uuid: str) -> Response:
        """Change when and how the plan is drilled; a `cron_expression` of null: never."""
        plan = self.get_object()
        form = PlanDrillSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        present = drill_of(plan)
        is_administrator = isinstance(request.user, User) and request.user.has_role(User.Role.ADMINISTRATOR)
        given = form.validated_data
        sets_command = given.get("command", present.command) != present.command
        # Elsewhere the command would be another.
        moves_command = present.command and given.get("client", present.client) != present.client
        if (sets_command or moves_command) and not is_administrator:
            raise PermissionDenied(_("Only administrators may set a command, or where it is run."))
        return Response(PlanDrillSerializer(change_drill(plan, **given)).data)

    @extend_schema(parameters=[UUID], request=None, responses={201: DrillRecordSerializer})
    @drill.mapping.post
    def drill_now(self, request: Request, uuid: str) -> Response:
        """Restore the newest backup now to prove that it can be; 409 if there is none, or a drill is under way."""
        return Response(DrillRecordSerializer(drill_plan(self.get_object())).data, status=201)

    @extend_schema(parameters=[UUID, COUNT], responses=FiresSerializer)
    @action(detail=True, pagination_class=None)
    def next(self, request: Request, uuid: str) -> Response:
        """Tell the next times at which the plan fires."""
        text = request.query_params.get("count", "5")
        count = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if not 1 <= count <= MAX_FIRES:
            raise ValidationError({"count": [_("Must be a whole number from 1 to %(limit)d.") % {"limit": MAX_FIRES}]})
        plan = self.get_object()
        fires = next_fires(plan, count)
        windows = [
            {"earliest": fire, "latest": fire + timedelta(seconds=plan.jitter_s), "planned": fire + jitter(plan, fire)}
            for fire in fires
        ]
        return Response(FiresSerializer({"next": fires, "windows": windows}).data)

    @extend_schema(parameters=[UUID], responses=PlanUsageSerializer)
    @action(detail=True, pagination_class=None)
    def usage(self, request: Request, uuid: str) -> Response:
        """Tell how much the plan's backups take, and how much the next one is expected to."""
        return Response(PlanUsageSerializer(plan_usage(self.get_object())).data)

    @extend_schema(parameters=[UUID], responses=RetentionPreviewSerializer)
    @extend_schema(
        methods=["POST"],
        request=ProposedRulesSerializer,
        examples=[OpenApiExample("rules to try", {"keep": {"last": 7, "daily": 14, "within": "30d"}}, request_only=True)],
    )
    @action(detail=True, methods=["get", "post"], url_path="retention-preview", pagination_class=None)
    def retention_preview(self, request: Request, uuid: str) -> Response:
        """Tell which backups would go now and why the others stay: as the plan is (GET), or by rules to try (POST)."""
        form = ProposedRulesSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        preview = preview_retention(self.get_object(), form.validated_data.get("keep"))
        return Response(RetentionPreviewSerializer(preview).data)

    def _shown(self, plan: BackupPlan) -> Any:
        return PlanSerializer(self.get_queryset().get(pk=plan.pk)).data


class RecoveryView(APIView):
    """Restores to a client."""

    schema_tags = ["recovery"]

    @extend_schema(
        operation_id="recovery_create",
        request=NewRecoverySerializer,
        responses={201: RecoveryRecordSerializer},
        examples=[OpenApiExample("whole backup", NEW_RECOVERY, request_only=True)],
        description="Queues a restore; 409 if the backup did not succeed.",
    )
    def post(self, request: Request) -> Response:
        form = NewRecoverySerializer(data=request.data)
        form.is_valid(raise_exception=True)
        asked = form.validated_data
        record = request_recovery(asked["client"]["found"], asked["backup_record"]["found"], asked["recovery_data"])
        return Response(RecoveryRecordSerializer(record).data, status=201)
