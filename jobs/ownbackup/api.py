"""`/api/serverbackup`: where the server's own database is backed up to, and how that goes."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from backupcenter.api.fields import UnixTimeField
from engine.errors import EngineError
from jobs.models import OwnBackup
from jobs.ownbackup.keeping import back_up_now, choose_place, newest_backup, newest_run
from records.check_api import RepositoryCheckSerializer
from records.models import State
from storage.serializers import TenantKeySerializer


class OwnBackupSerializer(serializers.Serializer[Any]):
    """Where the database is backed up to, null: nowhere; when that last went well, and why it did not since."""

    repository = serializers.CharField(allow_null=True)
    newest_time = UnixTimeField(allow_null=True)
    error = serializers.CharField(allow_blank=True)


class OwnPlaceSerializer(serializers.Serializer[Any]):
    """A bucket, which is made if there is none."""

    tenant = TenantKeySerializer()
    bucket = serializers.CharField(max_length=255)


class OwnBackupView(APIView):
    """The server's own backup, for administrators."""

    read_role = write_role = User.Role.ADMINISTRATOR
    schema_tags = ["serverbackup"]

    @extend_schema(operation_id="serverbackup", responses=OwnBackupSerializer)
    def get(self, request: Request) -> Response:
        """Tell where the server's database is backed up to, and how that goes."""
        return Response(_shown())

    @extend_schema(
        operation_id="serverbackup_choose",
        request=OwnPlaceSerializer,
        responses=OwnBackupSerializer,
        examples=[
            OpenApiExample(
                "a bucket",
                {"tenant": {"username": "backup", "endpoint": {"address": "s3.example.com"}}, "bucket": "server"},
                request_only=True,
            )
        ],
    )
    def put(self, request: Request) -> Response:
        """Have it backed up there from now on, instead of where it was."""
        form = OwnPlaceSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        try:
            choose_place(form.validated_data["tenant"]["found"], form.validated_data["bucket"])
        except EngineError as error:
            raise ValidationError({"bucket": [str(error)]}) from error
        return Response(_shown())

    @extend_schema(operation_id="serverbackup_now", request=None, responses={201: RepositoryCheckSerializer})
    def post(self, request: Request) -> Response:
        """Back it up now; 409 if no place is chosen, or a backup of it is under way."""
        return Response(RepositoryCheckSerializer(back_up_now()).data, status=201)

    @extend_schema(operation_id="serverbackup_end", request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Back it up no more. What there is stays."""
        OwnBackup.objects.all().delete()
        return Response(status=204)


def _shown() -> dict[str, Any]:
    place = OwnBackup.objects.select_related("repository__tenant__endpoint").first()
    newest, last = newest_backup(), newest_run()
    told = {
        "repository": place.repository.location if place else None,
        "newest_time": newest.end_time if newest else None,
        "error": last.error if last and last.state != State.SUCCESS else "",
    }
    return dict(OwnBackupSerializer(told).data)
