"""`/api/repository/adopt`: an existing repository, whose snapshots become records."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from clients.serializers import ClientKeySerializer
from engine.errors import EngineError, RepositoryNotFound, WrongPassword
from records.adopting import adopt_repository
from storage.serializers import RepositorySerializer, TenantKeySerializer

ADOPTION = {
    "tenant": {"username": "s3user", "endpoint": {"address": "127.0.0.1:7480"}},
    "bucket": "backups",
    "prefix": "host1",
    "password": "the password of the repository",
}


class AdoptionSerializer(serializers.Serializer[Any]):
    """Where an existing repository lies, and what opens it."""

    tenant = TenantKeySerializer()
    bucket = serializers.CharField(max_length=255)
    prefix = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    password = serializers.CharField(max_length=1024, trim_whitespace=False, write_only=True)
    client = ClientKeySerializer(
        required=False, allow_null=True, default=None, help_text=_("Whose all of it is; else a snapshot's host name says it.")
    )


class AdoptedSerializer(serializers.Serializer[Any]):
    """A repository that was adopted."""

    repository = RepositorySerializer()
    records_added = serializers.IntegerField()
    unreadable = serializers.ListField(child=serializers.CharField(), help_text=_("Ids of snapshots that cannot be read."))


class AdoptView(APIView):
    """Existing repositories."""

    schema_tags = ["repository"]
    write_role = User.Role.ADMINISTRATOR

    @extend_schema(
        operation_id="repository_adopt",
        request=AdoptionSerializer,
        responses={200: AdoptedSerializer, 201: AdoptedSerializer},
        examples=[OpenApiExample("restic's", ADOPTION, request_only=True)],
        description="Registers a repository that restic or another tool made; its snapshots become records, which are held for "
        "ever. Done again (200) it adds what is new. Another repository than was registered there is 409.",
    )
    def post(self, request: Request) -> Response:
        form = AdoptionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        asked = form.validated_data
        client = asked["client"]["found"] if asked["client"] else None
        place = asked["tenant"]["found"], asked["bucket"], asked["prefix"]
        try:
            repository, is_new, found = adopt_repository(*place, asked["password"], client)
        except EngineError as error:
            name = field_of(error)
            raise ValidationError({name: [str(error)]} if name else str(error)) from error
        answer = {"repository": repository, "records_added": len(found.adopted), "unreadable": found.unreadable}
        return Response(AdoptedSerializer(answer).data, status=201 if is_new else 200)


def field_of(error: EngineError) -> str:
    """Return the field of a form that has to be filled in otherwise, empty if it is none in particular."""
    return {WrongPassword: "password", RepositoryNotFound: "bucket"}.get(type(error), "")
