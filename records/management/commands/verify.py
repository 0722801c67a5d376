"""`manage.py verify [LOCATION …]`: check repositories now, in this process, and tell what is known of them."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backupcenter.api.exceptions import Conflict
from records.maintenance import run_maintenance
from records.models import State
from records.verification import verification_of
from records.verifying import READS, request_check
from storage.models import Repository


class Command(BaseCommand):
    help = "Check repositories now, and tell since when all their data is known to be sound."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("location", nargs="*", help="as the console shows it (default: every repository)")
        parser.add_argument("--read", choices=READS, default="turn", help="what to read of the data (default: what is in turn)")
        parser.add_argument("--tell", action="store_true", help="check nothing, only tell")

    def handle(self, *arguments: Any, **options: Any) -> None:
        rows = {row.location: row for row in Repository.objects.select_related("tenant__endpoint")}
        missing = [location for location in options["location"] if location not in rows]
        if missing:
            raise CommandError(f"there is no repository at {missing[0]}")
        failed = 0
        for location in options["location"] or rows:
            failed += not options["tell"] and not self._check(rows[location], options["read"])
            self._tell(rows[location])
        if failed:
            raise CommandError(f"{failed} repositories are not sound, or could not be checked")

    def _check(self, repository: Repository, reads: str) -> bool:
        try:
            run = request_check(repository, reads)
        except Conflict as error:
            self.stderr.write(f"{repository}: {error.detail}")
            return False
        run_maintenance(run.pk, run.attempt)
        run.refresh_from_db()
        if run.state == State.QUEUED:
            self.stderr.write(f"{repository}: another run of it goes on; the check is queued")
            return False
        for problem in run.result.get("problems") or ([run.error] if run.error else []):
            self.stderr.write(f"{repository}: {problem}")
        return run.state == State.SUCCESS

    def _tell(self, repository: Repository) -> None:
        known = verification_of(repository)
        structure = f"structure sound {known.structure_at:%Y-%m-%d %H:%M}" if known.structure_at else "structure not checked"
        since = known.data_since
        data = f"all data read since {since:%Y-%m-%d %H:%M}" if since else f"{known.data_share:.0%} of the data read"
        self.stdout.write(f"{repository}: {known.state}; {structure}; {data}")
