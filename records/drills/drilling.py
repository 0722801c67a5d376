"""A drill, from being asked for to its evidence. The work is a maintenance run, which is claimed, leased and
tried again as any, or a client's recovery (`onclient`)."""

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.dispatch import receiver
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from backupcenter.api.text import storable
from clients.models import Client
from engine.backends.patience import Patience
from engine.drills.choosing import Choice, choose_sample, choose_whole
from engine.drills.scratch import require_space, scratch_directory
from engine.errors import Cancelled, EngineError, RepositoryLocked
from records.drills.command import run_command
from records.drills.evidence import EVIDENCE, PROBLEMS_KEPT, begun_with, note_command, note_compared
from records.drills.onclient import request_recovery_of
from records.drills.restoring import Restored, restore
from records.lifecycle import cancel_job
from records.maintenance import WORK, cancel_run, is_wanted, request_maintenance, run_ended
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, DrillRecord, MaintenanceRun, State
from storage.repositories import open_with, repository_store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


def newest_restorable(plan_uuid: UUID) -> BackupRecord | None:
    """Return the plan's newest backup that can be restored."""
    restorable = BackupRecord.objects.filter(plan_uuid=plan_uuid, state__in=RESTORABLE_STATES, vanished_at=None)
    return restorable.exclude(snapshot="").select_related("repository__tenant__endpoint", "client").order_by("-pk").first()


def request_drill(
    plan_uuid: UUID,
    plan_name: str,
    extent: str = DrillRecord.Extent.SAMPLE,
    command: str = "",
    scheduled_at: datetime | None = None,
    client: Client | None = None,
) -> DrillRecord:
    """Queue a drill of the plan's newest backup. `client`: whose agent does it; None: the server.

    Raises Conflict if there is none, or if a drill of the plan is under way.
    """
    backup = newest_restorable(plan_uuid)
    if backup is None:
        raise Conflict(_("The plan has no backup yet that could be restored."))
    with transaction.atomic():
        if DrillRecord.objects.filter(plan_uuid=plan_uuid, state__in=ACTIVE_STATES).exists():
            raise Conflict(_("A drill of this plan is queued or runs already."))
        drill = DrillRecord.objects.create(
            plan_uuid=plan_uuid, plan_name=plan_name, extent=extent, command=command, scheduled_at=scheduled_at
        )
        if client is not None:
            request_recovery_of(drill, backup, client)
            return drill
        arguments = {"drill": drill.pk, "plan": str(plan_uuid), "plan_name": plan_name}
        drill.run = request_maintenance(backup.repository, MaintenanceRun.Kind.DRILL, arguments)
        drill.save(update_fields=["run"])
    log.info("drill=%d plan=%s queued", drill.pk, plan_uuid)
    return drill


def cancel_drill(drill: DrillRecord) -> None:
    """End a drill: at once if it is queued, soon if it runs. Raises Conflict if it has ended."""
    if drill.state not in ACTIVE_STATES or (drill.run is None and drill.recovery is None):
        raise Conflict(_("The drill has ended already."))
    if drill.recovery is not None:
        cancel_job(drill.recovery)
    elif drill.run is not None:
        cancel_run(drill.run)
    drill.refresh_from_db()


def perform_drill(run: MaintenanceRun) -> dict[str, Any]:
    """Restore, compare, let the command look at it, remove it, and note all that in the drill's record.

    Returns what the run is to say: `problems` if the backup is not proven. Raises EngineError if nothing could be restored,
    Cancelled if nobody wants it any more.
    """
    drill = DrillRecord.objects.get(pk=run.arguments["drill"])
    backup = newest_restorable(drill.plan_uuid)
    if backup is None:
        raise EngineError(_("the plan has no backup any more that could be restored"))
    goes_on = Watch(run)
    _note(drill, State.RUNNING, **begun_with(backup), place=_("scratch directory of the server"))
    top = Path(settings.DRILL_DIRECTORY)
    with scratch_directory(top, f"{drill.pk}-{run.attempt}") as directory:
        choice = _choose(drill, backup, goes_on)
        require_space(top, choice.size, choice.files, settings.DRILL_GIB << 30, "name another BACKUPCENTER_DRILL_DIRECTORY")
        drill.files, drill.of_files = choice.files, choice.of_files
        target = directory / "restored"
        try:
            restored = restore(backup.repository, backup.snapshot, target, choice.include, goes_on)
        except RepositoryLocked:
            # The run waits, and is done later.
            _note(drill, State.QUEUED)
            raise
        problems = _note_restored(drill, choice, restored)
        if drill.command and not problems:
            problems = _run_command(drill, target, goes_on)
    drill.problems = problems[:PROBLEMS_KEPT]
    drill.save(update_fields=EVIDENCE)
    return {
        "problems": drill.problems,
        "files": drill.files,
        "compared": drill.compared,
        "bytes_restored": drill.bytes_restored,
        "seconds": round(drill.duration_s or 0, 1),
    }


class Watch:
    """Whether a drill's run goes on; the database is asked no more than once a second."""

    def __init__(self, run: MaintenanceRun) -> None:
        self._run, self._is_wanted, self._due = run, True, time.monotonic()

    def __call__(self) -> bool:
        if self._is_wanted and time.monotonic() >= self._due:
            self._is_wanted = is_wanted(self._run)
            self._due = time.monotonic() + LOOK_EVERY_S
        return self._is_wanted


def _note(drill: DrillRecord, state: State, **fields: Any) -> None:
    """Note how far a drill is. Raises Cancelled if it has ended."""
    if not DrillRecord.objects.filter(pk=drill.pk, state__in=ACTIVE_STATES).update(state=state, **fields):
        raise Cancelled
    for name, value in fields.items():
        setattr(drill, name, value)


def _choose(drill: DrillRecord, backup: BackupRecord, goes_on: Callable[[], bool]) -> Choice:
    row = backup.repository
    with contextlib.closing(open_with(repository_store(row, Patience()), row)) as repository:
        if drill.extent == DrillRecord.Extent.WHOLE:
            return choose_whole(repository, backup.snapshot, goes_on)
        return choose_sample(repository, backup.snapshot, settings.DRILL_SAMPLE_MIB << 20, goes_on)


def _note_restored(drill: DrillRecord, choice: Choice, restored: Restored) -> list[str]:
    devices = {storable(path.decode("utf-8", "replace")) for path in choice.devices}
    failures = [(storable(path), reason) for path, reason in restored.failures]
    problems = [f"{path}: {reason}" for path, reason in failures if path not in devices]
    drill.bytes_restored, drill.duration_s = restored.size, restored.duration_s
    notes = len(restored.warnings) + len(failures) - len(problems)
    return note_compared(drill, restored.compared, problems, len(problems), notes)


def _run_command(drill: DrillRecord, target: Path, goes_on: Callable[[], bool]) -> list[str]:
    limit = settings.DRILL_COMMAND_S
    named = {"DRILL_PLAN": drill.plan_name, "DRILL_SNAPSHOT": drill.snapshot}
    outcome = run_command(drill.command, target, user=settings.DRILL_USER, limit_s=limit, named=named, goes_on=goes_on)
    return note_command(drill, outcome.status, outcome.output, limit)


@receiver(run_ended)
def close_drill(sender: object, run: MaintenanceRun, **_extra: Any) -> None:
    """Note how the run of a drill ended, in the drill."""
    if run.kind == MaintenanceRun.Kind.DRILL:
        DrillRecord.objects.filter(run=run).update(state=run.state, error=run.error, end_time=run.end_time)


WORK[MaintenanceRun.Kind.DRILL] = perform_drill
