"""What the console's front page tells at a glance: what failed of late, who does not answer, what fires next."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from clients.models import Client
from jobs.models import BackupPlan
from records.models import BackupRecord, State

SHOWN = 5


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the front page's context with the newest failures of a day, the silent clients and the next fires."""
    now = timezone.now()
    failed = BackupRecord.objects.filter(state__in=[State.FAILED, State.LOST], end_time__gte=now - timedelta(days=1))
    silent = Client.objects.filter(last_seen__lt=now - timedelta(seconds=settings.CLIENT_OFFLINE_S))
    firing = BackupPlan.objects.filter(paused=False, next_fire_at__isnull=False)
    return {
        **context,
        "failed_count": failed.count(),
        "failed": failed.order_by("-end_time")[:SHOWN],
        "silent_count": silent.count(),
        "silent": silent.order_by("-last_seen")[:SHOWN],
        "firing": firing.order_by("next_fire_at")[:SHOWN],
    }
