"""Letting backups go whose hold has ended. Each record is held as its plan said when that run started.

By time: until the record's `hold_until`. By number: as long as it is among the newest backups of its plan, so that the newest
always stays. Only backups that can be restored count, and none goes while a recovery of it is under way.
"""

import logging
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from records.deleting import delete_backup_records
from records.events import emit
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, Event, RecoveryRecord

log = logging.getLogger(__name__)

# The hold type of a plan whose backups are held by number (`jobs.models.BackupPlan.HoldType.COUNT`).
HELD_BY_NUMBER = 5
FORGOTTEN_AT_ONCE = 500


def forget_expired(now: datetime | None = None) -> int:
    """Delete the records whose hold has ended and have their snapshots forgotten; return how many."""
    moment = now or timezone.now()
    by_time = _restorable().filter(hold_until__lte=moment).values_list("plan_uuid", flat=True)
    plans = set(by_time) | set(_held_by_number().values_list("plan_uuid", flat=True))
    return sum(_forget(plan_uuid, moment) for plan_uuid in sorted(plans))


def _forget(plan_uuid: UUID, now: datetime) -> int:
    used = Exists(RecoveryRecord.objects.filter(backup_record=OuterRef("pk"), state__in=ACTIVE_STATES))
    expired = Q(hold_until__lte=now) | Q(pk__in=list(_beyond_number(plan_uuid)))
    records = _restorable().filter(~used, expired, plan_uuid=plan_uuid).select_related("repository")
    with transaction.atomic():
        oldest = list(records.order_by("pk")[:FORGOTTEN_AT_ONCE])
        deleted = delete_backup_records(oldest)
        if deleted:
            text = ngettext(
                "Backup plan %(plan)s let %(count)d backup go",
                "Backup plan %(plan)s let %(count)d backups go",
                deleted,
            )  # fmt: skip
            title = text % {"plan": oldest[-1].plan_name, "count": deleted}
            emit(Event.Level.INFO, Event.Topic.BACKUP, title, _("Their hold has ended."), plan_uuid=plan_uuid)
    log.info("plan=%s forgotten=%d", plan_uuid, deleted)
    return deleted


def _beyond_number(plan_uuid: UUID) -> Iterator[int]:
    """Yield the primary keys of the plan's backups that are held by number, and have as many newer ones."""
    details = ("pk", "backup_detail__hold_type", "backup_detail__hold_time")
    newest_first = _restorable().filter(plan_uuid=plan_uuid).order_by("-pk").values_list(*details)
    for newer, (pk, hold_type, hold_time) in enumerate(newest_first):
        if hold_type == HELD_BY_NUMBER and newer >= max(1, hold_time):
            yield pk


def _restorable() -> QuerySet[BackupRecord]:
    return BackupRecord.objects.filter(state__in=RESTORABLE_STATES)


def _held_by_number() -> QuerySet[BackupRecord]:
    return _restorable().filter(hold_until=None, backup_detail__hold_type=HELD_BY_NUMBER)
