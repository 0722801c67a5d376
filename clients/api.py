"""`/api/client` and `/api/jointoken`."""

from typing import Any

from django.http import Http404
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.exceptions import Conflict
from backupcenter.api.keys import address_of_key
from backupcenter.api.pages import PagesIfAsked
from clients.joining import join_command
from clients.leaving import revoke
from clients.models import Client, JoinToken
from clients.serializers import ClientDetailSerializer, ClientSerializer, JoinTokenSerializer

KEY = OpenApiParameter(
    "ipv4",
    str,
    OpenApiParameter.PATH,
    description="IPv4 address as a decimal number or a dotted quad, in base64 or plain; an IPv6 address is taken too.",
)
CLIENT = {"ipv4": 2886769509, "ipv6": None, "hostname": "client1"}


def client_of_key(key: str) -> Client:
    """Return the client that a key in a path means. Raises Http404."""
    match address_of_key(key):
        case int(number):
            client = Client.objects.filter(ipv4=number).first()
        case str(text):
            client = Client.objects.filter(ipv6=text).first()
        case _:
            client = None
    if client is None:
        raise Http404(_("There is no client with this address."))
    return client


@extend_schema_view(
    list=extend_schema(
        description="The hosts that are backed up: all of them, or the page that is asked for; `X-Total-Count` then tells how many."
    ),
    retrieve=extend_schema(parameters=[KEY]),
    create=extend_schema(examples=[OpenApiExample("client1", CLIENT, request_only=True)]),
    partial_update=extend_schema(parameters=[KEY]),
    destroy=extend_schema(parameters=[KEY], description="One that plans use is 409, and the answer names them."),
)
class ClientViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, GenericViewSet[Client]):
    """The hosts that are backed up."""

    queryset = Client.objects.all()
    serializer_class = ClientSerializer
    write_role = User.Role.ADMINISTRATOR
    lookup_field = "ipv4"
    pagination_class = PagesIfAsked
    filter_backends: list[Any] = []
    schema_tags = ["client"]

    def get_object(self) -> Client:
        return client_of_key(self.kwargs["ipv4"])

    def get_serializer_class(self) -> Any:
        return ClientDetailSerializer if self.action == "retrieve" else ClientSerializer

    def create(self, request: Request) -> Response:
        return self._save(request, None, 201)

    def partial_update(self, request: Request, ipv4: str) -> Response:
        return self._save(request, self.get_object(), 200)

    @extend_schema(
        parameters=[KEY],
        request=None,
        responses={201: JoinTokenSerializer},
        description="A one-time token with which this client's agent joins, and the command to run on the host.",
    )
    @action(detail=True, methods=["post"])
    def token(self, request: Request, ipv4: str) -> Response:
        return _issue(request, self.get_object())

    @extend_schema(
        parameters=[KEY],
        request=None,
        responses=ClientSerializer,
        description="Ends the agent's login to server and broker, and what it runs: the host has to join again.",
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, ipv4: str) -> Response:
        client = self.get_object()
        revoke(client)
        return Response(ClientSerializer(client).data)

    def _save(self, request: Request, client: Client | None, status: int) -> Response:
        form = ClientSerializer(client, data=request.data, partial=client is not None)
        form.is_valid(raise_exception=True)
        others = Client.objects.exclude(pk=client.pk) if client else Client.objects.all()
        for name in ("ipv4", "ipv6"):
            address = form.validated_data.get(name)
            if address is not None and others.filter(**{name: address}).exists():
                raise Conflict(_("There is a client with this address already."))
        return Response(ClientSerializer(form.save()).data, status=status)


class JoinTokenView(APIView):
    """One-time tokens with which any host may join."""

    read_role = write_role = User.Role.ADMINISTRATOR
    schema_tags = ["client"]

    @extend_schema(
        operation_id="jointoken_create",
        request=None,
        responses={201: JoinTokenSerializer},
        description="A one-time token with which a host joins as a new client, or as one with its address that never had an agent.",
    )
    def post(self, request: Request) -> Response:
        return _issue(request, None)


def _issue(request: Request, client: Client | None) -> Response:
    row, token = JoinToken.issue(client, created_by=request.user.get_username())
    shown = {"token": token, "command": join_command(token), "expires_at": row.expires_at}
    response = Response(JoinTokenSerializer(shown).data, status=201)
    add_never_cache_headers(response)
    return response
