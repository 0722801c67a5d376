"""`manage.py rebuild --kit kit.html`: after the database was lost, make it anew from a recovery kit and the repositories."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rest_framework.exceptions import APIException

from backupcenter.asking import read_secret
from engine.errors import EngineError
from jobs.rebuilding import rebuild
from jobs.recoverykit import UnusableKit, open_kit


class Command(BaseCommand):
    help = "Make stores, repositories, clients and plans (paused) anew from a recovery kit, and records from the repositories."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kit", required=True, metavar="FILE")
        parser.add_argument("--passphrase-file", metavar="FILE", help="-: standard input; without it, it is asked for")

    def handle(self, *arguments: Any, **options: Any) -> None:
        passphrase = read_secret(options["passphrase_file"], "passphrase of the kit")
        try:
            made = rebuild(open_kit(Path(options["kit"]).read_text(encoding="utf-8"), passphrase))
        except (OSError, UnicodeDecodeError, UnusableKit, ValidationError, APIException) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{len(made.repositories)} repositories, {len(made.clients)} clients, {len(made.plans)} plans (paused)")
        for location, found in made.compared.items():
            if isinstance(found, EngineError):
                self.stderr.write(f"{location}: {found}")
            else:
                self.stdout.write(f"{location}: {len(found.adopted)} backups")
        if any(isinstance(found, EngineError) for found in made.compared.values()):
            raise CommandError("not all repositories could be read; run it again when they can")
        self.stdout.write(self.style.SUCCESS("Done. Make an account, let the agents join anew, then resume the plans."))
