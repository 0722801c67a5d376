"""`manage.py drill PLAN`: restore a plan's newest backup to a scratch directory now, in this process, and tell the evidence."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backupcenter.api.exceptions import Conflict
from jobs.drills import drill_of
from jobs.models import BackupPlan
from records.drills.drilling import request_drill
from records.maintenance import run_maintenance
from records.models import DrillRecord, State


class Command(BaseCommand):
    help = "Prove now that a plan's newest backup can be restored."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("plan", help="its UUID, or its name if no other plan has it")
        parser.add_argument("--extent", choices=DrillRecord.Extent.values, help="what is restored (default: as the plan says)")

    def handle(self, *arguments: Any, **options: Any) -> None:
        plan = _find(options["plan"])
        drill = drill_of(plan)
        try:
            record = request_drill(plan.uuid, plan.backup_name, options["extent"] or drill.extent, drill.command)
        except Conflict as error:
            raise CommandError(str(error.detail)) from error
        assert record.run is not None
        run_maintenance(record.run.pk, record.run.attempt)
        record.refresh_from_db()
        if record.command_output:
            self.stdout.write(record.command_output)
        if record.state != State.SUCCESS:
            if record.state == State.QUEUED:
                raise CommandError("another run of its repository goes on; the drill is queued")
            raise CommandError(record.error or f"the drill is {State(record.state).label}")
        self.stdout.write(
            self.style.SUCCESS(
                f"{record.compared} of {record.of_files} files ({record.bytes_restored} bytes) restored and compared in "
                f"{record.duration_s:.1f} s from a backup {(record.age_s or 0) / 3600:.1f} hours old"
            )
        )


def _find(name: str) -> BackupPlan:
    try:
        found = list(BackupPlan.objects.filter(uuid=UUID(name)))
    except ValueError:
        found = list(BackupPlan.objects.filter(backup_name=name))
    if len(found) != 1:
        raise CommandError(f"{len(found)} plans are called {name}")
    return found[0]
