"""`manage.py forgetexpired`: let the backups go whose hold has ended, or show which would go."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.models import BackupPlan
from jobs.retention import apply_retention, expired_backups, preview_retention
from records.deleting import grace_text
from records.keeping import parse_rules
from records.retention import Judged


class Command(BaseCommand):
    help = "Put the backups into the trash whose hold has ended, or that no keep rule keeps: what happens every hour."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="show what would go, and change nothing")
        parser.add_argument("--plan", metavar="UUID", help="with --dry-run: of this plan alone, and also why the others stay")
        parser.add_argument("--keep", metavar="RULES", help="with --plan: by these rules, such as 'last 7, daily 14, within 30d'")

    def handle(self, *arguments: Any, **options: Any) -> None:
        if not options["dry_run"]:
            if options["plan"] or options["keep"]:
                raise CommandError("--plan and --keep are for looking: give --dry-run with them")
            self.stdout.write(self.style.SUCCESS(f"{apply_retention()} backups went into the trash. {grace_text()}"))
            return
        if options["keep"] and not options["plan"]:
            raise CommandError("--keep wants a plan to try the rules on: give --plan with it")
        if options["plan"]:
            self._preview(options["plan"], options["keep"])
            return
        expired = list(expired_backups())
        for judged in expired:
            self.stdout.write(f"{_line(judged)} goes")
        self.stdout.write(self.style.SUCCESS(f"{len(expired)} backups would go"))

    def _preview(self, uuid: str, keep: str | None) -> None:
        try:
            plan = BackupPlan.objects.filter(uuid=uuid).first()
            rules = parse_rules(keep) if keep else None
        except (ValidationError, ValueError) as error:
            raise CommandError("; ".join(getattr(error, "messages", [str(error)]))) from error
        if plan is None:
            raise CommandError(f"there is no plan {uuid}")
        preview = preview_retention(plan, rules)
        for judged in preview.judged:
            self.stdout.write(f"{_line(judged)} {'stays: ' + ', '.join(judged.reasons) if judged.stays else 'goes'}")
        self.stdout.write(self.style.SUCCESS(f"{preview.total_go} backups would go, {preview.total_stay} stay"))


def _line(judged: Judged) -> str:
    return f"{judged.name} {judged.time:%Y-%m-%d %H:%M:%S}"
