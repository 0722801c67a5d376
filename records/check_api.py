"""`/api/repository/{id}/checks`: how a repository's checks went, and having it checked now."""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from backupcenter.api.fields import UnixTimeField
from backupcenter.api.pages import RecordPagination
from records.models import MaintenanceRun
from records.serializers import DetailField
from records.verification import CHECKS
from records.verifying import READS, request_check
from storage.models import Repository

REPOSITORY = OpenApiParameter("id", int, OpenApiParameter.PATH, description="The repository's number.")


class RepositoryCheckSerializer(serializers.ModelSerializer[MaintenanceRun]):
    """A check of a repository. `result` has the problems found, what was looked at, and how many bytes were read."""

    queued_at = UnixTimeField(read_only=True)
    start_time = UnixTimeField(read_only=True, allow_null=True)
    end_time = UnixTimeField(read_only=True, allow_null=True)
    result = DetailField(read_only=True)

    class Meta:
        model = MaintenanceRun
        fields = ["id", "kind", "state", "queued_at", "start_time", "end_time", "error", "result"]
        read_only_fields = fields


class NewRepositoryCheckSerializer(serializers.Serializer[Any]):
    """A check that is asked for. `reads`: the structure alone, besides it the data whose turn it is, or all data."""

    reads = serializers.ChoiceField(READS, default="turn")


@extend_schema_view(list=extend_schema(parameters=[REPOSITORY], description="Checks of the repository, the newest first."))
class CheckViewSet(mixins.ListModelMixin, GenericViewSet[MaintenanceRun]):
    """Checks of a repository."""

    queryset = MaintenanceRun.objects.filter(kind__in=CHECKS)
    serializer_class = RepositoryCheckSerializer
    pagination_class = RecordPagination
    filter_backends: list[Any] = []
    schema_tags = ["repository"]

    def get_queryset(self) -> QuerySet[MaintenanceRun]:
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return super().get_queryset().filter(repository=self._repository())

    @extend_schema(
        parameters=[REPOSITORY],
        request=NewRepositoryCheckSerializer,
        responses={201: RepositoryCheckSerializer},
        examples=[OpenApiExample("all data", {"reads": "all"}, request_only=True)],
        description="Queues a check; 409 if one is queued or runs.",
    )
    def create(self, request: Request, pk: str) -> Response:
        repository = self._repository()
        form = NewRepositoryCheckSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(RepositoryCheckSerializer(request_check(repository, form.validated_data["reads"])).data, status=201)

    def _repository(self) -> Repository:
        return get_object_or_404(Repository, pk=self.kwargs["pk"])
