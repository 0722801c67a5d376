"""`manage.py verifyreport FILE`: tell whether a report is as this installation signed it."""

import base64
import binascii
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.auditreport.signing import SignatureInvalid, fingerprint, verify
from jobs.signing import public_key


class Command(BaseCommand):
    help = "Tell whether a report for auditors is as it was signed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--key", help="the public key in base64 (default: this installation's)")

    def handle(self, *arguments: Any, **options: Any) -> None:
        key = options["key"] or public_key()
        try:
            if len(base64.b64decode(key, validate=True)) != 32:
                raise CommandError("the key must be 32 bytes in base64")
        except binascii.Error as error:
            raise CommandError("the key must be 32 bytes in base64") from error
        try:
            verify(options["file"].read_bytes(), key)
        except SignatureInvalid as error:
            raise CommandError(f"{options['file']} is not valid: {error}") from error
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}") from error
        self.stdout.write(self.style.SUCCESS(f"{options['file']} is as it was signed by key {fingerprint(key)}"))
