"""People and scripts that use the server, and what they may do.

Where the API says password it means the MD5 hex digest of what a person typed; the console takes what the person typed.
One stored credential serves both: a strong hash over that digest.
"""

import hashlib
import re
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.hashers import acheck_password, check_password, make_password
from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.base_session import AbstractBaseSession, BaseSessionManager
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken

DIGEST = re.compile(r"[0-9a-fA-F]{32}")


def password_digest(password: str) -> str:
    """Return the MD5 hex digest that stands for `password` in the API."""
    return hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()


def is_password_digest(text: str) -> bool:
    return DIGEST.fullmatch(text) is not None


class AccountManager(UserManager["User"]):
    """Creates accounts from the passwords that people type, or from their digests."""

    def _create_user_object(self, username: str, email: str | None, password: str | None, **fields: Any) -> "User":
        user = self.model(username=self.model.normalize_username(username), email=self.normalize_email(email), **fields)
        user.set_password(password)
        return user

    def create_superuser(self, username: str, email: str | None = None, password: str | None = None, **fields: Any) -> "User":
        if password is not None:
            # The command asks whether to do without; nobody is to answer that.
            validate_password(password, User(username=username))
        return super().create_superuser(username, email, password, **{"role": User.Role.ADMINISTRATOR, **fields})


class User(AbstractUser):
    """An account with one of three roles."""

    class Role(models.TextChoices):
        ADMINISTRATOR = "administrator", _("administrator")
        OPERATOR = "operator", _("operator")
        VIEWER = "viewer", _("viewer")

    has_new_password = False

    role = models.CharField(_("role"), max_length=16, choices=Role.choices, default=Role.VIEWER)

    objects: ClassVar[AccountManager] = AccountManager()

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["username"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        # The role alone says what an account may do; Django's own marks follow it.
        self.is_superuser = self.role == self.Role.ADMINISTRATOR
        self.is_staff = True
        super().save(*args, **kwargs)
        if self.has_new_password:
            # A new password ends what was opened with the old one, whichever page or command it comes from.
            AuthToken.objects.filter(user=self).delete()
            Session.objects.filter(user=self).delete()
            self.has_new_password = False

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Whether the console lets the account do this. `perm`: `app.action_model`."""
        app, _, codename = perm.partition(".")
        if app not in settings.OPERATED_APPS:
            return self.is_administrator or (app in settings.VIEWED_APPS and codename.startswith("view_") and self.is_active)
        return self.has_role(self.Role.VIEWER if codename.startswith("view_") else self.Role.OPERATOR)

    def has_module_perms(self, app_label: str) -> bool:
        visible = app_label in settings.VIEWED_APPS or app_label in settings.OPERATED_APPS
        return self.is_administrator or (self.is_active and visible)

    @property
    def is_administrator(self) -> bool:
        return self.has_role(self.Role.ADMINISTRATOR)

    @property
    def is_operator(self) -> bool:
        """Whether the account may run and change backups (administrators may too)."""
        return self.has_role(self.Role.OPERATOR)

    def has_role(self, role: str) -> bool:
        """Whether the account may do what `role` may; each role includes those below it."""
        ranks = [self.Role.VIEWER, self.Role.OPERATOR, self.Role.ADMINISTRATOR]
        return self.is_active and ranks.index(self.Role(self.role)) >= ranks.index(self.Role(role))

    def set_password(self, raw_password: str | None) -> None:
        """Take the password that a person typed, None for one that nobody has; saving it ends the account's tokens."""
        self._password = raw_password
        self.has_new_password = True
        self.password = make_password(None if raw_password is None else password_digest(raw_password))

    def set_unusable_password(self) -> None:
        self.set_password(None)

    def set_password_digest(self, digest: str) -> None:
        """Store the credential given as the API gives it. `digest`: 32 hexadecimal digits.

        Which tokens end with it is for the caller to say (`accounts.managing.change_password`).
        """
        if not is_password_digest(digest):
            raise ValueError("not an MD5 hex digest")
        self._password = None
        self.password = make_password(digest.lower())

    def check_password(self, raw_password: str | None) -> bool:
        return raw_password is not None and self.check_password_digest(password_digest(raw_password))

    async def acheck_password(self, raw_password: str | None) -> bool:
        return raw_password is not None and await acheck_password(password_digest(raw_password), self.password)

    def check_password_digest(self, digest: str) -> bool:
        return check_password(digest.lower(), self.password)


class Token(AuthToken):
    """A token of the API, as the console shows it: by its account and its age, not by its digest."""

    class Meta:
        proxy = True
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.user} ({self.created:%Y-%m-%d %H:%M})"


class SessionQuerySet(models.QuerySet["Session"]):
    def live(self) -> "SessionQuerySet":
        return self.filter(expire_date__gt=timezone.now())


class Session(AbstractBaseSession):
    """Somebody's being logged in to the console; see `accounts.sessions` for what its key and data are.

    `browser`: what it called itself.
    """

    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="+", verbose_name=_("account"))
    address = models.GenericIPAddressField(_("address"), null=True)
    browser = models.CharField(_("browser"), max_length=200, blank=True)
    began_at = models.DateTimeField(_("began at"), null=True)

    objects: ClassVar[Any] = BaseSessionManager.from_queryset(SessionQuerySet)()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"{self.user or '-'} ({self.address or '-'})"

    @classmethod
    def get_session_store_class(cls) -> Any:
        from accounts.sessions import SessionStore

        return SessionStore


class AppendOnly(Exception):
    """The audit log is added to, and not changed."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Rows to read; the only ones that go are older than the settings keep them (`accounts.housekeeping`)."""

    def update(self, **fields: Any) -> int:
        raise AppendOnly

    def bulk_update(self, *entries: Any, **options: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class AuditEntry(models.Model):
    """One thing that somebody did, or was refused.

    `actor` is a name and no key: an entry outlives the account. `objects`: of each the model, id, name, what happened to it and the
    names of the fields that changed; `unnamed` counts those that were too many to name. `status`: of the HTTP answer.
    """

    class Via(models.TextChoices):
        API = "api", _("API")
        CONSOLE = "console", _("console")
        COMMAND = "command", _("command")

    class Outcome(models.TextChoices):
        DONE = "done", _("done")
        REFUSED = "refused", _("refused")
        INVALID = "invalid", _("not valid")
        FAILED = "failed", _("failed")

    time = models.DateTimeField(_("time"), default=timezone.now, db_index=True)
    actor = models.CharField(_("who"), max_length=150, blank=True, db_index=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    via = models.CharField(_("by way of"), max_length=8, choices=Via.choices)
    action = models.CharField(_("action"), max_length=150)
    path = models.CharField(_("path"), max_length=500, blank=True)
    outcome = models.CharField(_("outcome"), max_length=8, choices=Outcome.choices)
    status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    touched = models.JSONField(_("objects"), default=list)
    unnamed = models.PositiveIntegerField(_("further objects"), default=0)

    objects: ClassVar[Any] = AuditQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.actor or '-'}: {self.action} ({self.get_outcome_display()})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly
