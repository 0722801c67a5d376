"""`/api/endpoint` and `/api/tenant`."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.keys import find_by_key
from backupcenter.api.router import Router
from engine.errors import AddressRefused, EngineError, StoreError
from storage.endpoints import save_endpoint
from storage.models import Endpoint, Tenant
from storage.serializers import (
    EndpointSerializer,
    NewTenantSerializer,
    TenantKeysSerializer,
    TenantSerializer,
    UsageSerializer,
)
from storage.tenants import add_tenant, change_tenant, find_tenant

ENDPOINT = {"address": "127.0.0.1:7480", "https": False, "type": 0, "display_name": "ceph"}
KEYS = {"access_key": "I74IB7JXCQN67HUS2XZD", "secret_key": "nwCiFFIJfchFGRARxiDqKoeprWIkX2hKXLX7R1wh"}
TENANT = {
    "username": "s3user",
    "endpoint": ENDPOINT,
    **KEYS,
    "quota": 1099511627776,
    "used": 100000,
    "display_name": "s3user",
    "growth_per_day": 1000,
    "full_time": None,
    "refreshed_at": 1589627522,
    "refresh_error": "",
    "agent_access_key": "",
    "agent_username": "",
    "lock_days": None,
}
ADDRESS = OpenApiParameter("address", str, OpenApiParameter.PATH, description="Address, in base64 or plain and percent-encoded.")
CHECK = OpenApiParameter("check", bool, default=True, description="Whether something must answer at the address.")
USERNAME = OpenApiParameter("username", str, OpenApiParameter.PATH, description="User name, percent-encoded.")
AT_ENDPOINT = OpenApiParameter("endpoint", str, required=True, description="Address of the tenant's endpoint.")


@extend_schema_view(
    list=extend_schema(examples=[OpenApiExample("ceph", ENDPOINT, response_only=True)]),
    retrieve=extend_schema(parameters=[ADDRESS]),
    create=extend_schema(
        parameters=[CHECK],
        examples=[OpenApiExample("ceph", ENDPOINT)],
        description="Registers a store after checking that one answers there; what went wrong is a 400.",
    ),
    partial_update=extend_schema(parameters=[ADDRESS, CHECK], examples=[OpenApiExample("ceph", ENDPOINT)]),
    destroy=extend_schema(parameters=[ADDRESS], description="One that tenants use is 409, and the answer names them."),
)
class EndpointViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, GenericViewSet[Endpoint]):
    """Object stores and directories that backups are kept in."""

    queryset = Endpoint.objects.all()
    serializer_class = EndpointSerializer
    write_role = User.Role.ADMINISTRATOR
    lookup_field = "address"
    lookup_value_regex = Router.ANY_TEXT
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["endpoint"]

    def get_object(self) -> Endpoint:
        return find_by_key(self.get_queryset(), "address", self.kwargs["address"])

    def create(self, request: Request) -> Response:
        return self._save(request, Endpoint(), 201)

    def partial_update(self, request: Request, address: str) -> Response:
        return self._save(request, self.get_object(), 200)

    def _save(self, request: Request, endpoint: Endpoint, status: int) -> Response:
        check = _flag(request, "check", default=True)
        is_new = endpoint.pk is None
        form = EndpointSerializer(None if is_new else endpoint, data=request.data, partial=not is_new)
        form.is_valid(raise_exception=True)
        for name, value in form.validated_data.items():
            setattr(endpoint, name, value)
        try:
            save_endpoint(endpoint, check=check)
        except AddressRefused as error:
            raise ValidationError({"address": [str(error)]}) from error
        except EngineError as error:
            raise ValidationError(str(error)) from error
        return Response(EndpointSerializer(endpoint).data, status=status)


@extend_schema_view(
    list=extend_schema(examples=[OpenApiExample("s3user", TENANT, response_only=True)]),
    retrieve=extend_schema(parameters=[USERNAME, AT_ENDPOINT], examples=[OpenApiExample("s3user", TENANT, response_only=True)]),
    create=extend_schema(
        request=NewTenantSerializer,
        responses={201: TenantSerializer},
        description=(
            "Takes the keys alone: name, display name and quota come from the store. Keys that it refuses are a 400 with the "
            "store's own error."
        ),
        examples=[OpenApiExample("s3user", {"endpoint": {"address": "127.0.0.1:7480"}, **KEYS}, request_only=True)],
    ),
    partial_update=extend_schema(
        parameters=[USERNAME, AT_ENDPOINT],
        request=TenantKeysSerializer,
        responses=TenantSerializer,
        examples=[OpenApiExample("s3user", KEYS, request_only=True)],
    ),
    destroy=extend_schema(parameters=[USERNAME, AT_ENDPOINT], description="One that plans use is 409, and the answer names them."),
)
class TenantViewSet(mixins.ListModelMixin, GenericViewSet[Tenant]):
    """Users of the stores. `secret_key` is masked for everyone but administrators."""

    queryset = Tenant.objects.select_related("endpoint").order_by("endpoint__address", "username")
    serializer_class = TenantSerializer
    write_role = User.Role.ADMINISTRATOR
    lookup_field = "username"
    lookup_value_regex = Router.ANY_TEXT
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["tenant"]
    # Administrators are given secret keys.
    audited_reads = {"list", "retrieve"}

    def get_object(self) -> Tenant:
        address = self.request.query_params.get("endpoint")
        if not address:
            raise ValidationError({"endpoint": [_("The address of the tenant's endpoint is required.")]})
        endpoint = find_by_key(Endpoint.objects.all(), "address", address)
        return find_tenant(self.kwargs["username"], endpoint.address)

    def retrieve(self, request: Request, username: str) -> Response:
        return self._answer(self.get_object())

    @extend_schema(parameters=[USERNAME, AT_ENDPOINT], responses=UsageSerializer(many=True))
    @action(detail=True)
    def usage(self, request: Request, username: str) -> Response:
        """Tell what it used on each day of which that is known, the newest first."""
        samples = self.get_object().usage.filter(repository=None).order_by("-day")
        return Response(UsageSerializer(samples, many=True).data)

    def create(self, request: Request) -> Response:
        form = NewTenantSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        try:
            tenant = add_tenant(data["endpoint"], data["access_key"], data["secret_key"], username=data["username"])
        except StoreError as error:
            raise ValidationError(str(error)) from error
        return self._answer(tenant, 201)

    def partial_update(self, request: Request, username: str) -> Response:
        tenant = self.get_object()
        form = TenantKeysSerializer(tenant, data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        try:
            change_tenant(tenant, data)
        except StoreError as error:
            raise ValidationError(str(error)) from error
        return self._answer(tenant)

    def destroy(self, request: Request, username: str) -> Response:
        self.get_object().delete()
        return Response(status=204)

    def _answer(self, tenant: Tenant, status: int = 200) -> Response:
        return Response(TenantSerializer(tenant, context=self.get_serializer_context()).data, status=status)


def _flag(request: Request, name: str, *, default: bool) -> bool:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return bool(serializers.BooleanField().to_internal_value(text))
    except ValidationError as error:
        raise ValidationError({name: error.detail}) from error
