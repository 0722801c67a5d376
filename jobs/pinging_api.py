"""`/api/backup/<uuid>/ping`: who outside hears of a plan's runs."""

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from backupcenter.api.fields import UnixTimeField
from backupcenter.api.reading import validated
from jobs.models import BackupPlan, PlanPing
from jobs.pinging import end_ping, host_of, set_ping
from records.notifying.addresses import ChannelRefused

PLAN = OpenApiParameter("uuid", str, OpenApiParameter.PATH, description="The plan's UUID.")


class PingSerializer(serializers.Serializer[Any]):
    """A plan's pings. Their address is taken and never shown: who knows it can say that all is well."""

    address = serializers.CharField(write_only=True, max_length=2000)
    host = serializers.SerializerMethodField(help_text=_("Of the address; empty: nobody is told."))
    signal = serializers.ChoiceField(PlanPing.Signal.choices, read_only=True, help_text=_("The newest one; empty: none yet."))
    told_time = UnixTimeField(source="told_at", read_only=True, allow_null=True, help_text=_("When a signal was last taken."))
    error = serializers.CharField(read_only=True, help_text=_("Why the newest signal was not taken so far."))

    def get_host(self, ping: PlanPing) -> str:
        return host_of(ping.address)


class PingView(APIView):
    """Who outside hears of a plan's runs. Only administrators set it: the server sends requests there."""

    write_role = User.Role.ADMINISTRATOR
    schema_tags = ["backup"]
    error_statuses = {404}

    @extend_schema(operation_id="backup_ping", parameters=[PLAN], responses=PingSerializer)
    def get(self, request: Request, uuid: str) -> Response:
        """Tell who hears of the plan's runs, and whether they do."""
        ping = PlanPing.objects.filter(plan=_plan(uuid)).first()
        return Response(PingSerializer(ping or PlanPing()).data)

    @extend_schema(
        operation_id="backup_set_ping",
        parameters=[PLAN],
        request=PingSerializer,
        responses=PingSerializer,
        examples=[OpenApiExample("healthchecks", {"address": "https://hc-ping.com/<uuid>"}, request_only=True)],
    )
    def put(self, request: Request, uuid: str) -> Response:
        """Have the plan's runs told to an address: POSTs to it, to it with `/start`, and to it with `/fail`."""
        plan = _plan(uuid)
        said = validated(PingSerializer, request.data)
        try:
            ping = set_ping(plan, said["address"])
        except ChannelRefused as error:
            raise serializers.ValidationError({"address": [str(error)]}) from error
        return Response(PingSerializer(ping).data)

    @extend_schema(operation_id="backup_end_ping", parameters=[PLAN], request=None, responses={204: None})
    def delete(self, request: Request, uuid: str) -> Response:
        """Have nobody told any more."""
        end_ping(_plan(uuid))
        return Response(status=204)


def _plan(uuid: str) -> BackupPlan:
    return get_object_or_404(BackupPlan, uuid=UUID(uuid))
