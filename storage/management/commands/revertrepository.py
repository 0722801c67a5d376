"""`manage.py revertrepository LOCATION --to TIME`: put back what somebody deleted or overwrote in a bucket that keeps versions."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from engine.errors import StoreError
from storage.history import revert
from storage.models import Repository


class Command(BaseCommand):
    help = "Put back what a repository in a bucket with versions or Object Lock had at a time, and has no more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("location", help="as the console shows it: s3:https://host/bucket/prefix")
        parser.add_argument("--to", required=True, help="2026-11-25T20:00:00, of the server's zone if it names none")
        parser.add_argument("--dry-run", action="store_true", help="tell what would be put back")

    def handle(self, *arguments: Any, **options: Any) -> None:
        rows = [row for row in Repository.objects.select_related("tenant__endpoint") if row.location == options["location"]]
        if not rows:
            raise CommandError(f"there is no repository at {options['location']}")
        try:
            moment = parse_datetime(options["to"])
        except ValueError:
            moment = None
        if moment is None:
            raise CommandError(f"{options['to']} is no time")
        if timezone.is_naive(moment):
            moment = timezone.make_aware(moment)
        try:
            reversal = revert(rows[0], moment, dry_run=options["dry_run"])
        except StoreError as error:
            raise CommandError(str(error)) from error
        for what, keys in (("deleted", reversal.deleted), ("overwritten", reversal.overwritten)):
            for key in keys:
                self.stdout.write(f"{what}: {key}")
        verb = "would be put back" if options["dry_run"] else "put back; run a check of the repository now"
        self.stdout.write(self.style.SUCCESS(f"{len(reversal.deleted) + len(reversal.overwritten)} files {verb}"))
