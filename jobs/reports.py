"""What an agent says of a job.

A report holds names and messages of its host, which may be anything: they are made storable and cut, never refused, since a
report that is refused is an outcome that is lost.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from backupcenter.api.fields import FiniteFloatField, Int32Field, Int64Field, ReportedTextField, ReportedValueField
from backupcenter.api.text import storable
from records.course import kept_course
from records.lifecycle import CRASHED, HANDED_BACK, OUTCOMES
from records.preview import kept_preview

# Linux' longest path.
PATH_LENGTH = 4096
ERROR_LENGTH = 10_000
# Of a command; an agent sends no more, and 256 Ki of a job.
OUTPUT_LENGTH = 64 << 10


@extend_schema_field({"type": "object", "description": "Its phases, curve and log, all of them so far."})
class CourseField(serializers.Field):  # type: ignore[type-arg]
    """What an agent tells of an attempt's course; what of it is none is left out (`records.course`)."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        return kept_course(data)

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


@extend_schema_field({"type": "object", "description": "What a dry run has found: counts, bytes, the first of each kind."})
class PreviewField(CourseField):
    """What an agent tells of a dry run (`records.preview`)."""

    def to_internal_value(self, data: Any) -> dict[str, Any] | None:  # type: ignore[override]
        return kept_preview(data)


class AttemptSerializer(serializers.Serializer[Any]):
    attempt = Int32Field(min_value=1)


class ClaimSerializer(AttemptSerializer):
    nonce = serializers.CharField(
        max_length=64, required=False, default="", help_text=_("Random; the claim may be repeated with it if the answer was lost.")
    )


class ProgressSerializer(AttemptSerializer):
    progress = serializers.DictField(child=ReportedValueField(length=PATH_LENGTH, allow_null=True))
    course = CourseField(required=False, allow_null=True, default=None)

    def validate_progress(self, progress: dict[str, Any]) -> dict[str, Any]:
        return {storable(name)[:64]: value for name, value in progress.items()}


class DrilledSerializer(serializers.Serializer[Any]):
    """What a drill has found: how many files were chosen, of how many; how many failed, and what is not content."""

    files = Int64Field(required=False, default=0)
    of_files = Int64Field(required=False, default=0)
    failures = Int64Field(required=False, default=0)
    notes = Int64Field(required=False, default=0)


class ResultSerializer(serializers.Serializer[Any]):
    """The figures of a backup or a recovery; what else is sent is not kept."""

    snapshot_id = serializers.RegexField(r"^[0-9a-f]{64}\Z", required=False, allow_null=True, allow_blank=True)
    duration_s = FiniteFloatField(required=False, allow_null=True)
    files_total = Int64Field(required=False, allow_null=True)
    files_new = Int64Field(required=False, allow_null=True)
    files_changed = Int64Field(required=False, allow_null=True)
    files_unmodified = Int64Field(required=False, allow_null=True)
    bytes_total = Int64Field(required=False, allow_null=True)
    bytes_added = Int64Field(required=False, allow_null=True)
    bytes_stored = Int64Field(required=False, allow_null=True)
    files_restored = Int64Field(required=False, allow_null=True)
    files_skipped = Int64Field(required=False, allow_null=True)
    files_verified = Int64Field(required=False, allow_null=True)
    bytes_restored = Int64Field(required=False, allow_null=True)
    preview = PreviewField(required=False, allow_null=True)
    drill = DrilledSerializer(required=False, allow_null=True)


class UnreadableSerializer(serializers.Serializer[Any]):
    path = ReportedTextField(length=PATH_LENGTH, trim_whitespace=False)
    reason = ReportedTextField(length=1000, required=False, default="")


class CommandSerializer(serializers.Serializer[Any]):
    """A command that was run for the job, and the end of what it wrote."""

    stage = ReportedTextField(length=32)
    command = ReportedTextField(length=200)
    status = Int32Field(required=False, allow_null=True, default=None)
    duration_s = FiniteFloatField(required=False, default=0.0)
    output = ReportedTextField(length=OUTPUT_LENGTH, required=False, default="", trim_whitespace=False)
    error = ReportedTextField(length=1000, required=False, default="")


class FinishSerializer(AttemptSerializer):
    outcome = serializers.ChoiceField([*OUTCOMES, CRASHED, HANDED_BACK])
    error = ReportedTextField(length=ERROR_LENGTH, required=False, default="")
    result = ResultSerializer(required=False, default=dict)
    unreadable = UnreadableSerializer(many=True, required=False, default=list)
    commands = CommandSerializer(many=True, required=False, default=list)
    course = CourseField(required=False, allow_null=True, default=None)


class ProgressAnswerSerializer(serializers.Serializer[Any]):
    cancel = serializers.BooleanField()
    lease_s = serializers.IntegerField()
    report_every_s = serializers.FloatField(help_text=_("How long to wait before the next report, at most a third of the lease."))


class StoreSerializer(serializers.Serializer[Any]):
    address = serializers.CharField(help_text=_("The base URL of an object store, or the path of a directory."))
    authorities = serializers.CharField(help_text=_("Certificates (PEM) that its own is checked by; empty: the usual ones."))


class StoresSerializer(serializers.Serializer[Any]):
    """What an agent can check without keys."""

    time = serializers.FloatField(help_text=_("The server's clock, in Unix seconds."))
    stores = StoreSerializer(many=True)
