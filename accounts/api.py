"""`/login`, `/logout` and `/api/account`."""

from typing import Any

from django.conf import settings
from django.contrib.auth import update_session_auth_hash
from django.db.models import QuerySet
from django.http import Http404
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from knox.models import AuthToken
from rest_framework import mixins
from rest_framework.exceptions import MethodNotAllowed, PermissionDenied, ValidationError
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts.authentication import TokenAuthentication
from accounts.login import log_in
from accounts.managing import change_account, create_account, delete_account
from accounts.models import User
from accounts.permissions import RolePermission
from accounts.serializers import (
    AccountChangeSerializer,
    AccountSerializer,
    LoginSerializer,
    NewAccountSerializer,
)
from accounts.throttling import count_attempt, forget_attempts
from backupcenter.api.keys import find_by_key
from backupcenter.api.requests import JSONParser
from backupcenter.api.router import Router

DIGEST = "21232f297a57a5a743894a0e4a801fc3"


class TokenRenderer(BaseRenderer):
    """A token as plain text and nothing else; failures as JSON."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> Any:
        return data


class LoginView(APIView):
    """A token for a user name and the digest of a password."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    parser_classes = [JSONParser, FormParser, MultiPartParser]
    renderer_classes = [JSONRenderer]
    schema_tags = ["login"]
    error_statuses = {401, 429}
    audited_reads = {"get"}

    @extend_schema(
        operation_id="login_by_query",
        parameters=[
            OpenApiParameter("username", str, required=True),
            OpenApiParameter("password", str, required=True, description="MD5 hex digest of the password."),
        ],
        responses={(200, "text/plain"): str},
        description="The token as plain text. Prefer POST, which puts nothing secret into an address.",
    )
    def get(self, request: Request) -> Response:
        if not settings.LOGIN_BY_GET:
            raise MethodNotAllowed("GET")
        return self._answer(request, request.query_params)

    @extend_schema(
        operation_id="login",
        request=LoginSerializer,
        responses={(200, "text/plain"): str},
        description="The token as plain text.",
        examples=[OpenApiExample("admin", {"username": "admin", "password": DIGEST}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        return self._answer(request, request.data)

    def get_authenticate_header(self, request: Request) -> str:
        # Without it refused credentials would be a 403.
        return TokenAuthentication.scheme

    def _answer(self, request: Request, data: Any) -> Response:
        form = LoginSerializer(data=data)
        form.is_valid(raise_exception=True)
        token = log_in(request, form.validated_data["username"], form.validated_data["password"])
        request.accepted_renderer = TokenRenderer()
        request.accepted_media_type = TokenRenderer.media_type
        return Response(token)

    def finalize_response(self, request: Request, response: Any, *arguments: Any, **options: Any) -> Any:
        final = super().finalize_response(request, response, *arguments, **options)
        add_never_cache_headers(final)
        return final


class LogoutView(APIView):
    """The end of the token that the request comes with."""

    permission_classes = [IsAuthenticated]
    schema_tags = ["login"]

    @extend_schema(operation_id="logout", request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        if isinstance(request.auth, AuthToken):
            request.auth.delete()
        return Response(status=204)


NAME = OpenApiParameter("username", str, OpenApiParameter.PATH, description="User name, percent-encoded.")


@extend_schema_view(
    list=extend_schema(description="Accounts: all for administrators, one's own for others."),
    retrieve=extend_schema(parameters=[NAME]),
    create=extend_schema(
        request=NewAccountSerializer,
        responses={201: AccountSerializer},
        examples=[OpenApiExample("user", {"username": "user", "password": DIGEST}, request_only=True)],
    ),
    partial_update=extend_schema(
        parameters=[NAME],
        request=AccountChangeSerializer,
        responses=AccountSerializer,
        description=(
            "Changes the password and ends the account's other tokens. One's own password takes the old one; "
            "administrators set those of others, and `role` and `is_active`, without it. All of it is done, or nothing."
        ),
        examples=[
            OpenApiExample(
                "password",
                {"new_password": DIGEST, "old_password": "200ceb26807d6bf99fd6f4f0d1ca54d4"},
                request_only=True,
            )
        ],
    ),
    destroy=extend_schema(parameters=[NAME], description="The last administrator cannot be deleted (409)."),
)
class AccountViewSet(mixins.ListModelMixin, GenericViewSet[User]):
    """Accounts."""

    serializer_class = AccountSerializer
    write_role = User.Role.ADMINISTRATOR
    lookup_field = "username"
    lookup_value_regex = Router.ANY_TEXT
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["account"]

    @property
    def error_statuses(self) -> set[int]:
        return {429} if self.action == "partial_update" else set()

    def get_permissions(self) -> list[BasePermission]:
        # Everyone may change their own password.
        return [IsAuthenticated()] if self.action == "partial_update" else [RolePermission()]  # type: ignore[list-item]

    def get_queryset(self) -> QuerySet[User]:
        accounts = User.objects.order_by("username")
        user = self.request.user
        if isinstance(user, User) and not user.is_administrator:
            return accounts.filter(pk=user.pk)
        return accounts

    def get_object(self) -> User:
        return find_by_key(self.get_queryset(), "username", self.kwargs["username"], encoded=False)

    def retrieve(self, request: Request, username: str) -> Response:
        return Response(AccountSerializer(self.get_object()).data)

    def create(self, request: Request) -> Response:
        form = NewAccountSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        user = create_account(data["username"], data["password"], data["role"])
        return Response(AccountSerializer(user).data, status=201)

    def partial_update(self, request: Request, username: str) -> Response:
        user = self._changeable_account(request)
        form = AccountChangeSerializer(user, data=request.data)
        form.is_valid(raise_exception=True)
        data = form.validated_data
        # Everything is checked before anything is changed.
        changed = {name: data[name] for name in ("role", "is_active") if name in data and data[name] != getattr(user, name)}
        if changed and not self._is_administrator(request):
            raise PermissionDenied(_("Only administrators give roles, or let accounts log in."))
        digest = data.get("new_password")
        if digest is not None:
            self._check_old_password(request, user, data.get("old_password"))
        is_own = user.pk == request.user.pk
        keep = request.auth if is_own and isinstance(request.auth, AuthToken) else None
        change_account(user, **changed, digest=digest, keep=keep)
        if digest is not None and is_own and request.auth is None:
            update_session_auth_hash(request._request, user)
        return Response(AccountSerializer(user).data)

    def destroy(self, request: Request, username: str) -> Response:
        delete_account(self.get_object())
        return Response(status=204)

    def _changeable_account(self, request: Request) -> User:
        try:
            return self.get_object()
        except Http404:
            if self._is_administrator(request):
                raise
            # Whether there is such an account is not theirs to learn.
            raise PermissionDenied(_("Only administrators change other accounts.")) from None

    @staticmethod
    def _is_administrator(request: Request) -> bool:
        return isinstance(request.user, User) and request.user.is_administrator

    @staticmethod
    def _check_old_password(request: Request, user: User, old: str | None) -> None:
        """Refuse a change of one's own password by somebody who only has the token."""
        if old is None:
            if user.pk != request.user.pk:
                return
            raise ValidationError({"old_password": [_("Is required to change one's own password.")]})
        count_attempt(request, user.username)
        if not user.check_password_digest(old):
            raise ValidationError({"old_password": [_("Is not the present password.")]})
        forget_attempts(request, user.username)
