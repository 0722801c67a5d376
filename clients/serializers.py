"""Clients as the API shows and takes them, and what agents send."""

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from backupcenter.api.fields import MAX_INT64, FiniteFloatField, Int32Field, Ipv4Field, Ipv6Field, ReportedTextField, UnixTimeField
from clients.compatibility import AgentStatus
from clients.models import Client, validate_hostname, validate_root


class HostnameField(serializers.CharField):
    """A host's name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 253, "validators": [validate_hostname], **options})


class ClientSerializer(serializers.ModelSerializer[Client]):
    """A host that is backed up."""

    ipv4 = Ipv4Field(required=False, allow_null=True)
    ipv6 = Ipv6Field(required=False, allow_null=True)
    hostname = HostnameField()
    root = serializers.CharField(  # type: ignore[assignment]
        max_length=4096,
        required=False,
        trim_whitespace=False,
        validators=[validate_root],
        help_text=_("What relative paths of plans are relative to."),
    )
    max_jobs = Int32Field(min_value=1, required=False, allow_null=True, help_text=_("Jobs at once; null: as the settings say."))
    online = serializers.BooleanField(read_only=True)
    last_seen = UnixTimeField(read_only=True, allow_null=True)

    agent_status = serializers.ChoiceField(
        AgentStatus.choices, read_only=True, allow_null=True, help_text=_("How the agent fits this server; null: not heard of yet.")
    )
    load = serializers.FloatField(  # type: ignore[assignment]
        read_only=True, allow_null=True, help_text=_("The host's load average over a minute, as it was last told.")
    )
    running = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text=_("The jobs that the agent worked on when it was last heard.")
    )
    allowed = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text=_("What plans may have run there: commands, and preset:name.")
    )

    checked_at = UnixTimeField(read_only=True, allow_null=True, help_text=_("When the agent last checked what it needs."))
    problems = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text=_("What the agent found that is to be fixed, with what to do.")
    )

    class Meta:
        model = Client
        told = ["online", "last_seen", "version", "os", "protocol", "agent_status", "load", "running", "allowed"]
        told += ["checked_at", "problems"]
        fields = ["id", "ipv4", "ipv6", "hostname", "root", "max_jobs", *told]
        read_only_fields = ["id", "version", "os", "protocol"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        present = {name: getattr(self.instance, name, None) for name in ("ipv4", "ipv6")}
        if not any((present | attrs)[name] is not None for name in ("ipv4", "ipv6")):
            raise serializers.ValidationError(_("A client needs an IPv4 or an IPv6 address."))
        return attrs

    def update(self, instance: Client, validated_data: dict[str, Any]) -> Client:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        # Not the whole row: its agent may join, or be heard of, at this moment.
        instance.save(update_fields=list(validated_data))
        return instance


class CheckSerializer(serializers.Serializer[Any]):
    """Something that an agent has looked at, and what to do about it."""

    name = ReportedTextField(length=64)
    status = serializers.ChoiceField(["ok", "note", "failed"])
    found = ReportedTextField(length=1000)
    fix = ReportedTextField(length=1000, required=False, default="")


class ChecksSerializer(serializers.Serializer[Any]):
    """What an agent has checked."""

    checks = CheckSerializer(many=True, max_length=100)  # type: ignore[call-arg]


class ClientDetailSerializer(ClientSerializer):
    """A host with all that its agent has checked."""

    checks = CheckSerializer(many=True, read_only=True)

    class Meta(ClientSerializer.Meta):
        fields = [*ClientSerializer.Meta.fields, "checks"]


class NestedClientSerializer(serializers.ModelSerializer[Client]):
    """A client inside a plan or record."""

    ipv4 = Ipv4Field(read_only=True, allow_null=True)

    class Meta:
        model = Client
        fields = ["id", "ipv4", "ipv6", "hostname"]
        read_only_fields = fields


class ClientKeySerializer(serializers.Serializer[Any]):
    """A client as other objects refer to it: by an address."""

    ipv4 = Ipv4Field(required=False, allow_null=True)
    ipv6 = Ipv6Field(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        wanted = {name: value for name, value in attrs.items() if value is not None}
        client = Client.objects.filter(**wanted).first() if wanted else None
        if client is None:
            raise serializers.ValidationError(gettext("There is no such client."))
        return {"found": client}


class JoinTokenSerializer(serializers.Serializer[Any]):
    """A join token, shown this once."""

    token = serializers.CharField()
    command = serializers.CharField(help_text=_("What to run on the host."))
    expires_at = UnixTimeField()


class JoinSerializer(serializers.Serializer[Any]):
    """What an agent that wants to join says about its host."""

    token = serializers.CharField(max_length=128)
    hostname = HostnameField()
    ipv4 = Ipv4Field(required=False, allow_null=True, default=None)
    ipv6 = Ipv6Field(required=False, allow_null=True, default=None)
    os = ReportedTextField(length=255, required=False, default="")
    version = ReportedTextField(length=64, required=False, default="")
    nonce = serializers.CharField(
        max_length=64, required=False, default="", help_text=_("Chosen by the agent at random, and the same when it asks again.")
    )


class JoinedClientSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(max_value=MAX_INT64)
    hostname = serializers.CharField()


class AgentLoginSerializer(serializers.Serializer[Any]):
    """An agent's login."""

    token = serializers.CharField(help_text=_("The agent's own token, shown this once."))
    broker = serializers.CharField(help_text=_("The broker's address with the agent's login there, shown this once."))


class JoinedSerializer(AgentLoginSerializer):
    """What an agent that joined needs to know."""

    client = JoinedClientSerializer()
    queue = serializers.CharField()


class HeartbeatSerializer(serializers.Serializer[Any]):
    """What an agent says now and then."""

    version = ReportedTextField(length=64, required=False, default=None)
    os = ReportedTextField(length=255, required=False, default=None)
    running = serializers.ListField(child=serializers.CharField(max_length=64), max_length=100, required=False, default=list)
    load = FiniteFloatField(required=False, allow_null=True, default=None)
    allowed = serializers.ListField(
        child=serializers.CharField(max_length=128),
        max_length=1000,
        required=False,
        default=list,
        help_text=_("Names of what plans may have run there: commands, and preset:name."),
    )
    started = serializers.BooleanField(required=False, default=False, help_text=_("The first one of an agent that was started."))
    broker_refused = serializers.BooleanField(
        required=False, default=False, help_text=_("The broker did not take the agent's login.")
    )


class HeartbeatAnswerSerializer(serializers.Serializer[Any]):
    client = serializers.IntegerField(max_value=MAX_INT64)
    login_due = serializers.BooleanField(help_text=_("The agent is to ask for its next login."))
    beat_every_s = serializers.FloatField(help_text=_("How long to wait before the next heartbeat."))
