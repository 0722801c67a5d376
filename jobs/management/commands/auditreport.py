"""`manage.py auditreport YYYY-MM`: write a month's report for auditors as one signed page."""

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.auditreport.reporting import parse_month, signed_report


class Command(BaseCommand):
    help = "Write a month's report for auditors, signed with the installation's key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", help="like 2026-11")
        parser.add_argument("--lang", choices=sorted(dict(settings.LANGUAGES)), default=settings.LANGUAGE_CODE)
        parser.add_argument("--output", type=Path, help="a file (default: backup-report-YYYY-MM.html here; -: standard output)")

    def handle(self, *arguments: Any, **options: Any) -> None:
        month = parse_month(options["month"])
        page = None if month is None else signed_report(month, options["lang"])
        if page is None:
            raise CommandError(f"{options['month']} is no month that has begun; write it like 2026-11")
        target = options["output"] or Path(f"backup-report-{options['month']}.html")
        if str(target) == "-":
            sys.stdout.buffer.write(page)
            return
        try:
            target.write_bytes(page)
        except OSError as error:
            raise CommandError(f"{target} cannot be written: {error.strerror}") from error
        self.stdout.write(self.style.SUCCESS(f"{target} written"))
