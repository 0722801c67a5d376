"""Creating, changing and deleting accounts, so that an administrator always remains."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from knox.models import AuthToken

from accounts.models import Session, User
from backupcenter.api.exceptions import Conflict


class LastAdministrator(Conflict):
    """Nobody could manage accounts any more."""


def create_account(username: str, digest: str, role: str = User.Role.VIEWER) -> User:
    """Return a new account. `digest`: MD5 hex of the password. Raises Conflict for a name that is taken."""
    user = User(username=User.normalize_username(username), role=role)
    if User.objects.filter(username=user.username).exists():
        raise Conflict(_("There is an account %(username)s already.") % {"username": user.username})
    user.set_password_digest(digest)
    user.save()
    return user


def change_account(
    user: User, *, role: str | None = None, is_active: bool | None = None, digest: str | None = None, keep: AuthToken | None = None
) -> None:
    """Change of an account what is given, all or nothing. Raises LastAdministrator.

    A new password ends the account's tokens, except for `keep` (the one that the request came with), and its sessions in the
    console; one that the request came with begins anew (`update_session_auth_hash`). `digest`: MD5 hex.
    """
    with transaction.atomic():
        if user.is_administrator and (role not in (None, User.Role.ADMINISTRATOR) or is_active is False):
            require_another_administrator(user)
        # Only what is given is written: the rest may have been changed since the account was read.
        fields: list[str] = []
        if role is not None:
            user.role = role
            fields += ["role", "is_superuser"]
        if is_active is not None:
            user.is_active = is_active
            fields.append("is_active")
        if digest is not None:
            user.set_password_digest(digest)
            fields.append("password")
            end_tokens(user, keep)
            Session.objects.filter(user=user).delete()
        user.save(update_fields=fields)


def end_tokens(user: User, keep: AuthToken | None = None) -> None:
    tokens = AuthToken.objects.filter(user=user)
    if keep is not None:
        tokens = tokens.exclude(pk=keep.pk)
    tokens.delete()


def delete_account(user: User) -> None:
    """Delete an account and its tokens. Raises LastAdministrator."""
    with transaction.atomic():
        if user.is_administrator:
            require_another_administrator(user)
        user.delete()


def require_another_administrator(*leaving: User) -> None:
    """Raise LastAdministrator if nobody but these could manage accounts. Holds until the end of the transaction."""
    # Every administrator is locked, so that two of them cannot delete each other at once.
    if not _others(User.objects.select_for_update(), leaving):
        raise LastAdministrator(_("The last administrator cannot be removed."))


def is_administrator_left_without(leaving: Iterable[User]) -> bool:
    """Whether somebody but these could manage accounts, as things are now."""
    return bool(_others(User.objects.all(), leaving))


def _others(accounts: QuerySet[User], leaving: Iterable[User]) -> set[int]:
    administrators = accounts.filter(role=User.Role.ADMINISTRATOR, is_active=True)
    return {user.pk for user in administrators} - {user.pk for user in leaving}
