"""`manage.py recoverykit --output kit.html`: what is needed to restore with nothing but the stores."""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backupcenter.asking import read_secret
from jobs.recoverykit import UnusableKit, make_kit, missing_repositories, open_kit, verify_kit

SHORTEST = 12


class Command(BaseCommand):
    help = "Write the recovery kit, or verify that one opens all repositories. Its passphrase seals every secret there is."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--output", metavar="FILE", help="write the kit, a page of HTML")
        which.add_argument("--verify", metavar="FILE", help="open a kit, and each repository with what is in it")
        parser.add_argument("--passphrase-file", metavar="FILE", help="-: standard input; without it, it is asked for")

    def handle(self, *arguments: Any, **options: Any) -> None:
        passphrase = read_secret(options["passphrase_file"], "passphrase of the kit", twice=bool(options["output"]))
        if options["output"]:
            self._write(Path(options["output"]), passphrase)
        else:
            self._verify(Path(options["verify"]), passphrase)

    def _write(self, path: Path, passphrase: str) -> None:
        if len(passphrase) < SHORTEST:
            raise CommandError(f"the passphrase must have at least {SHORTEST} characters: it protects every backup")
        page = make_kit(passphrase)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(page)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from error
        self.stdout.write(self.style.SUCCESS(f"{path} is written; keep it away from this server, and its passphrase elsewhere"))

    def _verify(self, path: Path, passphrase: str) -> None:
        try:
            content = open_kit(path.read_text(encoding="utf-8"), passphrase)
        except (OSError, UnicodeDecodeError, UnusableKit) as error:
            raise CommandError(f"{path}: {error}") from error
        found = verify_kit(content)
        for location, problem in found.items():
            self.stdout.write(f"{location}: {problem or 'opens'}")
        missing = missing_repositories(content)
        for location in missing:
            self.stdout.write(f"{location}: not in the kit, or under another password there; make a new kit")
        if missing or any(found.values()):
            raise CommandError("the kit does not open every repository")
        self.stdout.write(self.style.SUCCESS(f"the kit of {content['made_at']} opens all {len(found)} repositories"))
