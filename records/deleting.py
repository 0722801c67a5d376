"""Deleting records. A backup goes to the trash first, from where it can be brought back until its grace is over.

Only then are its row deleted and its snapshot forgotten (`records.upkeep`). Nothing deletes a backup under legal hold.
"""

from collections.abc import Iterable

from django.conf import settings
from django.db import transaction
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.audit.acts import note
from backupcenter.api.exceptions import Conflict
from records.models import ACTIVE_STATES, BackupRecord, DeletedBackup, JobRecord, RecoveryRecord


class UnderLegalHold(Conflict):
    """A backup under legal hold was to be deleted."""

    default_detail = gettext_lazy("This backup is under legal hold: nobody can delete it until an administrator lifts that.")


def delete_backup_record(record: BackupRecord) -> None:
    """Put the record into the trash. Raises Conflict while it is in use, UnderLegalHold."""
    with transaction.atomic():
        _put_into_trash(record, is_let_go=False)


def let_backups_go(records: Iterable[BackupRecord]) -> int:
    """Put those of the records into the trash that are neither in use nor under legal hold; return how many."""
    gone = 0
    for record in records:
        try:
            with transaction.atomic():
                gone += _put_into_trash(record, is_let_go=True)
        except Conflict:
            continue
    return gone


def undelete_backup_record(record: BackupRecord) -> None:
    """Bring the record back from the trash; if its hold had ended, it stays from now on. Raises Conflict if it is not there."""
    if not BackupRecord.trash.filter(pk=record.pk).update(deleted_at=None):
        raise Conflict(_("This backup is not in the trash."))
    record.refresh_from_db()
    note(record)


def delete_recovery_record(record: RecoveryRecord) -> None:
    """Delete the record; what was restored stays. Raises Conflict while it is active."""
    with transaction.atomic():
        _refuse_active(record)
        record.delete()


def grace_text() -> str:
    """Return the sentence that says for how long a deleted backup can be brought back."""
    days = settings.TRASH_DAYS
    return _("It can be brought back for %(days)d days.") % {"days": days} if days else _("It cannot be brought back.")


def _put_into_trash(record: BackupRecord, *, is_let_go: bool) -> bool:
    """Return whether it was not there yet."""
    _refuse_active(record)
    if RecoveryRecord.objects.filter(backup_record=record, state__in=ACTIVE_STATES).exists():
        raise Conflict(_("A recovery of this backup is under way."))
    # Of one that was brought back it is known for ever that its hold had ended.
    fields = {"deleted_at": timezone.now(), **({"is_let_go": True} if is_let_go else {})}
    if not BackupRecord.objects.filter(pk=record.pk, legal_hold_at=None).update(**fields):
        if BackupRecord.objects.filter(pk=record.pk).exists():
            raise UnderLegalHold
        return False
    note(record)
    return True


@receiver(pre_delete, sender=BackupRecord)
@receiver(pre_delete, sender=DeletedBackup)
def _refuse_legal_hold(sender: type[BackupRecord], instance: BackupRecord, **_extra: object) -> None:
    """The last word, whatever way of deleting somebody may think of: the row itself is asked, and stays locked until the end."""
    if BackupRecord._base_manager.select_for_update().filter(pk=instance.pk, legal_hold_at__isnull=False).exists():
        raise UnderLegalHold


def _refuse_active(record: JobRecord) -> None:
    current = type(record)._default_manager.select_for_update().filter(pk=record.pk).first()
    if current is not None and current.is_active:
        raise Conflict(_("It is still queued or running; cancel it first."))
