"""How the API describes itself in OpenAPI: the errors of every operation, PUT as a change of some fields, one security scheme.

A view adds what only it knows with `extend_schema`; everything that the conventions promise is added here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import AllowAny

Error = inline_serializer(
    "Error",
    {
        "error": serializers.CharField(help_text="One sentence for people."),
        "fields": serializers.DictField(
            child=serializers.ListField(child=serializers.CharField()),
            required=False,
            help_text="What is wrong, by field; only beside a 400.",
        ),
    },
)

DESCRIPTIONS = {
    400: "The request is not valid; `fields` says where.",
    401: "Log in again: the token is missing, wrong or expired.",
    403: "The account's role does not allow this.",
    404: "There is no such object.",
    405: "The address does not take this method.",
    409: "It does not fit the present state; the sentence says why.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8.",
    426: "The server does not understand the agent's protocol; the sentence says what to do.",
    429: "Too many attempts; `Retry-After` says for how long.",
    502: "The object store failed.",
}


class Schema(AutoSchema):
    """Adds the answers that the conventions promise to what each view declares."""

    def get_tags(self) -> list[str]:
        declared: list[str] | None = getattr(self.view, "schema_tags", None)
        return declared or super().get_tags()

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)  # type: ignore[no-untyped-call]
        for code in sorted(self._error_statuses()):
            if str(code) not in bodies:
                bodies[str(code)] = self._get_response_for_code(error_response(code), str(code))  # type: ignore[no-untyped-call]
        return bodies

    def _error_statuses(self) -> set[int]:
        """The statuses that an operation of this kind may have; a view's `error_statuses` adds its own."""
        # Any request may carry an unknown charset, or be malformed before a view sees it.
        statuses = {400, 405, 415} | set(getattr(self.view, "error_statuses", ()))
        if not any(isinstance(permission, AllowAny) for permission in self.view.get_permissions()):
            statuses |= {401, 403}
        if "{" in self.path or self._is_paged():
            statuses.add(404)
        if self.method in {"POST", "PUT", "DELETE"}:
            statuses.add(409)
        if self.method in {"POST", "PUT"}:
            statuses.add(413)
        return statuses

    def _is_paged(self) -> bool:
        return self._is_list_view() and self._get_paginator() is not None  # type: ignore[no-untyped-call]

    def _get_request_for_media_type(self, serializer: Any, direction: str = "request") -> Any:
        with self._put_as_patch():
            return super()._get_request_for_media_type(serializer, direction)  # type: ignore[no-untyped-call]

    @contextmanager
    def _put_as_patch(self) -> Iterator[None]:
        """PUT changes the fields that are sent: the library describes that for PATCH only."""
        method = self.method
        if method == "PUT":
            self.method = "PATCH"
        try:
            yield
        finally:
            self.method = method


def error_response(code: int) -> OpenApiResponse:
    """Return the description of a failure, for `extend_schema(responses={404: error_response(404), …})`."""
    return OpenApiResponse(Error, description=DESCRIPTIONS[code])


def without_trailing_slashes(endpoints: list[tuple[str, str, str, Any]], **_options: Any) -> Any:
    """Name each route once, without the slash that it also takes."""
    return [(path.rstrip("/"), regex, method, view) for path, regex, method, view in endpoints]


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token <token>`, as `/login` gives it.",
        }


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class AgentScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "clients.authentication.AgentAuthentication"
    name = "agent"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Agent <token>`, as `/api/agent/join` gives it.",
        }
