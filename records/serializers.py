"""Records as the API shows them, and what browsing answers."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from backupcenter.api.fields import UnixTimeField
from clients.serializers import NestedClientSerializer
from records.legal_hold import REASON_LENGTH
from records.models import BackupRecord, JobRecord, RecoveryRecord, State
from records.slots import explain_waiting

RECORD_FIELDS = [
    "id",
    "start_time",
    "end_time",
    "state",
    "queued_at",
    "attempt",
    "error",
    "progress",
    "unreadable",
    "commands",
    "duration_s",
    "cancel_requested",
    "waits",
]


@extend_schema_field({"type": "object", "additionalProperties": True})
class DetailField(serializers.JSONField):
    """An object whose members are not promised."""


@extend_schema_field({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]}})
class DetailListField(serializers.JSONField):
    """A path and its bytes."""


@extend_schema_field({"allOf": [{"$ref": "#/components/schemas/PlanDetail"}], "readOnly": True})
class PlanDetailField(serializers.JSONField):
    """The plan as it was when the run started."""


class CommandRunSerializer(serializers.Serializer[Any]):
    """A command that an agent has run for a job."""

    stage = serializers.CharField(help_text=_("before, prepare, stream, clear up, on_success, on_failure or after."))
    command = serializers.CharField(help_text=_("Its name, as the client's own file has it."))
    status = serializers.IntegerField(allow_null=True, help_text=_("Exit status, or minus the signal; null: it was ended."))
    duration_s = serializers.FloatField()
    output = serializers.CharField(help_text=_("The end of what it wrote, at most 64 KiB."))
    error = serializers.CharField(help_text=_("Why it counts as failed; empty if it does not."))


@extend_schema_field({"type": "string", "nullable": True, "description": "Why a queued job waits."})
class WaitsField(serializers.Field):  # type: ignore[type-arg]
    """Why a queued job waits; null of one that does not."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, record: JobRecord) -> str | None:
        if record.state == State.QUEUED and record.waits_for is None:
            explain_waiting([record])
        return record.waits_for


class LegalHoldSerializer(serializers.ModelSerializer[BackupRecord]):
    """Since when, by whom and why a backup is under legal hold."""

    time = UnixTimeField(source="legal_hold_at", read_only=True)
    by = serializers.CharField(source="legal_hold_by", read_only=True)
    reason = serializers.CharField(source="legal_hold_reason", max_length=REASON_LENGTH)

    class Meta:
        model = BackupRecord
        fields = ["time", "by", "reason"]


class BackupRecordSerializer(serializers.ModelSerializer[BackupRecord]):
    """A run of a backup plan."""

    backup_detail = PlanDetailField(read_only=True)
    start_time = UnixTimeField(read_only=True, allow_null=True)
    end_time = UnixTimeField(read_only=True, allow_null=True)
    queued_at = UnixTimeField(read_only=True)
    scheduled_time = UnixTimeField(source="scheduled_at", read_only=True, allow_null=True)
    hold_time = UnixTimeField(
        source="hold_until", read_only=True, allow_null=True, help_text=_("Held until; null: for ever, or by number.")
    )
    let_go = serializers.BooleanField(source="is_let_go", read_only=True, help_text=_("Whether its hold had ended."))
    legal_hold = serializers.SerializerMethodField(help_text=_("Null: none. Under one nobody can delete it."))
    deleted_time = UnixTimeField(source="deleted_at", read_only=True, allow_null=True)
    gone_time = UnixTimeField(
        source="gone_at", read_only=True, allow_null=True, help_text=_("Until when it can be brought back, if it was deleted.")
    )
    late = serializers.BooleanField(source="is_late", read_only=True)
    adopted_time = UnixTimeField(
        source="adopted_at", read_only=True, allow_null=True, help_text=_("When it was found in its repository; null: it was run.")
    )
    vanished_time = UnixTimeField(
        source="vanished_at", read_only=True, allow_null=True, help_text=_("Since when the repository lacks its snapshot.")
    )
    repository = serializers.CharField(source="repository.location", read_only=True)
    progress = DetailField(read_only=True, allow_null=True)
    waits = WaitsField()
    unreadable = serializers.ListField(child=DetailField(), read_only=True)
    commands = CommandRunSerializer(many=True, read_only=True)

    class Meta:
        model = BackupRecord
        fields = [
            *RECORD_FIELDS,
            "backup_detail",
            "scheduled_time",
            "late",
            "hold_time",
            "legal_hold",
            "deleted_time",
            "gone_time",
            "let_go",
            "repository",
            "snapshot",
            "adopted_time",
            "vanished_time",
            "files_total",
            "files_new",
            "files_changed",
            "files_unmodified",
            "bytes_read",
            "bytes_added",
            "bytes_stored",
        ]
        read_only_fields = fields

    @extend_schema_field({"allOf": [{"$ref": "#/components/schemas/LegalHold"}], "nullable": True})
    def get_legal_hold(self, record: BackupRecord) -> dict[str, Any] | None:
        return dict(LegalHoldSerializer(record).data) if record.is_under_legal_hold else None


class BackupRecordDetailSerializer(BackupRecordSerializer):
    """A backup record as a recovery remembers it."""

    class Meta(BackupRecordSerializer.Meta):
        fields = ["id", "backup_detail", "start_time", "end_time", "hold_time", "state", "snapshot"]
        read_only_fields = fields


class PlannedChangesSerializer(serializers.Serializer[Any]):
    """The first of what would happen to files, of each kind as [path, bytes]."""

    created = serializers.ListField(child=DetailListField())
    overwritten = serializers.ListField(child=DetailListField())
    kept = serializers.ListField(child=DetailListField())
    removed = serializers.ListField(child=DetailListField())


class RestorePreviewSerializer(serializers.Serializer[Any]):
    """What a restore would change: entries that are no directories, and their bytes."""

    created = serializers.IntegerField()
    overwritten = serializers.IntegerField()
    kept = serializers.IntegerField(help_text=_("Left as they are."))
    removed = serializers.IntegerField(help_text=_("Of another kind than what comes in their place, which counts as created."))
    bytes_created = serializers.IntegerField()
    bytes_overwritten = serializers.IntegerField()
    bytes_kept = serializers.IntegerField()
    bytes_removed = serializers.IntegerField()
    directories = serializers.IntegerField(help_text=_("Directories that would be made."))
    changes = PlannedChangesSerializer()


class RecoveryRecordSerializer(serializers.ModelSerializer[RecoveryRecord]):
    """A restore of a backup record to a client."""

    client = NestedClientSerializer(read_only=True, allow_null=True)
    backup_record = serializers.SerializerMethodField()
    start_time = UnixTimeField(read_only=True, allow_null=True)
    end_time = UnixTimeField(read_only=True, allow_null=True)
    queued_at = UnixTimeField(read_only=True)
    hold_time = serializers.SerializerMethodField(help_text=_("Until when the backup it came from is held."))
    dry_run = serializers.BooleanField(
        source="is_dry_run", read_only=True, help_text=_("It only looks what a restore would change.")
    )
    drill = serializers.BooleanField(
        source="is_drill", read_only=True, help_text=_("A restore drill, which leaves nothing on the client.")
    )
    preview = RestorePreviewSerializer(read_only=True, allow_null=True)
    progress = DetailField(read_only=True, allow_null=True)
    waits = WaitsField()
    unreadable = serializers.ListField(child=DetailField(), read_only=True)
    commands = CommandRunSerializer(many=True, read_only=True)

    class Meta:
        model = RecoveryRecord
        fields = [
            *RECORD_FIELDS,
            "client",
            "backup_record",
            "hold_time",
            "recovery_data",
            "files_restored",
            "files_skipped",
            "files_verified",
            "bytes_restored",
            "dry_run",
            "drill",
            "preview",
        ]
        read_only_fields = fields

    @extend_schema_field(BackupRecordDetailSerializer)
    def get_backup_record(self, record: RecoveryRecord) -> dict[str, Any]:
        return dict(record.backup_record_detail)

    @extend_schema_field({"type": "integer", "format": "int64", "nullable": True})
    def get_hold_time(self, record: RecoveryRecord) -> int | None:
        until: int | None = record.backup_record_detail.get("hold_time")
        return until


class FileSerializer(serializers.Serializer[Any]):
    """An entry of a directory in a backup."""

    name = serializers.CharField()
    path = serializers.CharField()
    path_raw = serializers.CharField(help_text=_("The path percent-encoded, as a query takes it, also if it is no UTF-8."))
    type = serializers.ChoiceField(["file", "dir", "symlink", "fifo", "dev", "chardev"])
    size = serializers.IntegerField()
    mtime = UnixTimeField()
    mode = serializers.IntegerField()
    uid = serializers.IntegerField()
    gid = serializers.IntegerField()
    user = serializers.CharField()
    group = serializers.CharField()
    linktarget = serializers.CharField()


class DirectorySerializer(serializers.Serializer[Any]):
    """A directory in a backup."""

    path = serializers.CharField()
    path_raw = serializers.CharField(help_text=_("The path percent-encoded, as a query takes it, also if it is no UTF-8."))
    files = FileSerializer(many=True)


def backup_record_detail(record: BackupRecord) -> dict[str, Any]:
    """Return what a recovery remembers of the backup it came from."""
    return dict(BackupRecordDetailSerializer(record).data)
