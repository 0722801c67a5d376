"""`manage.py syncrecords [LOCATION …]`: compare repositories with their records, and mend the records."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from engine.errors import EngineError
from records.adopting import sync_all_records
from storage.models import Repository


class Command(BaseCommand):
    help = "Make records of snapshots that have none, and mark records whose snapshot is gone. It is also done once a day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("locations", nargs="*", metavar="LOCATION", help="as the console shows it (default: all repositories)")

    def handle(self, *arguments: Any, **options: Any) -> None:
        rows = list(Repository.objects.exclude(repository_id="").select_related("tenant__endpoint").order_by("pk"))
        wanted = set(options["locations"])
        if unknown := wanted - {row.location for row in rows}:
            raise CommandError(f"there is no repository at {', '.join(sorted(unknown))}")
        chosen = [row for row in rows if not wanted or row.location in wanted]
        found = sync_all_records(chosen)
        for repository, each in found.items():
            if isinstance(each, EngineError):
                self.stderr.write(f"{repository}: {each}")
                continue
            counts = f"{len(each.adopted)} found, {len(each.vanished)} missing, {len(each.returned)} there again"
            self.stdout.write(f"{repository}: {counts}, {len(each.unreadable)} unreadable")
        if any(isinstance(each, EngineError) for each in found.values()):
            raise CommandError("not all repositories could be read")
