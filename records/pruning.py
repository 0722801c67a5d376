"""When repositories give back the space of what was forgotten: once a day at most, and only if there is something to give back."""

import logging
from datetime import datetime, timedelta

from django.db.models import F, Max, Q
from django.utils import timezone

from records.maintenance import request_maintenance
from records.models import MaintenanceRun, State
from storage.models import Repository

log = logging.getLogger(__name__)

PRUNE_EVERY = timedelta(days=1)


def request_due_prunes(now: datetime | None = None) -> int:
    """Queue a prune of each repository in which snapshots were forgotten since its last one; return how many."""
    moment = now or timezone.now()
    forgotten = Q(maintenance__kind=MaintenanceRun.Kind.FORGET, maintenance__state=State.SUCCESS)
    repositories = Repository.objects.annotate(
        forgotten_at=Max("maintenance__end_time", filter=forgotten),
        pruned_at=Max("maintenance__queued_at", filter=Q(maintenance__kind=MaintenanceRun.Kind.PRUNE)),
    )
    never, since_then = Q(pruned_at=None), Q(pruned_at__lt=F("forgotten_at"), pruned_at__lte=moment - PRUNE_EVERY)
    due = list(repositories.filter(never | since_then, forgotten_at__isnull=False).order_by("pk"))
    for repository in due:
        run = request_maintenance(repository, MaintenanceRun.Kind.PRUNE)
        log.info("maintenance=%d kind=prune repository=%d requested", run.pk, repository.pk)
    return len(due)
