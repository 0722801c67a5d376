"""Keeping count of runs whose records are deleted, so that a month's report still counts them."""

from typing import Any

from django.db.models import F
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from records.models import ACTIVE_STATES, BackupRecord, DeletedBackup, DeletedRuns


@receiver(post_delete, sender=BackupRecord)
@receiver(post_delete, sender=DeletedBackup)
def count_deleted_run(sender: Any, instance: BackupRecord, **_extra: Any) -> None:
    """Count a run that is deleted for good, which is after its time in the trash."""
    if instance.end_time is None or instance.state in ACTIVE_STATES:
        return
    month = timezone.localtime(instance.end_time).date().replace(day=1)
    row, is_new = DeletedRuns.objects.get_or_create(
        plan_uuid=instance.plan_uuid,
        month=month,
        state=instance.state,
        defaults={"plan_name": instance.plan_name, "count": 1, "last_end": instance.end_time},
    )
    if not is_new:
        last = max(row.last_end, instance.end_time)
        DeletedRuns.objects.filter(pk=row.pk).update(count=F("count") + 1, plan_name=instance.plan_name, last_end=last)
