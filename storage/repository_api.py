"""`/api/repository`: what plans have made, and how many jobs may work there at once."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from backupcenter.api.keys import ID_PATTERN
from storage.models import Repository
from storage.serializers import RepositorySerializer, UsageSerializer

NUMBER = OpenApiParameter("id", int, OpenApiParameter.PATH, description="The repository's number.")


@extend_schema_view(
    list=extend_schema(),
    retrieve=extend_schema(parameters=[NUMBER]),
    partial_update=extend_schema(
        parameters=[NUMBER],
        examples=[OpenApiExample("four at once", {"max_jobs": 4}, request_only=True)],
        description="Sets how many jobs may work in it at once; null: as many as the settings say.",
    ),
)
class RepositoryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Repository]):
    """Restic repositories."""

    queryset = Repository.objects.select_related("tenant__endpoint", "verification").order_by("pk")
    serializer_class = RepositorySerializer
    write_role = User.Role.ADMINISTRATOR
    lookup_value_regex = ID_PATTERN
    pagination_class = None
    filter_backends: list[Any] = []
    schema_tags = ["repository"]

    @extend_schema(parameters=[NUMBER], responses=UsageSerializer(many=True))
    @action(detail=True)
    def usage(self, request: Request, pk: str) -> Response:
        """Tell what it used on each day of which that is known, the newest first."""
        return Response(UsageSerializer(self.get_object().usage.order_by("-day"), many=True).data)

    def partial_update(self, request: Request, pk: str) -> Response:
        form = RepositorySerializer(self.get_object(), data=request.data, partial=True)
        form.is_valid(raise_exception=True)
        return Response(RepositorySerializer(form.save()).data)
