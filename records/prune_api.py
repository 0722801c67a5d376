"""`/api/repository/{id}/prune`: what prunes of a repository gave back, and having it pruned now."""

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from records.check_api import REPOSITORY, CheckViewSet, RepositoryCheckSerializer
from records.models import MaintenanceRun
from records.upkeep import PRUNING, request_prune


class RepositoryPruneSerializer(RepositoryCheckSerializer):
    """A prune of a repository. `result` has, in bytes, what was stored and unused before, and what was deleted and added."""


@extend_schema_view(list=extend_schema(parameters=[REPOSITORY], description="Prunes of the repository, the newest first."))
class PruneViewSet(CheckViewSet):
    """Prunes of a repository: those asked for, and those of the daily maintenance."""

    queryset = MaintenanceRun.objects.filter(kind__in=PRUNING)
    serializer_class = RepositoryPruneSerializer

    @extend_schema(
        parameters=[REPOSITORY],
        request=None,
        responses={201: RepositoryPruneSerializer},
        description="Queues a prune, whether it pays or not; 409 if one is queued or runs.",
    )
    def create(self, request: Request, pk: str) -> Response:
        return Response(RepositoryPruneSerializer(request_prune(self._repository())).data, status=201)
