"""Whom to tell, of what, and what was told: channels, rules and deliveries."""

import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from clients.models import Client
from storage.secrets import EncryptedTextField


def server_language() -> str:
    """Return the language that a channel is told in unless it names another."""
    return str(settings.LANGUAGE_CODE)


def server_time_zone() -> str:
    """Return the IANA name of the time zone of quiet hours unless the rule names another."""
    return str(settings.TIME_ZONE)


class Channel(models.Model):
    """Where people are told: an Apprise address (mail, Slack, WeCom …), or a webhook that is signed."""

    class Kind(models.TextChoices):
        APPRISE = "apprise", _("Apprise address")
        WEBHOOK = "webhook", _("signed webhook")

    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices, default=Kind.APPRISE)
    # An Apprise address holds passwords and tokens; a webhook's may.
    address = EncryptedTextField(_("address"))
    secret = EncryptedTextField(_("signing secret"), blank=True, editable=False)
    language = models.CharField(_("language"), max_length=16, choices=settings.LANGUAGES, default=server_language)
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("notification channel")
        verbose_name_plural = _("notification channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Rule(models.Model):
    """Which occasions are told on which channels, and when not."""

    class Digest(models.TextChoices):
        IMMEDIATE = "immediate", _("at once")
        HOURLY = "hourly", _("every hour")
        DAILY = "daily", _("every day")

    name = models.CharField(_("name"), max_length=100, unique=True)
    occasions = models.JSONField(_("occasions"), default=list)
    channels = models.ManyToManyField(Channel, related_name="rules", verbose_name=_("channels"))
    clients = models.ManyToManyField(
        Client, related_name="+", blank=True, verbose_name=_("clients"), help_text=_("only events of these; none: of all")
    )
    plans = models.JSONField(
        _("plans"), default=list, blank=True, help_text=_("UUIDs of plans: only events of these; none: of all")
    )
    digest = models.CharField(_("digest"), max_length=16, choices=Digest.choices, default=Digest.IMMEDIATE)
    quiet_from = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_until = models.TimeField(
        _("quiet until"), null=True, blank=True, help_text=_("what happens in quiet hours is told when they end")
    )
    timezone = models.CharField(_("time zone"), max_length=64, default=server_time_zone)
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("notification rule")
        verbose_name_plural = _("notification rules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        from records.notifying.rules import clean_rule

        errors = clean_rule(self)
        if errors:
            raise ValidationError(dict[str, Any](errors))


class Delivery(models.Model):
    """An event that a channel is to be told of: the outbox, and afterwards the log of what was told."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        TOLD = "told", pgettext_lazy("delivery", "told")
        GIVEN_UP = "given-up", pgettext_lazy("delivery", "given up")

    uid = models.UUIDField(_("UUID"), unique=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="deliveries", verbose_name=_("channel"))
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, related_name="+", verbose_name=_("rule"))
    event = models.ForeignKey("records.Event", models.CASCADE, related_name="deliveries", verbose_name=_("event"))
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    due_at = models.DateTimeField(_("due"))
    # A sender that dies leaves its claim to run out, and the delivery is tried again.
    claimed_until = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True)
    told_at = models.DateTimeField(pgettext_lazy("time", "told"), null=True, blank=True)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["channel", "event"], name="delivery_once_per_channel")]
        indexes = [models.Index(fields=["due_at"], name="delivery_waiting", condition=models.Q(state="waiting"))]

    def __str__(self) -> str:
        return f"{self.channel} #{self.pk}"
