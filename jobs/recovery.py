"""Asking for a recovery: which record, to which client, where to, and how."""

import json
import logging
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from clients.compatibility import DRY_RUN_PROTOCOL, OLDEST_PROTOCOL
from clients.models import Client
from engine.restorer.existing import OVERWRITE_MODES
from jobs.offering import offer_after_commit
from records.browsing import GONE
from records.models import BackupRecord, RecoveryRecord
from records.serializers import backup_record_detail

log = logging.getLogger(__name__)


def request_recovery(client: Client, backup: BackupRecord, recovery_data: str) -> RecoveryRecord:
    """Queue a recovery of a backup record to a client. Raises ValidationError, Conflict if the record has nothing to restore."""
    problem = recovery_data_problem(recovery_data)
    if problem:
        raise ValidationError({"recovery_data": [problem]})
    is_dry_run = bool(json.loads(recovery_data).get("dry_run"))
    with transaction.atomic():
        # Locked, so that it is not let go at this moment.
        current = BackupRecord.objects.select_for_update().filter(pk=backup.pk).first()
        if current is not None and current.vanished_at is not None:
            raise Conflict(GONE)
        if current is None or not current.is_restorable:
            raise Conflict(_("This backup did not succeed, so there is nothing to restore from it."))
        record = RecoveryRecord.objects.create(
            client=client,
            backup_record=backup,
            backup_record_detail=backup_record_detail(backup),
            recovery_data=recovery_data,
            is_dry_run=is_dry_run,
            # One that does not know of dry runs would restore.
            needs_protocol=DRY_RUN_PROTOCOL if is_dry_run else OLDEST_PROTOCOL,
        )
        offer_after_commit()
    log.info("job=%s client=%d backup=%d queued", record.job, client.pk, backup.pk)
    return record


def recovery_data_problem(text: str) -> str | None:
    """Return what is wrong with a recovery's data, None if nothing is."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _("Must be a JSON text.")
    if not isinstance(data, dict):
        return _('Must be a JSON object like {"destination": "/restored"}.')
    if not _is_path(data.get("destination")):
        return _("“destination” must be a directory on the client.")
    include = data.get("include") or []
    if not isinstance(include, list) or not all(_is_path(path) for path in include):
        return _("“include” must be a list of paths inside the snapshot.")
    if data.get("overwrite", OVERWRITE_MODES[0]) not in OVERWRITE_MODES:
        return _("“overwrite” must be one of: %(modes)s.") % {"modes": ", ".join(OVERWRITE_MODES)}
    if not isinstance(data.get("verify", True), bool):
        return _("“verify” must be true or false.")
    if not isinstance(data.get("dry_run", False), bool):
        return _("“dry_run” must be true or false.")
    return None


def _is_path(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    return all(not 0xD800 <= ord(letter) <= 0xDFFF for letter in value)
