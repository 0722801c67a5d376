"""`manage.py syncrecords [LOCATION …]`: compare repositories with their records, and mend the records."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from engine.errors import EngineError
from records.adopting import sync_all_records
from storage.management.locations import add_locations, chosen_repositories


class Command(BaseCommand):
    help = "Make records of snapshots that have none, and mark records whose snapshot is gone. It is also done once a day."

    def add_arguments(self, parser: CommandParser) -> None:
        add_locations(parser)

    def handle(self, *arguments: Any, **options: Any) -> None:
        found = sync_all_records(chosen_repositories(options))
        for repository, each in found.items():
            if isinstance(each, EngineError):
                self.stderr.write(f"{repository}: {each}")
                continue
            counts = f"{len(each.adopted)} found, {len(each.vanished)} missing, {len(each.returned)} there again"
            self.stdout.write(f"{repository}: {counts}, {len(each.unreadable)} unreadable")
        if any(isinstance(each, EngineError) for each in found.values()):
            raise CommandError("not all repositories could be read")
