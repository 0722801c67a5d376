"""The repositories that a management command is about: those whose locations it is given, or all."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from storage.models import Repository


def add_locations(parser: CommandParser) -> None:
    """Let the command take any number of locations, as the option `locations`."""
    parser.add_argument("locations", nargs="*", metavar="LOCATION", help="as the console shows it (default: all repositories)")


def chosen_repositories(options: dict[str, Any]) -> list[Repository]:
    """Return the repositories that were made and that the options name, all if they name none. Raises CommandError."""
    rows = list(Repository.objects.exclude(repository_id="").select_related("tenant__endpoint").order_by("pk"))
    wanted = set(options["locations"])
    if unknown := wanted - {row.location for row in rows}:
        raise CommandError(f"there is no repository at {', '.join(sorted(unknown))}")
    return [row for row in rows if not wanted or row.location in wanted]
