"""`manage.py keepplans [LOCATION …]`: write the plans' definitions into the repositories, now and here."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.definitions.keeping import changed_repositories, write_here
from records.models import State
from storage.management.locations import add_locations, chosen_repositories


class Command(BaseCommand):
    help = "Write the plans' definitions into the repositories whose plans have changed. It is also done every five minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        add_locations(parser)

    def handle(self, *arguments: Any, **options: Any) -> None:
        chosen, changed = chosen_repositories(options), set(changed_repositories())
        failed = False
        for row in chosen:
            if row.pk not in changed:
                continue
            run = write_here(row)
            if run.state == State.SUCCESS:
                self.stdout.write(f"{row.location}: {run.result['plans']} plans")
            else:
                failed = True
                self.stderr.write(f"{row.location}: {run.error or 'another run of this repository goes on; this one follows it'}")
        if failed:
            raise CommandError("not all plans were written; it is tried again")
