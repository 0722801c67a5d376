"""`manage.py backupserver`: back up the server's own database, now and here."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backupcenter.api.exceptions import Conflict
from engine.errors import EngineError
from jobs.ownbackup.keeping import back_up_here, choose_place
from records.models import State
from storage.models import Tenant


class Command(BaseCommand):
    help = "Back up the server's own database to the repository that is chosen for it, or choose one with --tenant and --bucket."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="NAME", help="choose where to: the tenant's user name")
        parser.add_argument("--endpoint", metavar="ADDRESS", help="the tenant's endpoint, if several have one of that name")
        parser.add_argument("--bucket", metavar="NAME")

    def handle(self, *arguments: Any, **options: Any) -> None:
        if bool(options["tenant"]) != bool(options["bucket"]):
            raise CommandError("--tenant and --bucket are given together")
        try:
            if options["tenant"]:
                choose_place(self._tenant(options["tenant"], options["endpoint"]), options["bucket"])
            run = back_up_here()
        except EngineError as error:
            raise CommandError(str(error)) from error
        except Conflict as error:
            raise CommandError(str(error.detail)) from error
        if run.state != State.SUCCESS:
            raise CommandError(run.error or "another run of this repository goes on; this one follows it")
        result = run.result
        said = (
            f"snapshot {result['snapshot'][:8]} of {result['bytes']} bytes; {result['bytes_stored']} were added to {run.repository}"
        )
        self.stdout.write(self.style.SUCCESS(said))

    def _tenant(self, name: str, endpoint: str | None) -> Tenant:
        rows = Tenant.objects.filter(username=name).select_related("endpoint")
        found = list(rows.filter(endpoint__address=endpoint) if endpoint else rows)
        if not found:
            raise CommandError(f"there is no tenant {name}")
        if len(found) > 1:
            raise CommandError(f"there are {len(found)} tenants {name}; --endpoint says which")
        return found[0]
