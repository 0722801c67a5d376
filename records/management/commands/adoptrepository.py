"""`manage.py adoptrepository`: register a repository that restic or another tool made; its snapshots become records."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from django.http import Http404
from rest_framework.exceptions import APIException

from backupcenter.api.keys import address_of_key
from backupcenter.asking import read_secret
from clients.models import Client
from engine.errors import EngineError
from records.adopting import adopt_repository
from storage.tenants import find_tenant


class Command(BaseCommand):
    help = "Register a repository that exists, and make records of its snapshots. Run again, it adds what is new."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", required=True, help="the user name of the tenant")
        parser.add_argument("--endpoint", required=True, help="the address of its endpoint")
        parser.add_argument("--bucket", required=True)
        parser.add_argument("--prefix", default="", help="where in the bucket it lies (default: at its top)")
        parser.add_argument("--client", help="address of the client whose all of it is; else the snapshots' host names say it")
        parser.add_argument("--password-file", metavar="FILE", help="-: standard input; without it, the password is asked for")

    def handle(self, *arguments: Any, **options: Any) -> None:
        try:
            tenant = find_tenant(options["tenant"], options["endpoint"])
        except Http404 as error:
            raise CommandError(str(error)) from error
        client = _client(options["client"]) if options["client"] else None
        password = read_secret(options["password_file"], "password of the repository")
        try:
            repository, _is_new, found = adopt_repository(tenant, options["bucket"], options["prefix"], password, client)
        except (EngineError, APIException) as error:
            raise CommandError(str(error)) from error
        for name in found.unreadable:
            self.stderr.write(f"snapshot {name} cannot be read")
        self.stdout.write(self.style.SUCCESS(f"{repository}: {len(found.adopted)} backups were new"))


def _client(text: str) -> Client:
    address = address_of_key(text)
    client = Client.objects.filter(Q(ipv4=address) if isinstance(address, int) else Q(ipv6=address)).first() if address else None
    if client is None:
        raise CommandError(f"there is no client at {text}")
    return client
