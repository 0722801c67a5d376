"""Agents: `Authorization: Agent <token>`, the token of the login that a host was given when it joined, or later instead of it."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from clients.compatibility import AgentUnsupported, require_supported, told_protocol, told_version
from clients.logins import find_login
from clients.models import AgentLogin, Client
from clients.presence import touch


class AgentAuthentication(BaseAuthentication):
    """Finds the login of the token, and its client: `request.auth` is it, and `request.user` is nobody."""

    scheme = "Agent"

    def authenticate(self, request: Request) -> tuple[AnonymousUser, AgentLogin] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != self.scheme.lower().encode():
            return None
        login = find_login(words[1].decode("latin-1")) if len(words) == 2 else None
        if login is None:
            raise AuthenticationFailed(_("The agent's token is unknown, expired or was revoked."))
        return AnonymousUser(), login

    def authenticate_header(self, request: Request) -> str:
        return self.scheme


class IsAgent(BasePermission):
    """Lets agents in that the server understands, and nobody else."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, AgentLogin):
            return False
        try:
            require_supported(request)
        except AgentUnsupported:
            # It is there, and people are to see what is wrong with it.
            touch(request.auth.client_id, version=told_version(request), protocol=told_protocol(request))
            raise
        return True


def authenticated_login(request: Request) -> AgentLogin:
    """Return the login that an agent's request was made with."""
    login: Any = request.auth
    assert isinstance(login, AgentLogin)
    return login


def authenticated_client(request: Request) -> Client:
    """Return the client that an agent's request comes from."""
    return authenticated_login(request).client
