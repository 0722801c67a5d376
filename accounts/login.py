"""Logging in and out: a user name and the digest of a password become a token, which is stored hashed and expires."""

from functools import cache

from django.contrib.auth import user_logged_in
from django.contrib.auth.hashers import check_password, make_password
from django.utils.translation import gettext as _
from knox.models import get_token_model
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import User
from accounts.throttling import count_attempt, forget_attempts


def log_in(request: Request, username: str, digest: str) -> str:
    """Return a new token for the account. Raises AuthenticationFailed (401), Throttled (429)."""
    username = User.normalize_username(username)
    count_attempt(request, username)
    user = find_account(username, digest)
    if user is None:
        raise AuthenticationFailed(_("The user name or the password is wrong."))
    forget_attempts(request, username)
    _row, token = get_token_model().objects.create(user)
    user_logged_in.send(sender=User, request=request, user=user)
    return str(token)


def find_account(username: str, digest: str) -> User | None:
    """Return the active account with these credentials, taking the same time whether the name or the digest is wrong."""
    user = User.objects.filter(username=username).first()
    matches = check_password(digest.lower(), user.password if user else _password_of_nobody())
    return user if user is not None and matches and user.is_active else None


@cache
def _password_of_nobody() -> str:
    return make_password("nobody's")
