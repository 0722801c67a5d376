"""`manage.py keepplans [LOCATION …]`: write the plans' definitions into the repositories, now and here."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.definitions.keeping import changed_repositories, write_here
from records.models import State
from storage.models import Repository


class Command(BaseCommand):
    help = "Write the plans' definitions into the repositories whose plans have changed. It is also done every five minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("locations", nargs="*", metavar="LOCATION", help="as the console shows it (default: all repositories)")

    def handle(self, *arguments: Any, **options: Any) -> None:
        rows = list(Repository.objects.exclude(repository_id="").select_related("tenant__endpoint").order_by("pk"))
        wanted = set(options["locations"])
        if unknown := wanted - {row.location for row in rows}:
            raise CommandError(f"there is no repository at {', '.join(sorted(unknown))}")
        changed = set(changed_repositories())
        failed = False
        for row in rows:
            if row.pk not in changed or (wanted and row.location not in wanted):
                continue
            run = write_here(row)
            if run.state == State.SUCCESS:
                self.stdout.write(f"{row.location}: {run.result['plans']} plans")
            else:
                failed = True
                self.stderr.write(f"{row.location}: {run.error or 'another run of this repository goes on; this one follows it'}")
        if failed:
            raise CommandError("not all plans were written; it is tried again")
