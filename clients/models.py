"""The hosts that are backed up, and how they come to trust and be trusted by the server."""

import hashlib
import ipaddress
import secrets
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from clients.compatibility import AgentStatus, agent_status

validate_hostname = RegexValidator(r"^[^\s/\\\x00-\x1f\x7f]+\Z", _("A host name has neither blanks nor slashes."))
validate_root = RegexValidator(r"^/", _("Must be an absolute path."))


def hash_token(token: str) -> str:
    """Return what is stored of a random token; tokens hold 256 bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()


class Client(models.Model):
    """A host with an agent (or one that is still to get one)."""

    ipv4 = models.PositiveBigIntegerField(_("IPv4 address"), null=True, blank=True, unique=True)
    ipv6 = models.GenericIPAddressField(_("IPv6 address"), protocol="IPv6", null=True, blank=True, unique=True)
    hostname = models.CharField(_("host name"), max_length=253, validators=[validate_hostname])
    root = models.CharField(
        _("root"),
        max_length=4096,
        default="/",
        validators=[validate_root],
        help_text=_("the directory that relative paths of plans are relative to"),
    )
    os = models.CharField(_("operating system"), max_length=255, blank=True)
    version = models.CharField(_("agent version"), max_length=64, blank=True)
    protocol = models.PositiveSmallIntegerField(_("agent protocol"), null=True, blank=True)
    load = models.FloatField(_("load"), null=True, blank=True)
    running = models.JSONField(_("jobs at work"), default=list, blank=True)
    checks = models.JSONField(_("what the agent has checked"), default=list, blank=True)
    checked_at = models.DateTimeField(_("checked"), null=True, blank=True)
    # Names of what plans may have run there, as the agent told them last (`agent.allowed`).
    allowed = models.JSONField(_("allowed commands"), default=list, blank=True)
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True, db_index=True)
    is_offline_reported = models.BooleanField(_("offline was reported"), default=False, editable=False)
    max_jobs = models.PositiveIntegerField(
        _("jobs at once"), null=True, blank=True, validators=[MinValueValidator(1)], help_text=_("empty: as the settings say")
    )
    # When a job of it was offered last, in turns (`jobs.offering`): the larger, the later.
    served_in = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("client")
        verbose_name_plural = _("clients")
        ordering = ["hostname", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ipv4__isnull=False) | Q(ipv6__isnull=False),
                name="client_has_an_address",
            )
        ]

    def __str__(self) -> str:
        return self.hostname

    @property
    def queue(self) -> str:
        """The name of the queue that this host's agent alone consumes."""
        return f"client.{self.pk}"

    @property
    def online(self) -> bool:
        if self.last_seen is None:
            return False
        return self.last_seen >= timezone.now() - timedelta(seconds=settings.CLIENT_OFFLINE_S)

    @property
    def agent_status(self) -> AgentStatus | None:
        """How its agent fits this server; None: it was not heard of yet."""
        return agent_status(self.version, self.protocol)

    @property
    def problems(self) -> list[str]:
        """What its agent found that is to be fixed, each with what to do."""
        return [f"{check['name']}: {check['found']} → {check['fix']}" for check in self.checks if check["status"] == "failed"]

    @property
    def address(self) -> str:
        return str(ipaddress.IPv4Address(self.ipv4)) if self.ipv4 is not None else str(self.ipv6)


class AgentLogin(models.Model):
    """What a client's agent shows to server and broker; of both secrets their hashes (`clients.logins`)."""

    client = models.ForeignKey(Client, models.CASCADE, related_name="logins", verbose_name=_("client"))
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    # Empty: its agent was given the login to the broker that all of them share.
    broker_hash = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    # Empty: nobody has used it yet, so that the one before it is still good.
    used_at = models.DateTimeField(pgettext_lazy("time", "used"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)

    class Meta:
        verbose_name = _("agent's login")
        verbose_name_plural = _("agents' logins")

    def __str__(self) -> str:
        return f"{self.client} ({self.created_at:%Y-%m-%d %H:%M})"

    @property
    def is_due(self) -> bool:
        """Whether its agent had better have the next one."""
        return self.created_at < timezone.now() - timedelta(seconds=settings.AGENT_LOGIN_ROTATION_S)


class PendingCutOff(models.Model):
    """A login to the broker that is to end and may not have ended yet, since Redis was away or this process died."""

    client_number = models.BigIntegerField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)


class JoinToken(models.Model):
    """A one-time, expiring permission for an agent to join; bound to a client or free to create one."""

    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    client = models.ForeignKey(Client, models.CASCADE, null=True, blank=True, related_name="join_tokens", verbose_name=_("client"))
    expires_at = models.DateTimeField(_("expires"))
    used_at = models.DateTimeField(pgettext_lazy("time", "used"), null=True, blank=True)
    created_by = models.CharField(_("created by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("join token")
        verbose_name_plural = _("join tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.client or _('any client')} ({self.created_at:%Y-%m-%d %H:%M})"

    @classmethod
    def issue(cls, client: Client | None = None, created_by: str = "") -> tuple[Self, str]:
        """Return a new permission and its token, which is shown once and not stored."""
        token = secrets.token_urlsafe(32)
        expires_at = timezone.now() + timedelta(seconds=settings.JOIN_TOKEN_LIFETIME_S)
        row = cls.objects.create(token_hash=hash_token(token), client=client, created_by=created_by, expires_at=expires_at)
        return row, token
