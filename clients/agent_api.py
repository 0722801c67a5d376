"""`/api/agent/join`, `login`, `heartbeat`, `checks`: how a host's agent gets in, stays in, and says that it is there."""

import ipaddress
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backupcenter.api.reading import validated
from clients.authentication import AgentAuthentication, IsAgent, authenticated_client, authenticated_login
from clients.compatibility import REPLACING_PROTOCOL, require_supported, told_protocol
from clients.joining import join
from clients.logins import is_next_due, issue_login, mend_login
from clients.presence import beat_interval, note_checks, receive_heartbeat
from clients.serializers import (
    AgentLoginSerializer,
    ChecksSerializer,
    HeartbeatAnswerSerializer,
    HeartbeatSerializer,
    JoinedSerializer,
    JoinSerializer,
)


class JoinView(APIView):
    """A one-time token for the agent's own."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    schema_tags = ["agent"]
    error_statuses = {401, 409, 426}

    @extend_schema(operation_id="agent_join", request=JoinSerializer, responses={201: JoinedSerializer})
    def post(self, request: Request) -> Response:
        require_supported(request)
        form = JoinSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        said = form.validated_data
        if said["ipv4"] is None and said["ipv6"] is None:
            said |= _address_of(request)
        client, login = join(**said, is_replaced=told_protocol(request) >= REPLACING_PROTOCOL)
        return Response(
            {
                "client": {"id": client.pk, "hostname": client.hostname},
                "token": login.token,
                "queue": client.queue,
                "broker": login.broker,
            },
            status=201,
            headers={"Cache-Control": "no-store"},
        )

    def get_authenticate_header(self, request: Request) -> str:
        # Without it a refused token would be a 403.
        return AgentAuthentication.scheme


class LoginView(APIView):
    """An agent's next login."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}
    is_audited = False

    @extend_schema(operation_id="agent_login", request=None, responses={201: AgentLoginSerializer})
    def post(self, request: Request) -> Response:
        """A new token and a new password for the broker. The present ones are good until the new token is used."""
        login = issue_login(authenticated_client(request))
        answer = {"token": login.token, "broker": login.broker}
        return Response(answer, status=201, headers={"Cache-Control": "no-store"})


class HeartbeatView(APIView):
    """An agent's sign of life."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}
    is_audited = False

    @extend_schema(operation_id="agent_heartbeat", request=HeartbeatSerializer, responses={200: HeartbeatAnswerSerializer})
    def post(self, request: Request) -> Response:
        login, said = authenticated_login(request), validated(HeartbeatSerializer, request.data)
        broker_refused = said.pop("broker_refused")
        if broker_refused:
            mend_login(login.client)
        receive_heartbeat(login.client_id, protocol=told_protocol(request), **said)
        login_due = is_next_due(login, broker_refused=broker_refused)
        return Response({"client": login.client_id, "login_due": login_due, "beat_every_s": beat_interval()})


class ChecksView(APIView):
    """What an agent's doctor found."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}

    @extend_schema(operation_id="agent_checks", request=ChecksSerializer, responses={200: ChecksSerializer})
    def post(self, request: Request) -> Response:
        form = ChecksSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        note_checks(authenticated_client(request), form.validated_data["checks"])
        return Response(form.validated_data)


def _address_of(request: Request) -> dict[str, Any]:
    """Return the address that the agent speaks from, for one that does not know its own."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return {}
    return {"ipv4": int(address)} if address.version == 4 else {"ipv6": str(address)}
