"""`manage.py restoreserver --kit kit.html`: after the database was lost, load its newest backup into an empty one."""

import contextlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backupcenter.asking import read_secret
from engine.backends.patience import Patience
from engine.commands.dump import dump_file
from engine.errors import EngineError
from engine.snapshot import find_snapshot
from jobs.ownbackup.dumping import CannotLoad, load_dump, require_empty
from jobs.ownbackup.keeping import PATH, newest_snapshot
from jobs.recoverykit import UnusableKit, open_kit, repository_of
from storage.repositories import open_with, repository_store


class Command(BaseCommand):
    help = "Load the newest backup of the server's own database into an empty database, with what a recovery kit holds."
    # There is nothing in the database that could be looked at.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kit", required=True, metavar="FILE")
        parser.add_argument("--passphrase-file", metavar="FILE", help="-: standard input; without it, it is asked for")
        parser.add_argument("--snapshot", metavar="ID", help="another than the newest")

    def handle(self, *arguments: Any, **options: Any) -> None:
        try:
            require_empty()
            page = Path(options["kit"]).read_text(encoding="utf-8")
            content = open_kit(page, read_secret(options["passphrase_file"], "passphrase of the kit"))
            location = content.get("own_backup")
            row = next((row for row in content["repositories"] if row["location"] == location), None)
            if row is None:
                raise CommandError("the kit names no backup of the server's database; “rebuild” makes a new one from the kit alone")
            self._require_keys(content["server"])
            repository = repository_of(row, content)
            with contextlib.closing(open_with(repository_store(repository, Patience()), repository)) as opened:
                opened.load_index()
                snapshot = find_snapshot(opened, options["snapshot"]) if options["snapshot"] else newest_snapshot(opened)
                self.stdout.write(f"snapshot {snapshot.id[:8]} of {snapshot.time:%Y-%m-%d %H:%M %Z}, from {location}")
                load_dump(dump_file(opened, snapshot, PATH.encode()))
        except (OSError, UnicodeDecodeError, UnusableKit, EngineError, CannotLoad) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.SUCCESS("Done. Run “manage.py migrate”, then start the server; agents find it as it was."))

    def _require_keys(self, server: dict[str, Any]) -> None:
        if not set(server["encryption_keys"]) <= set(settings.ENCRYPTION_KEYS):
            raise CommandError(
                "the secrets in that database are sealed with other keys than this server's: take BACKUPCENTER_SECRET_KEY and "
                "BACKUPCENTER_ENCRYPTION_KEYS from server.env of the kit first"
            )
