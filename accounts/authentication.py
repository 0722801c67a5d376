"""Tokens in the `Authorization` header: `Token <token>` or `Bearer <token>`, stored hashed by knox."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class TokenAuthentication(KnoxAuthentication):
    """`Authorization: Token <token>`"""

    scheme = "Token"

    def authenticate_header(self, request: Request | str) -> str:
        return self.scheme

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isalnum():
            # Ours are hexadecimal; anything else need not trouble the database.
            raise AuthenticationFailed(_("Invalid token."))
        return super().authenticate_credentials(token)


class BearerAuthentication(TokenAuthentication):
    """`Authorization: Bearer <token>`"""

    scheme = "Bearer"
