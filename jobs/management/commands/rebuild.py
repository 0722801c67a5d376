"""`manage.py rebuild --kit kit.html`: after the database was lost, make it anew from a recovery kit and the repositories."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rest_framework.exceptions import APIException

from backupcenter.asking import read_secret
from engine.errors import EngineError
from jobs.rebuilding import Outcome, Rebuilt, rebuild
from jobs.recoverykit import UnusableKit, open_kit


class Command(BaseCommand):
    help = "Make stores and clients anew from a recovery kit, and plans (paused) and records from it and from the repositories."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kit", required=True, metavar="FILE")
        parser.add_argument("--passphrase-file", metavar="FILE", help="-: standard input; without it, it is asked for")

    def handle(self, *arguments: Any, **options: Any) -> None:
        passphrase = read_secret(options["passphrase_file"], "passphrase of the kit")
        try:
            made = rebuild(open_kit(Path(options["kit"]).read_text(encoding="utf-8"), passphrase))
        except (OSError, UnicodeDecodeError, UnusableKit, ValidationError, APIException) as error:
            raise CommandError(str(error)) from error
        outcomes = [plan.outcome for plans in made.plans.values() for plan in plans]
        count = outcomes.count(Outcome.MADE)
        self.stdout.write(f"{len(made.repositories)} repositories, {len(made.clients)} clients, {count} plans (paused)")
        for location in made.compared:
            self._tell(location, made)
        if any(isinstance(found, EngineError) for found in made.compared.values()):
            raise CommandError("not all repositories could be read; run it again when they can")
        if Outcome.REFUSED in outcomes:
            raise CommandError("not all plans could be made: make those that were refused by hand; their backups are there")
        self.stdout.write(self.style.SUCCESS("Done. Make an account, let the agents join anew, then resume the plans."))

    def _tell(self, location: str, made: Rebuilt) -> None:
        found, compared = made.definitions[location], made.compared[location]
        if isinstance(compared, EngineError):
            self.stderr.write(f"{location}: {compared}")
        else:
            self.stdout.write(f"{location}: {len(compared.adopted)} backups")
        time, is_its_own = made.words[location]
        whose = "the repository itself" if is_its_own else "the kit"
        self.stdout.write(f"  plans as {whose} has them, of {time:%Y-%m-%d %H:%M %Z}")
        if not isinstance(found, EngineError):
            for snapshot, reason in found.refused:
                self.stderr.write(f"  definitions in snapshot {snapshot[:8]} are refused: {reason}")
        for plan in made.plans[location]:
            paused = ", was paused before" if plan.was_paused else ""
            line = f"  {plan.name} ({plan.uuid}): {plan.outcome}{paused}"
            (self.stderr if plan.reason else self.stdout).write(f"{line}: {plan.reason}" if plan.reason else line)
