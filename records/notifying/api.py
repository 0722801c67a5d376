"""`/api/notification/…`: channels, rules, and what was told."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.exceptions import Conflict
from backupcenter.api.fields import UnixTimeField
from backupcenter.api.keys import ID_PATTERN
from backupcenter.api.pages import RecordPagination
from records.models import Event
from records.notifying.addresses import ChannelRefused
from records.notifying.channels import save_channel
from records.notifying.models import Channel, Delivery, Rule
from records.notifying.rules import clean_rule
from records.notifying.sending import send_test
from records.notifying.speaking import NotTold
from storage.secrets import MASK

NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH, description="Its number.")


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    """A channel. Its address is taken and never shown; a webhook's `secret` shows once, in the answer that makes it."""

    address = serializers.CharField(max_length=2000, help_text=_("Apprise or https address; answers show a mask."))
    secret = serializers.SerializerMethodField()

    class Meta:
        model = Channel
        fields = ["id", "name", "kind", "address", "secret", "language", "is_enabled"]

    def get_secret(self, channel: Channel) -> str:
        return self.context.get("secret") or (MASK if channel.secret else "")

    def to_representation(self, instance: Channel) -> dict[str, Any]:
        return {**super().to_representation(instance), "address": MASK}


class RuleSerializer(serializers.ModelSerializer[Rule]):
    """A rule: which occasions are told on which channels, and when."""

    occasions = serializers.ListField(child=serializers.ChoiceField(Event.Occasion.choices), allow_empty=False)
    plans = serializers.ListField(child=serializers.UUIDField(), required=False)

    class Meta:
        model = Rule
        fields = [
            "id",
            "name",
            "occasions",
            "channels",
            "clients",
            "plans",
            "digest",
            "quiet_from",
            "quiet_until",
            "timezone",
            "is_enabled",
        ]
        extra_kwargs = {"clients": {"required": False}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        present = self.instance or Rule()
        names = [field.name for field in Rule._meta.concrete_fields]
        rule = Rule(**{name: attrs.get(name, getattr(present, name)) for name in names})
        errors = clean_rule(rule)
        if errors:
            raise serializers.ValidationError(errors)
        if "plans" in attrs:
            attrs["plans"] = rule.plans
        return attrs


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """An event that a channel was or is to be told of."""

    channel = serializers.CharField(source="channel.name", read_only=True)
    rule: Any = serializers.CharField(source="rule.name", read_only=True, allow_null=True, default=None)
    event = serializers.CharField(source="event.title", read_only=True)
    occasion = serializers.CharField(source="event.occasion", read_only=True)
    created_at = UnixTimeField(read_only=True)
    due_at = UnixTimeField(read_only=True)
    told_at = UnixTimeField(read_only=True, allow_null=True)

    class Meta:
        model = Delivery
        times = ["created_at", "due_at", "told_at"]
        fields = ["id", "uid", "channel", "rule", "event", "occasion", "state", "attempts", "error", *times]
        read_only_fields = fields


@extend_schema_view(retrieve=extend_schema(parameters=[NUMBER]), destroy=extend_schema(parameters=[NUMBER]))
class ChannelViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, GenericViewSet[Channel]):
    """Channels on which people and programs are told what happens."""

    queryset = Channel.objects.all()
    serializer_class = ChannelSerializer
    read_role = write_role = User.Role.ADMINISTRATOR
    lookup_value_regex = ID_PATTERN
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["notification"]
    error_statuses = {502}

    @extend_schema(responses={201: ChannelSerializer})
    def create(self, request: Request) -> Response:
        """Add a channel. Of a signed webhook the answer has the secret that it is verified by: it is not shown again."""
        return self._save(request, None, 201)

    @extend_schema(parameters=[NUMBER])
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a channel; without `address` the present one stays."""
        return self._save(request, self.get_object(), 200)

    @extend_schema(parameters=[NUMBER], request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a test now; 409 with the reason if it was not taken."""
        try:
            send_test(self.get_object())
        except NotTold as error:
            raise Conflict(str(error)) from error
        return Response(status=204)

    def _save(self, request: Request, channel: Channel | None, status: int) -> Response:
        form = ChannelSerializer(channel, data=request.data, partial=channel is not None)
        form.is_valid(raise_exception=True)
        row = channel or Channel()
        for name, value in form.validated_data.items():
            setattr(row, name, value)
        try:
            secret = save_channel(row)
        except ChannelRefused as error:
            raise ValidationError({"address": [str(error)]}) from error
        return Response(ChannelSerializer(row, context={"secret": secret}).data, status=status)


@extend_schema_view(
    retrieve=extend_schema(parameters=[NUMBER]),
    partial_update=extend_schema(parameters=[NUMBER]),
    destroy=extend_schema(parameters=[NUMBER]),
)
class RuleViewSet(
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    mixins.DestroyModelMixin,
    GenericViewSet[Rule],
):
    """Rules: which occasions are told on which channels, and when."""

    queryset = Rule.objects.prefetch_related("channels", "clients")
    serializer_class = RuleSerializer
    read_role = write_role = User.Role.ADMINISTRATOR
    lookup_value_regex = ID_PATTERN
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["notification"]


class DeliveryFilter(filters.FilterSet):
    """By channel and state."""

    class Meta:
        model = Delivery
        fields = ["channel", "state"]


@extend_schema_view(retrieve=extend_schema(parameters=[NUMBER]))
class DeliveryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Delivery]):
    """What was told to whom, and what waits to be, the newest first."""

    queryset = Delivery.objects.select_related("channel", "rule", "event").order_by("-pk")
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilter
    pagination_class = RecordPagination
    read_role = User.Role.ADMINISTRATOR
    lookup_value_regex = ID_PATTERN
    schema_tags = ["notification"]
