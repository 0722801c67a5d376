"""Backup plans: what is backed up, where to, when, and how long it is held."""

import json
import uuid
from typing import Any, Self

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import PeriodicTask

from clients.models import Client
from jobs.commands import names_of
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, DrillRecord
from records.models import State as Activity
from storage.models import SECRETS_OF_REPOSITORY, SECRETS_OF_TENANT, Repository, Tenant
from storage.secrets import EncryptedTextField


class PlanQuerySet(models.QuerySet["BackupPlan"]):
    """Plans, as lists of them are read."""

    def with_activity(self) -> Self:
        """Read with each plan whether a run of it is queued or running, and what its nested objects need."""
        active = BackupRecord.objects.filter(plan_uuid=OuterRef("uuid"), state__in=ACTIVE_STATES)
        secrets = [f"repository__{name}" for name in SECRETS_OF_REPOSITORY] + [f"tenant__{name}" for name in SECRETS_OF_TENANT]
        plans = self.select_related("client", "tenant__endpoint", "repository__tenant__endpoint").defer(*secrets)
        return plans.annotate(active_state=Subquery(active.order_by("-state").values("state")[:1]))

    def with_proof(self) -> Self:
        """Read with each plan its newest drill that ended and was not cancelled, and its newest that succeeded (`jobs.proof`)."""
        ended = DrillRecord.objects.filter(plan_uuid=OuterRef("uuid"), end_time__isnull=False)
        drills = ended.exclude(state=Activity.CANCELLED)
        proven = drills.filter(state__in=RESTORABLE_STATES)
        named = {f"proven_{name}": Subquery(proven.values(name)[:1]) for name in ("start_time", "duration_s", "age_s")}
        return self.annotate(drilled_state=Subquery(drills.values("state")[:1]), **named)


def newest_activity(plan_uuid: uuid.UUID) -> int | None:
    """Return the state of the plan's running run, else of its queued one, else None."""
    active = BackupRecord.objects.filter(plan_uuid=plan_uuid, state__in=ACTIVE_STATES)
    return active.order_by("-state").values_list("state", flat=True).first()


def server_timezone() -> str:
    """Return the IANA name of the time zone that a plan counts in unless it says another."""
    return str(settings.TIME_ZONE)


class Rounds(models.Model):
    """The one row that rounds of offering (`jobs.offering`) come one after the other by: its lock, and how many there were.

    `clock_at`: the latest time that a tick has seen, by which the next ones notice that the clock was put back.
    """

    number = models.BigIntegerField(default=0)
    clock_at = models.DateTimeField(null=True)

    @classmethod
    def lock(cls) -> Self:
        """Return the row, which nobody else has until the transaction ends."""
        cls.objects.get_or_create(pk=1)
        return cls.objects.select_for_update().get(pk=1)

    @classmethod
    def number_now(cls) -> int:
        """Return how many rounds have ended."""
        return cls.objects.filter(pk=1).values_list("number", flat=True).first() or 0


class BackupPlan(models.Model):
    """A plan fires by its Quartz expression, or once at `start_time` if it has none."""

    class HoldType(models.IntegerChoices):
        FOREVER = 0, _("for ever")
        DAYS = 1, _("days")
        WEEKS = 2, _("weeks")
        MONTHS = 3, _("months")
        YEARS = 4, _("years")
        COUNT = 5, _("newest backups")

    class Misfire(models.TextChoices):
        RUN_ONCE = "run-once", _("run once, late")
        SKIP = "skip", _("skip")

    class State(models.IntegerChoices):
        IDLE = 0, _("idle")
        QUEUED = 1, _("queued")
        RUNNING = 2, _("running")
        PAUSED = 3, _("paused")
        ENDED = 4, _("ended")

    uuid = models.UUIDField(_("UUID"), unique=True, default=uuid.uuid4, editable=False)
    backup_name = models.CharField(_("name"), max_length=255)
    backup_group = models.IntegerField(_("group"), default=0)
    client = models.ForeignKey(Client, models.PROTECT, related_name="plans", verbose_name=_("client"))
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="plans", verbose_name=_("tenant"))
    repository = models.ForeignKey(Repository, models.PROTECT, related_name="plans", verbose_name=_("repository"))
    bucket = models.CharField(_("bucket"), max_length=255)
    cron_expression = models.CharField(_("Quartz expression"), max_length=255, null=True, blank=True)
    timezone = models.CharField(_("time zone"), max_length=64, default=server_timezone)
    start_time = models.DateTimeField(_("no fire before"))
    end_time = models.DateTimeField(_("no fire after"), null=True, blank=True)
    hold_type = models.PositiveSmallIntegerField(_("hold type"), choices=HoldType.choices, default=HoldType.FOREVER)
    hold_time = models.PositiveBigIntegerField(_("hold time"), default=0)
    # As `records.keeping.clean_rules` has them; instead of a hold.
    keep = models.JSONField(_("keep rules"), default=dict, blank=True)
    backup_data = models.TextField(
        _("what to back up"),
        help_text=_('JSON: {"include": [...], "exclude": [...]}, and what to run: “streams”, “presets”, “hooks” (docs/sources.md)'),
    )
    misfire = models.CharField(_("missed fires"), max_length=16, choices=Misfire.choices, default=Misfire.RUN_ONCE)
    jitter_s = models.PositiveIntegerField(
        _("jitter (seconds)"),
        default=0,
        blank=True,
        validators=[MaxValueValidator(86_400)],
        help_text=_("each run may begin so much later, by a part of it that the plan and the fire decide"),
    )
    paused = models.BooleanField(_("paused"), default=False)
    next_fire_at = models.DateTimeField(_("next fire"), null=True, blank=True)
    # The last fire that was dealt with, run or not: a plan without an expression fires once for each `start_time` it is given.
    fired_at = models.DateTimeField(_("last fire"), null=True, blank=True, editable=False)
    # Since when it has had no new backup for too long, as people were told (`jobs.staleness`).
    stale_since = models.DateTimeField(_("stale since"), null=True, editable=False)
    # The row of django-celery-beat that shows this plan's schedule; beat itself never runs it (see jobs.beat).
    periodic_task = models.OneToOneField(PeriodicTask, models.SET_NULL, null=True, blank=True, editable=False, related_name="plan")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = PlanQuerySet.as_manager()

    class Meta:
        verbose_name = _("backup plan")
        verbose_name_plural = _("backup plans")
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["next_fire_at"],
                name="plan_due",
                condition=Q(paused=False, next_fire_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.backup_name

    @property
    def data(self) -> dict[str, Any]:
        """What to back up, and what to run for it (`jobs.commands`), as an object."""
        data: dict[str, Any] = json.loads(self.backup_data)
        return data

    @property
    def not_allowed(self) -> list[str]:
        """Names of what the plan has run and its client, by its agent's last word, does not allow."""
        return [name for name in names_of(self.data) if name not in self.client.allowed]

    @property
    def state(self) -> int:
        """The state that the API shows; one query unless the plan came from `with_activity`."""
        active = self.active_state if hasattr(self, "active_state") else newest_activity(self.uuid)
        if active == Activity.RUNNING:
            return self.State.RUNNING
        if active == Activity.QUEUED:
            return self.State.QUEUED
        if self.paused:
            return self.State.PAUSED
        return self.State.IDLE if self.next_fire_at is not None else self.State.ENDED

    @property
    def state_text(self) -> str:
        """The state in words."""
        return str(self.State(self.state).label)


class PlanDrill(models.Model):
    """When and how a plan's newest backup is restored to prove that it can be."""

    plan = models.OneToOneField(BackupPlan, models.CASCADE, related_name="drill", verbose_name=_("backup plan"))
    cron_expression = models.CharField(
        _("Quartz expression"), max_length=255, null=True, blank=True, help_text=_("in the plan's time zone; empty: never")
    )
    extent = models.CharField(
        _("what is restored"), max_length=16, choices=DrillRecord.Extent.choices, default=DrillRecord.Extent.SAMPLE
    )
    command = models.TextField(
        _("command"),
        blank=True,
        max_length=4096,
        help_text=_(
            "run by the server's shell in the restored directory; on a client the name of a command that is allowed there; "
            "a status other than 0 is a failure"
        ),
    )
    client = models.ForeignKey(
        Client,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="drills",
        verbose_name=_("restored on"),
        help_text=_("the client whose agent restores; empty: the server"),
    )
    next_at = models.DateTimeField(_("next drill"), null=True, blank=True, db_index=True)

    class Meta:
        verbose_name = _("drill settings")
        verbose_name_plural = _("drill settings")
        ordering = ["plan"]

    def __str__(self) -> str:
        return str(self.plan)


class PlanPing(models.Model):
    """Who outside hears of a plan's runs (`jobs.pinging`): the signal that is to be sent, or was sent last."""

    class Signal(models.TextChoices):
        START = "start", _("a run began")
        SUCCESS = "success", _("a run succeeded")
        FAIL = "fail", _("a run failed")

    plan = models.OneToOneField(BackupPlan, models.CASCADE, related_name="ping", verbose_name=_("backup plan"))
    # Whoever knows it can say that all is well.
    address = EncryptedTextField(_("address"))
    signal = models.CharField(_("signal"), max_length=8, choices=Signal.choices, blank=True, editable=False)
    text = models.TextField(blank=True, editable=False)
    due_at = models.DateTimeField(null=True, editable=False, db_index=True)
    claimed_until = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    told_at = models.DateTimeField(_("last told"), null=True, editable=False)
    error = models.TextField(_("error"), blank=True, editable=False)

    class Meta:
        verbose_name = _("dead-man ping")
        verbose_name_plural = _("dead-man pings")
        ordering = ["plan"]

    def __str__(self) -> str:
        return str(self.plan)


class AuditReport(models.Model):
    """A month's report for auditors, as it was when the month had ended (`jobs.auditreport`). `month`: its first day."""

    month = models.DateField(_("month"), unique=True)
    made_at = models.DateTimeField(_("made"), auto_now_add=True)
    content = models.JSONField()

    class Meta:
        verbose_name = _("report for auditors")
        verbose_name_plural = _("reports for auditors")
        ordering = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class SigningKey(models.Model):
    """The one key that reports and plans' definitions are signed with: Ed25519, both halves 32 bytes in base64."""

    private_key = EncryptedTextField()
    public_key = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)


class OwnBackup(models.Model):
    """Where the server's own database is backed up to (`jobs.ownbackup`): one row, or none."""

    repository = models.OneToOneField(Repository, models.PROTECT, related_name="own_backup", verbose_name=_("repository"))
    chosen_at = models.DateTimeField(_("chosen"), auto_now_add=True)

    class Meta:
        verbose_name = _("backup of the server's database")
        verbose_name_plural = _("backups of the server's database")

    def __str__(self) -> str:
        return str(self.repository)


class KeptPlans(models.Model):
    """What a repository holds of the plans that back up into it (`jobs.definitions`).

    `fingerprint`: of what was written last; `snapshots`: the ids of those that are kept, the oldest first.
    """

    repository = models.OneToOneField(Repository, models.CASCADE, related_name="kept_plans")
    fingerprint = models.CharField(max_length=64, blank=True)
    written_at = models.DateTimeField(null=True)
    snapshots = models.JSONField(default=list)

    def __str__(self) -> str:
        return str(self.repository)


class MadeKit(models.Model):
    """A recovery kit that was written (`jobs.recoverykit`). `fingerprint`: of its secrets, by which one tells that it is old."""

    made_at = models.DateTimeField(auto_now_add=True)
    fingerprint = models.CharField(max_length=64)
    is_outdated_told = models.BooleanField(default=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.made_at:%Y-%m-%d %H:%M}"


class FleetDay(models.Model):
    """A day of the whole fleet, in bytes (`jobs.protection`); None: not known."""

    day = models.DateField(unique=True)
    protected = models.BigIntegerField(null=True)
    stored = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["-day"]

    def __str__(self) -> str:
        return f"{self.day}"
