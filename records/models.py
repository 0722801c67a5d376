"""History: what ran, how it went, and what was said about it.

A record is also the job itself while it waits and runs: it is claimed, leased and finished by conditional updates
(`records.lifecycle`), so that no two agents ever work on one attempt.
"""

from datetime import datetime, timedelta
from typing import ClassVar, Generic, TypeVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KT
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from clients.models import Client
from storage.models import Repository

Record = TypeVar("Record", bound=models.Model, covariant=True)


class State(models.IntegerChoices):
    SUCCESS = 0, _("success")
    QUEUED = 1, _("queued")
    RUNNING = 2, _("running")
    FAILED = 3, _("failed")
    CANCELLED = 4, _("cancelled")
    WARNINGS = 5, _("finished with warnings")
    LOST = 6, _("lost")


ACTIVE_STATES = (State.QUEUED, State.RUNNING)
RESTORABLE_STATES = (State.SUCCESS, State.WARNINGS)


class JobRecord(models.Model):
    """What backups and recoveries have in common: an attempt at a job on a client, and its outcome."""

    KIND = ""
    # Why it waits, as a sentence without its end; known once `records.slots.explain_waiting` has looked.
    waits_for: str | None = None

    # Their indexes by client and number serve for the client alone too.
    client = models.ForeignKey(
        Client, models.SET_NULL, null=True, db_index=False, related_name="%(class)ss", verbose_name=_("client")
    )
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    # Of the attempts so far, which then do not count as lost.
    handed_back = models.PositiveIntegerField(_("attempts that a stopped agent handed back"), default=0)
    queued_at = models.DateTimeField(pgettext_lazy("time", "queued"), auto_now_add=True)
    # Nobody is to begin before; of those that wait, whoever may begin first is the oldest.
    not_before = models.DateTimeField(_("waits until"), null=True, blank=True)
    # Since when a queued job holds a slot (`records.slots`), and its client may claim it.
    offered_at = models.DateTimeField(_("offered to its client"), null=True, blank=True)
    published_at = models.DateTimeField(_("put on the client's queue"), null=True, blank=True)
    start_time = models.DateTimeField(pgettext_lazy("time", "started"), null=True, blank=True)
    end_time = models.DateTimeField(pgettext_lazy("time", "ended"), null=True, blank=True)
    lease_until = models.DateTimeField(_("lease until"), null=True, blank=True)
    # The oldest protocol of agents (`clients.compatibility`) that do all of it.
    needs_protocol = models.PositiveSmallIntegerField(default=1, editable=False)
    # What its agent has chosen for the claim, so that it may ask again after an answer that was lost.
    claim_nonce = models.CharField(max_length=64, blank=True, editable=False)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False)
    error = models.TextField(_("error"), blank=True)
    progress = models.JSONField(_("progress"), null=True, blank=True)
    unreadable = models.JSONField(_("files that could not be read or written"), default=list, blank=True)
    # Each with stage, command, status, duration_s, output and error (`agent.hooks.command_record`).
    commands = models.JSONField(_("commands that were run"), default=list, blank=True)
    duration_s = models.FloatField(_("duration (seconds)"), null=True, blank=True)
    # Of the latest attempt, as its agent tells it (`agent.course`, `records.course`).
    course = models.JSONField(_("course"), default=dict, blank=True, editable=False)

    class Meta:
        abstract = True
        ordering = ["-pk"]

    @property
    def job(self) -> str:
        """The job's name between server and agent."""
        return f"{self.KIND}-{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES


class JobRecords(models.Manager[Record], Generic[Record]):
    """Records without their course, which may be thousands of characters and is for their own pages: it is read once it is used."""

    def get_queryset(self) -> models.QuerySet[Record]:
        return super().get_queryset().defer("course")


class PresentBackups(JobRecords["BackupRecord"]):
    """The runs that were not deleted: what everybody sees who does not ask for the trash."""

    def get_queryset(self) -> models.QuerySet["BackupRecord"]:
        return super().get_queryset().filter(deleted_at=None)


class DeletedBackups(JobRecords["BackupRecord"]):
    """The trash: runs that were deleted and can be brought back (`records.deleting`)."""

    def get_queryset(self) -> models.QuerySet["BackupRecord"]:
        return super().get_queryset().exclude(deleted_at=None)


class BackupRecord(JobRecord):
    """A run of a backup plan. `objects` has not those that are in the trash."""

    KIND = "backup"

    plan_uuid = models.UUIDField(_("plan"))
    plan_name = models.CharField(_("plan name"), max_length=255)
    backup_detail = models.JSONField(_("the plan as it was"))
    repository = models.ForeignKey(Repository, models.PROTECT, related_name="backups", verbose_name=_("repository"))
    # null: started by hand. Unique with the plan, so that two schedulers cannot both fire it.
    scheduled_at = models.DateTimeField(_("scheduled for"), null=True, blank=True)
    is_late = models.BooleanField(_("run late"), default=False)
    hold_until = models.DateTimeField(_("held until"), null=True, blank=True)
    snapshot = models.CharField(_("snapshot"), max_length=64, blank=True, db_index=True)
    # Of what no agent has reported: it was found in its repository (`records.adopting`).
    adopted_at = models.DateTimeField(_("found in the repository"), null=True, blank=True)
    vanished_at = models.DateTimeField(_("missing from the repository since"), null=True, blank=True)
    files_total = models.BigIntegerField(_("files"), null=True, blank=True)
    files_new = models.BigIntegerField(_("new files"), null=True, blank=True)
    files_changed = models.BigIntegerField(_("changed files"), null=True, blank=True)
    files_unmodified = models.BigIntegerField(_("unmodified files"), null=True, blank=True)
    bytes_read = models.BigIntegerField(_("bytes read"), null=True, blank=True)
    bytes_added = models.BigIntegerField(_("bytes added"), null=True, blank=True)
    bytes_stored = models.BigIntegerField(_("bytes stored"), null=True, blank=True)
    deleted_at = models.DateTimeField(pgettext_lazy("time", "deleted"), null=True, blank=True, editable=False)
    # So it was deleted; and if it is there nevertheless, somebody has brought it back, and its hold does not count any more.
    is_let_go = models.BooleanField(_("let go, as its hold had ended"), default=False, editable=False)
    legal_hold_at = models.DateTimeField(_("under legal hold since"), null=True, blank=True, editable=False)
    legal_hold_by = models.CharField(_("put under legal hold by"), max_length=150, blank=True, editable=False)
    legal_hold_reason = models.TextField(_("reason of the legal hold"), blank=True, editable=False)

    objects = PresentBackups()
    trash = DeletedBackups()

    class Meta(JobRecord.Meta):
        verbose_name = _("backup record")
        verbose_name_plural = _("backup records")
        constraints = [
            models.UniqueConstraint(fields=["plan_uuid", "scheduled_at"], name="backup_once_per_fire"),
        ]
        indexes = [
            models.Index(fields=["plan_uuid", "-id"], name="backup_by_plan"),
            models.Index(fields=["client", "-id"], name="backup_by_client"),
            models.Index(fields=["state", "-id"], name="backup_by_state"),
            models.Index(fields=["queued_at"], name="backup_by_time"),
            models.Index(fields=["hold_until"], name="backup_held", condition=Q(hold_until__isnull=False)),
            # Not by lease: each report would then have to be entered in every index of the row.
            models.Index(fields=["state"], name="backup_at_work", condition=Q(state__in=[1, 2])),
            # What a far page skips is counted in it, without reading the rows.
            models.Index(fields=["id"], name="backup_present", condition=Q(deleted_at__isnull=True)),
            models.Index(fields=["end_time"], name="backup_failed", condition=Q(state__in=[3, 6])),
            models.Index(fields=["deleted_at"], name="backup_deleted", condition=Q(deleted_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.plan_name} #{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def is_restorable(self) -> bool:
        return self.state in RESTORABLE_STATES and bool(self.snapshot) and self.vanished_at is None

    @property
    def is_under_legal_hold(self) -> bool:
        return self.legal_hold_at is not None

    @property
    def gone_at(self) -> datetime | None:
        """When its grace is over, if it was deleted: from then on it may be gone for good."""
        return None if self.deleted_at is None else self.deleted_at + timedelta(days=settings.TRASH_DAYS)


class DeletedBackup(BackupRecord):
    """A run in the trash, as the console lists it."""

    objects = DeletedBackups()  # type: ignore[assignment, misc]

    class Meta:
        proxy = True
        verbose_name = _("deleted backup record")
        verbose_name_plural = _("trash")
        ordering = ["-deleted_at"]


class RecoveryRecord(JobRecord):
    """A restore of a backup record to a client."""

    KIND = "recovery"

    # Deleting a backup record keeps the history of its recoveries: the detail is copied.
    backup_record = models.ForeignKey(
        BackupRecord, models.SET_NULL, null=True, related_name="recoveries", verbose_name=_("backup record")
    )
    backup_record_detail = models.JSONField(_("the backup record as it was"))
    recovery_data = models.TextField(_("recovery data"))
    files_restored = models.BigIntegerField(_("files restored"), null=True, blank=True)
    files_skipped = models.BigIntegerField(_("files left as they were"), null=True, blank=True)
    files_verified = models.BigIntegerField(_("files verified"), null=True, blank=True)
    bytes_restored = models.BigIntegerField(_("bytes restored"), null=True, blank=True)
    is_dry_run = models.BooleanField(_("dry run"), default=False)
    # What a dry run has found (`records.preview`).
    preview = models.JSONField(_("what would change"), null=True, blank=True, editable=False)

    # Of a drill, which is restored to be looked at alone (`records.drills`), and what its agent has found.
    is_drill = models.BooleanField(_("restore drill"), default=False)
    drilled = models.JSONField(null=True, blank=True, editable=False)

    objects: ClassVar[JobRecords["RecoveryRecord"]] = JobRecords()

    class Meta(JobRecord.Meta):
        verbose_name = _("recovery record")
        verbose_name_plural = _("recovery records")
        indexes = [
            models.Index(fields=["client", "-id"], name="recovery_by_client"),
            models.Index(fields=["queued_at"], name="recovery_by_time"),
            models.Index(fields=["state"], name="recovery_at_work", condition=Q(state__in=[1, 2])),
            models.Index(KT("backup_record_detail__backup_detail__uuid"), models.F("id").desc(), name="recovery_by_plan"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class Event(models.Model):
    """Something that happened, as people are told: also sent to `/api/event`."""

    class Level(models.IntegerChoices):
        INFO = 0x00, _("info")
        SUCCESS = 0x20, _("success")
        WARNING = 0x40, _("warning")
        ERROR = 0x50, _("error")

    class Topic(models.IntegerChoices):
        GENERAL = 0, _("general")
        BACKUP = 1, _("backup")
        RECOVERY = 2, _("recovery")
        CLIENT = 3, _("client")
        STORAGE = 4, _("storage")
        MAINTENANCE = 5, _("maintenance")
        ACCOUNT = 6, _("account")

    class Occasion(models.TextChoices):
        """What people may want to be told by a rule (`records.notifying`); an event that is none of these has none."""

        FAILED = "failed", _("a backup or restore failed")
        MISSED = "missed", _("a run was missed")
        STALE = "stale", _("a plan has had no new backup for too long")
        RECOVERED = "recovered", _("a plan succeeds again")
        QUOTA = "quota", _("a quota is nearly or wholly used")
        DRILL_FAILED = "drill-failed", _("a restore drill failed")
        CHECK_FAILED = "check-failed", _("a check failed or is overdue")
        UPKEEP_FAILED = "upkeep-failed", _("upkeep of a repository failed")
        STORE_UNREADABLE = "store-unreadable", _("a store cannot be read")
        CLIENT_OFFLINE = "client-offline", _("an agent does not answer")
        CLIENT_ONLINE = "client-online", _("an agent is back")
        SECURITY = "security", _("something about security happened")

    time = models.DateTimeField(_("time"), auto_now_add=True, db_index=True)
    level = models.PositiveSmallIntegerField(_("level"), choices=Level.choices)
    topic = models.PositiveSmallIntegerField(_("topic"), choices=Topic.choices)
    title = models.CharField(_("title"), max_length=255)
    message = models.TextField(_("message"), blank=True)
    plan_uuid = models.UUIDField(_("plan"), null=True, blank=True, db_index=True)
    job = models.CharField(_("job"), max_length=64, blank=True, db_index=True)
    occasion = models.CharField(_("occasion"), max_length=24, choices=Occasion.choices, blank=True)
    client = models.ForeignKey(Client, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("client"))
    is_sent = models.BooleanField(default=False, editable=False)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["time"], name="event_unsent", condition=Q(is_sent=False)),
            models.Index(fields=["level", "-id"], name="event_by_level"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def type(self) -> int:
        """The number the contract gives an event: the level, and in the low digit what it is about."""
        return self.level | self.topic


class MaintenanceRun(models.Model):
    """Work of the server on a repository: checking it, forgetting snapshots, giving their space back."""

    class Kind(models.TextChoices):
        CHECK = "check", _("check")
        CHECK_DATA = "check-data", _("check with data")
        FORGET = "forget", _("forget")
        PRUNE = "prune", _("prune")
        DRILL = "drill", _("restore drill")
        MAINTENANCE = "maintenance", _("maintenance")
        OWN_BACKUP = "own-backup", _("backup of the server's database")
        PLANS = "plans", _("backup of the plans' definitions")

    repository = models.ForeignKey(Repository, models.CASCADE, related_name="maintenance", verbose_name=_("repository"))
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices, default=State.QUEUED)
    arguments = models.JSONField(_("arguments"), default=dict, blank=True)
    result = models.JSONField(_("result"), default=dict, blank=True)
    error = models.TextField(_("error"), blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    queued_at = models.DateTimeField(pgettext_lazy("time", "queued"), auto_now_add=True)
    published_at = models.DateTimeField(_("put on the queue"), null=True, blank=True)
    not_before = models.DateTimeField(_("waits until"), null=True, blank=True)
    start_time = models.DateTimeField(pgettext_lazy("time", "started"), null=True, blank=True)
    end_time = models.DateTimeField(pgettext_lazy("time", "ended"), null=True, blank=True)
    lease_until = models.DateTimeField(_("lease until"), null=True, blank=True)

    class Meta:
        verbose_name = _("maintenance run")
        verbose_name_plural = _("maintenance runs")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} #{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES


class DrillRecord(models.Model):
    """A restore drill of a plan's newest backup, and its evidence. The work is a maintenance run, or a client's recovery."""

    class Extent(models.TextChoices):
        SAMPLE = "sample", _("a random sample")
        WHOLE = "whole", _("the whole backup")

    plan_uuid = models.UUIDField(_("plan"))
    plan_name = models.CharField(_("plan name"), max_length=255)
    run = models.OneToOneField(
        MaintenanceRun, models.SET_NULL, null=True, related_name="drill", verbose_name=_("maintenance run")
    )
    # How a client does it.
    recovery = models.OneToOneField(RecoveryRecord, models.SET_NULL, null=True, related_name="drill", verbose_name=_("recovery"))
    backup_record = models.ForeignKey(
        BackupRecord, models.SET_NULL, null=True, related_name="drills", verbose_name=_("backup record")
    )
    snapshot = models.CharField(_("snapshot"), max_length=64, blank=True)
    extent = models.CharField(_("what is restored"), max_length=16, choices=Extent.choices, default=Extent.SAMPLE)
    place = models.CharField(_("where to"), max_length=255, blank=True)
    scheduled_at = models.DateTimeField(_("scheduled for"), null=True, blank=True)
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices, default=State.QUEUED)
    queued_at = models.DateTimeField(pgettext_lazy("time", "queued"), auto_now_add=True)
    start_time = models.DateTimeField(pgettext_lazy("time", "started"), null=True, blank=True)
    end_time = models.DateTimeField(pgettext_lazy("time", "ended"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    files = models.BigIntegerField(_("files chosen"), null=True, blank=True)
    of_files = models.BigIntegerField(_("files in the backup"), null=True, blank=True)
    compared = models.BigIntegerField(_("files compared"), null=True, blank=True)
    bytes_restored = models.BigIntegerField(_("bytes restored"), null=True, blank=True)
    mismatches = models.BigIntegerField(_("files that differ"), null=True, blank=True)
    problems = models.JSONField(_("problems"), default=list, blank=True)
    # About owners and devices, which the server's user may not be allowed to make; never about content.
    notes = models.BigIntegerField(_("entries without their owners or attributes"), null=True, blank=True)
    duration_s = models.FloatField(_("restored and compared in (seconds)"), null=True, blank=True)
    age_s = models.FloatField(_("age of the backup (seconds)"), null=True, blank=True)
    command = models.TextField(_("command"), blank=True)
    command_status = models.IntegerField(_("exit status of the command"), null=True, blank=True)
    command_output = models.TextField(_("end of the command's output"), blank=True)

    class Meta:
        verbose_name = _("restore drill")
        verbose_name_plural = _("restore drills")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["plan_uuid", "-id"], name="drill_by_plan"),
            models.Index(fields=["queued_at"], name="drill_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.plan_name} #{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES


class DeletedRuns(models.Model):
    """How many runs of a plan ended in a month in one state whose records were deleted since."""

    plan_uuid = models.UUIDField(_("plan"))
    plan_name = models.CharField(_("plan name"), max_length=255)
    month = models.DateField(_("month"))
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices)
    count = models.PositiveIntegerField(_("runs"), default=0)
    last_end = models.DateTimeField(pgettext_lazy("time", "ended"))

    class Meta:
        verbose_name = _("deleted runs")
        verbose_name_plural = _("deleted runs")
        constraints = [
            models.UniqueConstraint(fields=["month", "plan_uuid", "state"], name="deleted_runs_once"),
        ]

    def __str__(self) -> str:
        return f"{self.plan_name} {self.month:%Y-%m}"


# Models of the same app, which Django finds only here.
from records.notifying.models import Channel, Delivery, Rule  # noqa: E402

__all__ = ["Channel", "Delivery", "Rule"]
