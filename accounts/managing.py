"""Creating, changing and deleting accounts, so that an administrator always remains."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from knox.models import AuthToken

from accounts.models import User
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


def change_password(user: User, digest: str, keep: AuthToken | None = None) -> None:
    """Set a password and end the account's tokens, except for `keep` (the one that the request came with)."""
    user.set_password_digest(digest)
    user.save(update_fields=["password"])
    end_tokens(user, keep)


def end_tokens(user: User, keep: AuthToken | None = None) -> None:
    tokens = AuthToken.objects.filter(user=user)
    if keep is not None:
        tokens = tokens.exclude(pk=keep.pk)
    tokens.delete()


def change_role(user: User, role: str) -> None:
    """Give an account another role. Raises LastAdministrator."""
    with transaction.atomic():
        if user.is_administrator and role != User.Role.ADMINISTRATOR:
            require_another_administrator(user)
        user.role = role
        user.save(update_fields=["role", "is_superuser"])


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
