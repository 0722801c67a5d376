"""Deleting records. A backup's snapshot is forgotten with it, by a control worker; space comes back with the next prune."""

from collections import defaultdict
from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from records.maintenance import request_maintenance
from records.models import ACTIVE_STATES, BackupRecord, JobRecord, MaintenanceRun, RecoveryRecord
from storage.models import Repository


def delete_backup_record(record: BackupRecord) -> None:
    """Delete the record and have its snapshot forgotten, if it has one. Raises Conflict while it is in use."""
    with transaction.atomic():
        _delete_backup(record)
        _forget([record])


def delete_backup_records(records: Iterable[BackupRecord]) -> int:
    """Delete those of the records that are not in use, and have their snapshots forgotten; return how many."""
    deleted: list[BackupRecord] = []
    with transaction.atomic():
        for record in records:
            try:
                _delete_backup(record)
            except Conflict:
                continue
            deleted.append(record)
        _forget(deleted)
    return len(deleted)


def delete_recovery_record(record: RecoveryRecord) -> None:
    """Delete the record; what was restored stays. Raises Conflict while it is active."""
    with transaction.atomic():
        _refuse_active(record)
        record.delete()


def _delete_backup(record: BackupRecord) -> None:
    _refuse_active(record)
    if RecoveryRecord.objects.filter(backup_record=record, state__in=ACTIVE_STATES).exists():
        raise Conflict(_("A recovery of this backup is under way."))
    record.delete()


def _forget(records: Iterable[BackupRecord]) -> None:
    """Have the records' snapshots forgotten, by one run for each repository."""
    snapshots: defaultdict[Repository, list[str]] = defaultdict(list)
    for record in records:
        if record.snapshot:
            snapshots[record.repository].append(record.snapshot)
    for repository, names in snapshots.items():
        request_maintenance(repository, MaintenanceRun.Kind.FORGET, {"snapshots": names})


def _refuse_active(record: JobRecord) -> None:
    current = type(record)._default_manager.select_for_update().filter(pk=record.pk).first()
    if current is not None and current.is_active:
        raise Conflict(_("It is still queued or running; cancel it first."))
