"""Plans as the API shows and takes them, and recoveries that are asked for."""

import json
from functools import cache
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.utils.encoders import JSONEncoder

from backupcenter.api.fields import Int32Field, Int64Field, UnixTimeField
from backupcenter.api.fixed import without_fixed
from backupcenter.api.reading import represented
from clients.models import Client
from clients.serializers import ClientKeySerializer, NestedClientSerializer
from jobs.models import BackupPlan, PlanDrill
from jobs.proof import ProofState, proof_of
from records.keeping import COUNTS, HIGHEST_COUNT, SPANS, clean_rules
from records.models import BackupRecord, DrillRecord
from storage.serializers import NestedTenantSerializer, TenantKeySerializer


class ProofSerializer(serializers.Serializer[Any]):
    """What is proven of a plan: the last drill that succeeded."""

    state = serializers.ChoiceField(ProofState.choices, help_text=gettext_lazy("Of the last drill that ended."))
    at = UnixTimeField(allow_null=True, help_text=gettext_lazy("When the last drill that succeeded began."))
    duration_s = serializers.FloatField(allow_null=True, help_text=gettext_lazy("How long it took to restore and compare."))
    age_s = serializers.FloatField(allow_null=True, help_text=gettext_lazy("How old the backup was then."))


class PlanDrillSerializer(serializers.ModelSerializer[PlanDrill]):
    """When and how a plan is drilled; fields that are left out stay. Only administrators change the command."""

    next_time = UnixTimeField(source="next_at", read_only=True, allow_null=True)
    cron_expression = serializers.CharField(max_length=255, required=False, allow_null=True)
    extent = serializers.ChoiceField(DrillRecord.Extent.choices, required=False)
    client: Any = serializers.PrimaryKeyRelatedField(
        queryset=Client.objects.all(),
        required=False,
        allow_null=True,
        help_text=gettext_lazy("Number of the client whose agent restores; null: the server does."),
    )
    command = serializers.CharField(max_length=4096, required=False, allow_blank=True)

    class Meta:
        model = PlanDrill
        fields = ["cron_expression", "extent", "client", "command", "next_time"]


@extend_schema_field({
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **{name: {"type": "integer", "minimum": -1, "maximum": HIGHEST_COUNT} for name in COUNTS},
        **{name: {"type": "string", "pattern": "^([0-9]{1,9}[ymdh])+$"} for name in SPANS},
    },
    "description": "Keep rules, restic's: how many backups stay, the newest or one each hour, day, …; -1 is all.",
    "example": {"last": 7, "daily": 14, "within": "30d"},
})  # fmt: skip
class KeepField(serializers.Field):  # type: ignore[type-arg]
    """Keep rules; null is none."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return super().run_validation({} if data is None else data)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        try:
            return clean_rules(data)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


class PlanSerializer(serializers.ModelSerializer[BackupPlan]):
    """A backup plan."""

    client = NestedClientSerializer(read_only=True)
    tenant = NestedTenantSerializer(read_only=True)
    start_time = UnixTimeField(read_only=True)
    end_time = UnixTimeField(read_only=True, allow_null=True)
    next_time = UnixTimeField(source="next_fire_at", read_only=True, allow_null=True)
    state = serializers.ChoiceField(BackupPlan.State.choices, read_only=True)
    keep = KeepField(read_only=True)
    repository = serializers.CharField(source="repository.location", read_only=True)
    not_allowed = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text=gettext_lazy("What the plan has run and its client, by its agent's last word, does not allow; runs will fail."),
    )
    proof = serializers.SerializerMethodField()

    class Meta:
        model = BackupPlan
        fields = [
            "uuid",
            "backup_name",
            "backup_group",
            "client",
            "tenant",
            "bucket",
            "cron_expression",
            "start_time",
            "end_time",
            "hold_time",
            "hold_type",
            "keep",
            "backup_data",
            "not_allowed",
            "state",
            "timezone",
            "misfire",
            "jitter_s",
            "paused",
            "next_time",
            "repository",
            "proof",
        ]
        read_only_fields = fields

    @extend_schema_field(ProofSerializer)
    def get_proof(self, plan: BackupPlan) -> dict[str, Any]:
        return represented(ProofSerializer, proof_of(plan))


class PlanFieldsSerializer(serializers.Serializer[Any]):
    """The fields of a plan that can be changed."""

    backup_name = serializers.CharField(max_length=255, required=False)
    backup_group = Int32Field(required=False)
    cron_expression = serializers.CharField(max_length=255, required=False, allow_null=True)
    timezone = serializers.CharField(max_length=64, required=False)
    start_time = UnixTimeField(required=False)
    end_time = UnixTimeField(required=False, allow_null=True)
    hold_type = serializers.ChoiceField(BackupPlan.HoldType.choices, required=False)
    hold_time = Int64Field(required=False)
    keep = KeepField(required=False, allow_null=True)
    backup_data = serializers.CharField(required=False, trim_whitespace=False, max_length=1 << 20)
    misfire = serializers.ChoiceField(BackupPlan.Misfire.choices, required=False)
    jitter_s = Int32Field(min_value=0, max_value=86_400, required=False)


class PlanChangeSerializer(PlanFieldsSerializer):
    """A change of a plan; fields that are left out stay. Where it is backed up from and to cannot be changed."""

    uuid = serializers.UUIDField(required=False)
    client = ClientKeySerializer(required=False)
    tenant = TenantKeySerializer(required=False)
    bucket = serializers.CharField(max_length=255, required=False)
    repository = serializers.CharField(max_length=1024, required=False)
    shared = serializers.BooleanField(required=False)
    paused = serializers.BooleanField(required=False, help_text=gettext_lazy("Changed by /pause and /resume."))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        plan = self.instance
        assert isinstance(plan, BackupPlan)
        present = {
            "uuid": plan.uuid,
            "client": {"found": plan.client},
            "tenant": {"found": plan.tenant},
            "bucket": plan.bucket,
            "repository": plan.repository.location,
            "shared": plan.repository.prefix == "",
            "paused": plan.paused,
        }
        return without_fixed(attrs, present)


class NewPlanSerializer(PlanFieldsSerializer):
    """A new plan."""

    backup_name = serializers.CharField(max_length=255)
    client = ClientKeySerializer()
    tenant = TenantKeySerializer()
    bucket = serializers.CharField(max_length=255)
    start_time = UnixTimeField()
    backup_data = serializers.CharField(trim_whitespace=False, max_length=1 << 20)
    shared = serializers.BooleanField(
        default=False, help_text=(
            "One repository for the whole bucket, deduplicated across hosts, whose one password every host in it has, and can read "
            "all of it with. By default each client has a repository and a password of its own."
        ),
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {**attrs, "client": attrs["client"]["found"], "tenant": attrs["tenant"]["found"]}


class RecordKeySerializer(serializers.Serializer[Any]):
    """A backup record as a recovery refers to it."""

    id = Int64Field(min_value=1)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        rows = BackupRecord.objects.select_related("repository__tenant__endpoint")
        found = rows.filter(pk=attrs["id"]).first()
        if found is None:
            raise serializers.ValidationError(_("There is no such backup record."))
        return {"found": found}


class NewRecoverySerializer(serializers.Serializer[Any]):
    """A recovery that is asked for."""

    client = ClientKeySerializer()
    backup_record = RecordKeySerializer()
    recovery_data = serializers.CharField(trim_whitespace=False, max_length=1 << 20)


class WindowSerializer(serializers.Serializer[Any]):
    """When a fire's run may begin at the earliest and at the latest, and when it is to."""

    earliest = UnixTimeField()
    latest = UnixTimeField()
    planned = UnixTimeField()


class FiresSerializer(serializers.Serializer[Any]):
    """The next fires of a plan."""

    next = serializers.ListField(child=UnixTimeField())
    windows = WindowSerializer(many=True)


class PlanUsageSerializer(serializers.Serializer[Any]):
    """What a plan's backups take, in bytes, and whether the next one fits."""

    stored = serializers.IntegerField(help_text=gettext_lazy("What its backups have added, those in the trash apart."))
    expected = serializers.IntegerField(allow_null=True, help_text=gettext_lazy("Of the next run; null: not known yet."))
    left = serializers.IntegerField(allow_null=True, help_text=gettext_lazy("Of the tenant's quota; null: none, or not known."))


class JudgedSerializer(serializers.Serializer[Any]):
    """A backup record, and why it stays; one without reasons goes."""

    id = serializers.IntegerField(source="record")
    time = UnixTimeField(help_text=gettext_lazy("When its run started, which is its snapshot's time."))
    snapshot = serializers.CharField()
    bytes_stored = serializers.IntegerField(allow_null=True)
    reasons = serializers.ListField(child=serializers.CharField())


class ProposedRulesSerializer(serializers.Serializer[Any]):
    """Keep rules to try."""

    keep = KeepField(required=False, allow_null=True)


class RetentionPreviewSerializer(serializers.Serializer[Any]):
    """What a plan's keep rules or hold would let go if they were applied now."""

    keep = KeepField(help_text=gettext_lazy("The rules that were tried; none: the holds that the runs have."))
    total_stay = serializers.IntegerField()
    total_go = serializers.IntegerField()
    go = JudgedSerializer(many=True, help_text=gettext_lazy("The newest 1,000 of those that go."))
    stay = JudgedSerializer(many=True, help_text=gettext_lazy("The newest 1,000 of those that stay."))


DETAIL_FIELDS = [name for name in PlanSerializer.Meta.fields if name not in ("state", "next_time", "proof", "not_allowed")]


class _PlanDetailSerializer(PlanSerializer):
    class Meta(PlanSerializer.Meta):
        fields = DETAIL_FIELDS
        read_only_fields = DETAIL_FIELDS


def plan_detail(plan: BackupPlan) -> dict[str, Any]:
    """Return the plan as a record remembers it: what the API shows, without what only holds for the moment."""
    shown: dict[str, Any] = json.loads(json.dumps(_detail_serializer().to_representation(plan), cls=JSONEncoder))
    return shown


@cache
def _detail_serializer() -> _PlanDetailSerializer:
    """The one serializer of details: to look through the models for its fields takes longer than to use them."""
    return _PlanDetailSerializer()
