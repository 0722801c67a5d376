"""The watchdog: what was lost is tried again, what waits is sent again. Beat drives it every few seconds."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from jobs.dispatch import publish_maintenance, publish_waiting
from records.lifecycle import lose_expired
from records.maintenance import lose_expired_runs
from records.models import MaintenanceRun, State


def watch() -> None:
    """Do one round."""
    lose_expired()
    publish_waiting()
    lose_expired_runs()
    overdue = timezone.now() - timedelta(seconds=settings.JOB_REPUBLISH_S)
    for run in MaintenanceRun.objects.filter(state=State.QUEUED, queued_at__lt=overdue):
        publish_maintenance(run)
