"""Legal hold: a backup that nobody can delete, and that no rule lets go, until an administrator lifts it.

What the server knows is held by this. A store that is asked directly knows nothing of it: against whoever has the tenant's keys
a bucket with Object Lock protects (docs/stores.md).
"""

import logging

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts.audit.acts import note
from backupcenter.api.exceptions import Conflict
from records.events import emit
from records.models import RESTORABLE_STATES, BackupRecord, Event

log = logging.getLogger(__name__)

REASON_LENGTH = 1000


def place_legal_hold(record: BackupRecord, by: str, reason: str) -> None:
    """Put a backup under legal hold. `by`: the account's name. Raises Conflict if it is so already, or is not to be had."""
    held = {"legal_hold_at": timezone.now(), "legal_hold_by": by, "legal_hold_reason": reason}
    with transaction.atomic():
        rows = BackupRecord.objects.filter(pk=record.pk, legal_hold_at=None, state__in=RESTORABLE_STATES)
        if not rows.update(**held):
            record.refresh_from_db()
            raise Conflict(_refusal(record))
        _tell(record, Event.Level.WARNING, by, reason)


def lift_legal_hold(record: BackupRecord, by: str) -> None:
    """Let the backup's own hold count again. Raises Conflict if it is under none."""
    with transaction.atomic():
        # With the row locked, so that what is told is what was lifted.
        held = BackupRecord.objects.select_for_update().filter(pk=record.pk, legal_hold_at__isnull=False).first()
        if held is None:
            raise Conflict(_("This backup is not under legal hold."))
        BackupRecord.objects.filter(pk=record.pk).update(legal_hold_at=None, legal_hold_by="", legal_hold_reason="")
        _tell(record, Event.Level.WARNING, by, held.legal_hold_reason)


def _refusal(record: BackupRecord) -> str:
    if record.deleted_at is not None:
        return _("This backup is in the trash: bring it back first.")
    if record.is_under_legal_hold:
        return _("This backup is under legal hold already.")
    return _("This backup did not succeed, so there is nothing to hold.")


def _tell(record: BackupRecord, level: int, by: str, reason: str) -> None:
    note(record)
    record.refresh_from_db()
    # Kept, so not in the language of whoever does it.
    with override(settings.LANGUAGE_CODE):
        title = _("Backup %(name)s was put under legal hold by %(who)s")
        if not record.is_under_legal_hold:
            title = _("The legal hold of backup %(name)s was lifted by %(who)s")
        emit(level, Event.Topic.BACKUP, title % {"name": record, "who": by}, reason, record=record)
    log.warning("job=%s legal_hold=%s by=%s", record.job, record.is_under_legal_hold, by)
