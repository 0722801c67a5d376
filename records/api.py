"""`/api/record/backup` and `/api/record/recovery`: history, and a look into what was backed up."""

from typing import Any
from urllib.parse import unquote_to_bytes

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.fields import BooleanField
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.keys import ID_PATTERN
from backupcenter.api.pages import RecordPagination
from records.browsing import describe_path, list_files, open_download, stream
from records.deleting import delete_backup_record, delete_recovery_record, undelete_backup_record
from records.filters import BackupRecordFilter, RecoveryRecordFilter
from records.legal_hold import lift_legal_hold, place_legal_hold
from records.lifecycle import cancel_job
from records.models import BackupRecord, RecoveryRecord
from records.serializers import (
    BackupRecordSerializer,
    DirectorySerializer,
    LegalHoldSerializer,
    RecoveryRecordSerializer,
)
from records.slots import explain_waiting
from storage.models import SECRETS_OF_REPOSITORY

PATH = OpenApiParameter(
    "path", str, default="/", description="Absolute path inside the backup, percent-encoded: a listing's `path_raw`."
)
DELETED = OpenApiParameter("deleted", bool, default=False, description="Those in the trash, which can be brought back.")
NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH, description="The record's number.")


class RecordViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Any]):
    """What records of both kinds have in common."""

    pagination_class = RecordPagination
    lookup_value_regex = ID_PATTERN

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        explain_waiting(page or [])
        return page

    @extend_schema(request=None, description="Cancels at once what is queued, soon what runs; 409 if it has ended.")
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        record = self.get_object()
        cancel_job(record)
        return Response(self.get_serializer(record).data)


@extend_schema_view(
    list=extend_schema(parameters=[DELETED], description="Runs of backup plans, the newest first."),
    retrieve=extend_schema(parameters=[NUMBER, DELETED]),
    cancel=extend_schema(parameters=[NUMBER]),
)
class BackupRecordViewSet(RecordViewSet):
    """Runs of backup plans."""

    queryset = BackupRecord.objects.all()
    serializer_class = BackupRecordSerializer
    filterset_class = BackupRecordFilter
    schema_tags = ["backup record"]
    audited_reads = {"download"}
    error_statuses = {502}

    @property
    def write_role(self) -> User.Role:
        return User.Role.ADMINISTRATOR if self.action in ("legal_hold", "lift_legal_hold") else User.Role.OPERATOR

    def get_queryset(self) -> QuerySet[BackupRecord]:
        is_deleted = self.action == "undelete" or (self.action in ("list", "retrieve") and _asks_for_deleted(self.request))
        rows = BackupRecord.trash.all() if is_deleted else BackupRecord.objects.all()
        secrets = [f"repository__{name}" for name in SECRETS_OF_REPOSITORY]
        return rows.select_related("repository__tenant__endpoint").defer(*secrets).order_by("-pk")

    @extend_schema(
        parameters=[NUMBER],
        responses={204: None},
        description=(
            "Puts the record into the trash; 409 while it runs, is being restored or is under legal hold. Its snapshot is "
            "forgotten when its grace is over, and space comes back with the next prune."
        ),
    )
    def destroy(self, request: Request, pk: str) -> Response:
        delete_backup_record(self.get_object())
        return Response(status=204)

    @extend_schema(parameters=[NUMBER], request=None)
    @action(detail=True, methods=["post"])
    def undelete(self, request: Request, pk: str) -> Response:
        """Bring a deleted record back. One that went since its hold had ended stays from now on."""
        record = self.get_object()
        undelete_backup_record(record)
        return Response(self.get_serializer(record).data)

    @extend_schema(parameters=[NUMBER], request=LegalHoldSerializer, responses=BackupRecordSerializer)
    @action(detail=True, methods=["post"], url_path="legal-hold")
    def legal_hold(self, request: Request, pk: str) -> Response:
        """Put the backup under legal hold: nobody can delete it until that is lifted; 409 if it is so already."""
        record = self.get_object()
        form = LegalHoldSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        place_legal_hold(record, request.user.get_username(), form.validated_data["legal_hold_reason"])
        return Response(self.get_serializer(record).data)

    @extend_schema(parameters=[NUMBER], request=None, responses={204: None})
    @legal_hold.mapping.delete
    def lift_legal_hold(self, request: Request, pk: str) -> Response:
        """Lift the legal hold; 409 if there is none."""
        lift_legal_hold(self.get_object(), request.user.get_username())
        return Response(status=204)

    @extend_schema(parameters=[NUMBER, PATH], responses=DirectorySerializer, filters=False)
    @action(detail=True, pagination_class=None, filter_backends=[])
    def files(self, request: Request, pk: str) -> Response:
        """List a directory of the backup."""
        path = _path(request)
        return Response(DirectorySerializer({**describe_path(path), "files": list_files(self.get_object(), path)}).data)

    @extend_schema(
        parameters=[NUMBER, PATH],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, (200, "application/x-tar"): OpenApiTypes.BINARY},
        filters=False,
    )
    @action(detail=True, pagination_class=None, filter_backends=[])
    def download(self, request: Request, pk: str) -> HttpResponseBase:
        """Send a file of the backup, or a directory as a tar archive."""
        found = open_download(self.get_object(), _path(request))
        response = StreamingHttpResponse(stream(found.content), content_type=found.content_type)
        response["Content-Disposition"] = content_disposition_header(True, found.name) or "attachment"
        response["Cache-Control"] = "no-store"
        if found.size is not None:
            response["Content-Length"] = str(found.size)
        return response


@extend_schema_view(
    list=extend_schema(description="Restores, the newest first."),
    retrieve=extend_schema(parameters=[NUMBER]),
    cancel=extend_schema(parameters=[NUMBER]),
)
class RecoveryRecordViewSet(RecordViewSet):
    """Restores."""

    queryset = RecoveryRecord.objects.select_related("client")
    serializer_class = RecoveryRecordSerializer
    filterset_class = RecoveryRecordFilter
    schema_tags = ["recovery record"]

    @extend_schema(parameters=[NUMBER], responses={204: None}, description="Deletes the record; what was restored stays.")
    def destroy(self, request: Request, pk: str) -> Response:
        delete_recovery_record(self.get_object())
        return Response(status=204)


def _asks_for_deleted(request: Request) -> bool:
    text = request.query_params.get("deleted", "false")
    try:
        return bool(BooleanField().to_internal_value(text))
    except ValidationError as error:
        raise ValidationError({"deleted": error.detail}) from error


def _path(request: Request) -> bytes:
    """Return the `path` of the query as bytes: names of files may be no UTF-8, which Django would replace."""
    path = b"/"
    for pair in request.META.get("QUERY_STRING", "").replace("+", " ").split("&"):
        name, _equals, value = pair.partition("=")
        if unquote_to_bytes(name) == b"path":
            path = unquote_to_bytes(value)
    if b"\0" in path:
        raise ValidationError({"path": [_("A path holds no NUL.")]})
    return path
