"""`/api/client/<ipv4>/browse`, `…/estimate`, `/api/look/<look>`, and what agents answer below `/api/agent/look`."""

from typing import Any, cast

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from backupcenter.api.fields import Int64Field, ReportedTextField
from clients.api import KEY, client_of_key
from clients.authentication import AgentAuthentication, IsAgent, authenticated_client
from jobs.looking import answer_to, ask_for_estimate, ask_for_listing, question_of, take_answer
from jobs.planning import is_path

NUMBER = "[A-Za-z0-9_-]{32}"
LOOK = OpenApiParameter("look", str, OpenApiParameter.PATH, description="The look's number.")
MOST_PATHS = 1000
MOST_ENTRIES = 1000
PATH_LENGTH = 4096


class PathField(serializers.CharField):
    """A path on a client, as plans have them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, max_length=PATH_LENGTH, **options)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not is_path(text):
            raise serializers.ValidationError(_("Must be a path without NUL."))
        return text


class BrowseSerializer(serializers.Serializer[Any]):
    """Which directory to look into. `offset`: of the first entry."""

    path = PathField(default="/")
    offset = serializers.IntegerField(min_value=0, max_value=1_000_000, default=0)


class EstimateSerializer(serializers.Serializer[Any]):
    """What to count, as in a plan; absolute paths."""

    include = serializers.ListField(child=PathField(), min_length=1, max_length=MOST_PATHS)
    exclude = serializers.ListField(child=PathField(), max_length=MOST_PATHS, default=list)


class EntrySerializer(serializers.Serializer[Any]):
    """An entry of a directory."""

    name = ReportedTextField(length=1024)
    is_text = serializers.BooleanField(default=True, help_text=_("Whether the name is UTF-8; others cannot be named in a plan."))
    type = ReportedTextField(length=16, help_text=_("dir, file, symlink, …"))
    size = Int64Field(allow_null=True, default=None)
    mtime = Int64Field(allow_null=True, default=None)
    target = ReportedTextField(length=PATH_LENGTH, default="", help_text=_("Of a symbolic link, which is not followed."))
    reason = ReportedTextField(length=200, default="", help_text=_("Why a backup could not read it; empty: it could."))


class ListingSerializer(serializers.Serializer[Any]):
    """A page of a directory's entries, directories first."""

    path = ReportedTextField(length=PATH_LENGTH)
    offset = Int64Field()
    total = Int64Field(help_text=_("Of the directory's entries."))
    is_whole = serializers.BooleanField(help_text=_("False: there are more than are counted."))
    entries = EntrySerializer(many=True, max_length=MOST_ENTRIES)  # type: ignore[call-arg]


class CountedSerializer(serializers.Serializer[Any]):
    """What there is below paths."""

    files = Int64Field()
    bytes = Int64Field()
    is_whole = serializers.BooleanField(help_text=_("False: time was over, and it is at least so much."))
    missing = serializers.ListField(child=ReportedTextField(length=PATH_LENGTH), max_length=100, default=list)


class AnswerSerializer(serializers.Serializer[Any]):
    """What an agent answers: one of these."""

    listing = ListingSerializer(required=False, allow_null=True, default=None)
    estimate = CountedSerializer(required=False, allow_null=True, default=None)
    problem = ReportedTextField(length=1000, required=False, default="")


class LookSerializer(AnswerSerializer):
    """A look at a client, and what came of it."""

    look = serializers.CharField()
    is_answered = serializers.BooleanField()


def shown_look(number: str, answer: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a look as the API shows it."""
    told = answer or {"listing": None, "estimate": None, "problem": ""}
    return {"look": number, "is_answered": answer is not None, **told}


class LookAtClientView(APIView):
    """What asking an agent has in common: who may make plans may ask."""

    read_role = User.Role.OPERATOR
    schema_tags = ["client"]


class BrowseView(LookAtClientView):
    @extend_schema(
        operation_id="client_browse",
        parameters=[KEY],
        request=BrowseSerializer,
        responses={202: LookSerializer},
        examples=[OpenApiExample("a directory", {"path": "/srv"}, request_only=True)],
        description="Asks the client's agent what is in a directory; `/api/look/{look}` has its answer for a minute. "
        "409 if the agent is away or too old.",
    )
    def post(self, request: Request, ipv4: str) -> Response:
        client = client_of_key(ipv4)
        form = BrowseSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(shown_look(ask_for_listing(cast(User, request.user), client, **form.validated_data)), status=202)


class EstimateView(LookAtClientView):
    @extend_schema(
        operation_id="client_estimate",
        parameters=[KEY],
        request=EstimateSerializer,
        responses={202: LookSerializer},
        examples=[OpenApiExample("a plan's paths", {"include": ["/srv"], "exclude": ["*.tmp"]}, request_only=True)],
        description="Asks the client's agent how much there is below paths; it counts for 20 seconds at most. "
        "`/api/look/{look}` has its answer for a minute. 409 if the agent is away or too old.",
    )
    def post(self, request: Request, ipv4: str) -> Response:
        client = client_of_key(ipv4)
        form = EstimateSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(shown_look(ask_for_estimate(cast(User, request.user), client, **form.validated_data)), status=202)


class LookView(LookAtClientView):
    error_statuses = {409}

    @extend_schema(operation_id="look_retrieve", parameters=[LOOK], responses=LookSerializer)
    def get(self, request: Request, look: str) -> Response:
        """What the agent has answered; 404 once it is a minute ago, and to everybody who did not ask."""
        return Response(shown_look(look, answer_to(cast(User, request.user), look)))


class AgentLookView(APIView):
    """What the two steps have in common."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}
    # Who asked is in the log.
    is_audited = False


class QuestionView(AgentLookView):
    @extend_schema(operation_id="agent_look_question", parameters=[LOOK], request=None, responses={200: OpenApiTypes.OBJECT})
    def post(self, request: Request, look: str) -> Response:
        """What the agent is asked."""
        return Response(question_of(authenticated_client(request), look))


class AnswerView(AgentLookView):
    @extend_schema(
        operation_id="agent_look_answer", parameters=[LOOK], request=AnswerSerializer, responses={200: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request, look: str) -> Response:
        """What the agent has seen."""
        client = authenticated_client(request)
        question_of(client, look)
        form = AnswerSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        take_answer(client, look, form.validated_data)
        return Response({})
