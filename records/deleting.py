"""Deleting records. A backup's snapshot is forgotten with it, by a control worker; space comes back with the next prune."""

from django.db import transaction
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from records.maintenance import request_maintenance
from records.models import ACTIVE_STATES, BackupRecord, JobRecord, MaintenanceRun, RecoveryRecord


def delete_backup_record(record: BackupRecord) -> MaintenanceRun | None:
    """Delete the record; return the run that forgets its snapshot, if it has one. Raises Conflict while it is in use."""
    with transaction.atomic():
        _refuse_active(record)
        if RecoveryRecord.objects.filter(backup_record=record, state__in=ACTIVE_STATES).exists():
            raise Conflict(_("A recovery of this backup is under way."))
        run = None
        if record.snapshot:
            arguments = {"snapshots": [record.snapshot]}
            run = request_maintenance(record.repository, MaintenanceRun.Kind.FORGET, arguments)
        record.delete()
    return run


def delete_recovery_record(record: RecoveryRecord) -> None:
    """Delete the record; what was restored stays. Raises Conflict while it is active."""
    with transaction.atomic():
        _refuse_active(record)
        record.delete()


def _refuse_active(record: JobRecord) -> None:
    current = type(record)._default_manager.select_for_update().filter(pk=record.pk).first()
    if current is not None and current.is_active:
        raise Conflict(_("It is still queued or running; cancel it first."))
