"""Where backups are kept: endpoints (object stores or directories), tenants (their users) and restic repositories."""

from datetime import UTC, datetime, timedelta

from cryptography.x509 import load_pem_x509_certificates
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from engine.backends import Credentials
from storage.secrets import EncryptedTextField


class Endpoint(models.Model):
    """An object store or a mounted directory."""

    class Type(models.IntegerChoices):
        CEPH = 0, _("Ceph RADOS Gateway")
        S3 = 1, _("S3 compatible")
        DIRECTORY = 2, _("directory")

    address = models.CharField(
        _("address"), max_length=255, unique=True, help_text=_("host:port, or the absolute path of a mounted directory")
    )
    https = models.BooleanField(_("HTTPS"), default=True)
    type = models.PositiveSmallIntegerField(_("type"), choices=Type.choices, default=Type.CEPH)
    display_name = models.CharField(_("display name"), max_length=255, blank=True)
    authorities = models.TextField(
        _("authorities"),
        blank=True,
        help_text=_("certificates (PEM) of those who vouch for the store's own certificate; empty: those whom everybody trusts"),
    )
    max_jobs = models.PositiveIntegerField(
        _("jobs at once"), null=True, blank=True, validators=[MinValueValidator(1)], help_text=_("empty: as the settings say")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering = ["address"]

    def __str__(self) -> str:
        return self.display_name or self.address

    @property
    def is_directory(self) -> bool:
        return self.type == self.Type.DIRECTORY

    @property
    def url(self) -> str:
        """The base URL of the object store, or the path of the directory."""
        if self.is_directory:
            return self.address
        return f"{'https' if self.https else 'http'}://{self.address}"

    @property
    def authorities_end(self) -> datetime | None:
        """When the first of the authorities' certificates expires, after which the store may not be spoken to; None without any."""
        if not self.authorities:
            return None
        return min(certificate.not_valid_after_utc for certificate in load_pem_x509_certificates(self.authorities.encode()))


class Tenant(models.Model):
    """A user of an endpoint: the keys that open its buckets, and what the store says about it."""

    endpoint = models.ForeignKey(Endpoint, models.PROTECT, related_name="tenants", verbose_name=_("endpoint"))
    username = models.CharField(_("user name"), max_length=255)
    display_name = models.CharField(_("display name"), max_length=255, blank=True)
    access_key = models.CharField(_("access key"), max_length=255, blank=True)
    secret_key = EncryptedTextField(_("secret key"), blank=True)
    agent_access_key = models.CharField(
        _("agents' access key"),
        max_length=255,
        blank=True,
        help_text=_("of another user, who may not delete backups; empty: agents are given the keys above"),
    )
    agent_secret_key = EncryptedTextField(_("agents' secret key"), blank=True)
    agent_username = models.CharField(_("agents' user name"), max_length=255, blank=True, editable=False)
    lock_days = models.PositiveIntegerField(
        _("days of Object Lock"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36500)],
        help_text=_("for so many days nobody can erase what was written to a bucket that is made from now on; empty: no lock"),
    )
    quota = models.BigIntegerField(_("quota"), null=True, blank=True, help_text=_("bytes; empty: none"))
    used = models.BigIntegerField(_("used"), null=True, blank=True, help_text=_("bytes"))
    # Worked out once a day from the samples (`storage.growth`).
    growth_per_day = models.BigIntegerField(_("growth a day"), null=True, blank=True, editable=False, help_text=_("bytes"))
    full_at = models.DateTimeField(_("quota full on"), null=True, blank=True, editable=False)
    # Which percentage of the quota was told of last, 0: none since less was used.
    quota_told = models.PositiveSmallIntegerField(default=0, editable=False)
    refreshed_at = models.DateTimeField(_("read from the store"), null=True, blank=True)
    refresh_error = models.TextField(_("why it could not be read"), blank=True)
    # When a job of it was offered last, in turns (`jobs.offering`): the larger, the later.
    served_in = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        ordering = ["endpoint", "username"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "username"], name="tenant_once_per_endpoint")]

    def __str__(self) -> str:
        return f"{self.username} @ {self.endpoint}"

    @property
    def credentials(self) -> Credentials | None:
        """The server's keys; None: a directory needs none."""
        return None if self.endpoint.is_directory else Credentials(self.access_key, self.secret_key)

    @property
    def agent_credentials(self) -> Credentials | None:
        """The keys that agents are given: keys of their own if there are any."""
        return Credentials(self.agent_access_key, self.agent_secret_key) if self.agent_access_key else self.credentials


# To decrypt them takes longer than to read all the rest, and lists have no use for them.
SECRETS_OF_TENANT = ("secret_key", "agent_secret_key")
SECRETS_OF_REPOSITORY = ("password", *(f"tenant__{name}" for name in SECRETS_OF_TENANT))


class Repository(models.Model):
    """A restic repository: a bucket (or a directory below the endpoint's) and a prefix in it."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="repositories", verbose_name=_("tenant"))
    bucket = models.CharField(_("bucket"), max_length=255)
    prefix = models.CharField(_("prefix"), max_length=255, blank=True)
    password = EncryptedTextField(_("password"))
    repository_id = models.CharField(_("repository id"), max_length=64, blank=True)
    max_jobs = models.PositiveIntegerField(
        _("jobs at once"), null=True, blank=True, validators=[MinValueValidator(1)], help_text=_("empty: as the settings say")
    )
    used = models.BigIntegerField(_("used"), null=True, blank=True, editable=False, help_text=_("bytes"))
    used_at = models.DateTimeField(_("listed"), null=True, blank=True, editable=False)
    growth_per_day = models.BigIntegerField(_("growth a day"), null=True, blank=True, editable=False, help_text=_("bytes"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("repository")
        verbose_name_plural = _("repositories")
        ordering = ["tenant", "bucket", "prefix"]
        constraints = [models.UniqueConstraint(fields=["tenant", "bucket", "prefix"], name="repository_once_per_place")]

    def __str__(self) -> str:
        return self.location

    @property
    def location(self) -> str:
        """The repository as restic's `-r` takes it: `s3:http://host:port/bucket/prefix` or an absolute path."""
        path = "/".join(part for part in (self.bucket, self.prefix) if part)
        endpoint = self.tenant.endpoint
        return f"{endpoint.url}/{path}" if endpoint.is_directory else f"s3:{endpoint.url}/{path}"


class UsageSample(models.Model):
    """How much was used on a day: by a tenant as a whole, as its store says, or by one repository of it."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="usage", verbose_name=_("tenant"))
    repository = models.ForeignKey(
        Repository, models.CASCADE, null=True, blank=True, related_name="usage", verbose_name=_("repository")
    )
    day = models.DateField(_("day"))
    used = models.BigIntegerField(_("used"), help_text=_("bytes"))

    class Meta:
        verbose_name = _("use of a day")
        verbose_name_plural = _("use by day")
        ordering = ["-day", "tenant", "repository"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "day"], name="usage_of_tenant_once", condition=Q(repository=None)),
            models.UniqueConstraint(fields=["repository", "day"], name="usage_of_repository_once"),
        ]

    def __str__(self) -> str:
        return f"{self.repository or self.tenant} {self.day}"


# A repository's packs fall into so many parts, by the first byte of their ids.
PARTS = 256


def no_part_read() -> list[int]:
    return [0] * PARTS


class Verification(models.Model):
    """How far a repository is known to be sound, from the checks that were made of it (`records.verification`)."""

    class State(models.TextChoices):
        WAITING = "waiting", _("not checked yet")
        SOUND = "sound", _("sound")
        OVERDUE = "overdue", _("overdue")
        DAMAGED = "damaged", _("damaged")

    # Checks are a day apart; so much later something keeps them from being made.
    OVERDUE_AFTER = timedelta(days=2)

    repository = models.OneToOneField(
        Repository, models.CASCADE, related_name="verification", verbose_name=_("repository")
    )
    begun_at = models.DateTimeField(_("begun"))
    due_at = models.DateTimeField(_("next check"), db_index=True)
    structure_at = models.DateTimeField(_("structure found sound"), null=True, blank=True)
    # For each part the Unix second at which all of it was last read and found sound, 0: never.
    read_at = models.JSONField(default=no_part_read)
    # The parts in which the last reading found something wrong.
    damaged = models.JSONField(default=list, blank=True)
    problem = models.TextField(_("problem"), blank=True)

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")

    def __str__(self) -> str:
        return str(self.repository)

    @property
    def data_since(self) -> datetime | None:
        """Since when every byte has been read; None: some have not been yet."""
        oldest = min(self.read_at)
        return datetime.fromtimestamp(oldest, UTC) if oldest else None

    @property
    def data_share(self) -> float:
        """Which share of the parts was ever read, from 0 to 1."""
        return sum(map(bool, self.read_at)) / PARTS

    @property
    def state(self) -> str:
        now = timezone.now()
        if self.problem or self.damaged:
            return self.State.DAMAGED
        if (self.structure_at or self.begun_at) < now - self.OVERDUE_AFTER:
            return self.State.OVERDUE
        days = settings.VERIFY_DATA_DAYS
        if days and (self.data_since or self.begun_at) < now - timedelta(days=days) - self.OVERDUE_AFTER:
            return self.State.OVERDUE
        return self.State.SOUND if self.structure_at else self.State.WAITING
