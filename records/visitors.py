"""Who may listen at `/api/event`: whoever shows a token or is logged in to the console.

Django's middleware never sees these requests. The permission is checked when a stream opens and again while it lasts,
for all listeners together.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import get_user
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import get_token_model
from rest_framework.exceptions import AuthenticationFailed

SCHEMES = {"token", "bearer"}


@dataclass(frozen=True, slots=True)
class Visitor:
    """By what a listener was let in: the stored digest of a token, or else the key of a session."""

    token_digest: str = ""
    session_key: str = ""


def admit(headers: dict[str, str], query: str) -> Visitor | None:
    """Return who asks; None: nobody we know. `headers`: lower-case names. `query`: the URL's, undecoded."""
    authorization = headers.get("authorization", "").split()
    tokens = parse_qs(query, errors="replace").get("token", [])
    if authorization:
        if len(authorization) != 2 or authorization[0].lower() not in SCHEMES:
            return None
        return _by_token(authorization[1])
    if tokens:
        return _by_token(tokens[-1])
    return _by_session(headers.get("cookie", ""))


def still_admitted(visitors: Iterable[Visitor]) -> set[Visitor]:
    """Return those whose token is neither revoked nor expired, or whose session lasts, and whose account is active."""
    visitors = set(visitors)
    live = Q(expiry__isnull=True) | Q(expiry__gt=timezone.now())
    digests = [visitor.token_digest for visitor in visitors if visitor.token_digest]
    tokens = get_token_model().objects.filter(live, user__is_active=True)
    admitted: set[Visitor] = set()
    for start in range(0, len(digests), 500):
        found = tokens.filter(digest__in=digests[start : start + 500]).values_list("digest", flat=True)
        admitted |= {Visitor(token_digest=digest) for digest in found}
    return admitted | {visitor for visitor in visitors if visitor.session_key and _is_live(visitor.session_key)}


def _by_token(token: str) -> Visitor | None:
    if not token.isprintable():
        # PostgreSQL would refuse to compare a NUL.
        return None
    try:
        _, found = TokenAuthentication().authenticate_credentials(token.encode("utf-8", "replace"))
    except AuthenticationFailed:
        return None
    return Visitor(token_digest=found.digest)


def _by_session(cookie: str) -> Visitor | None:
    try:
        morsel = SimpleCookie(cookie).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    if morsel is None or not morsel.value.isalnum() or not _is_live(morsel.value):
        return None
    return Visitor(session_key=morsel.value)


def _is_live(session_key: str) -> bool:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return get_user(request).is_authenticated
