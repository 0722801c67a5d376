"""`manage.py rotatesecrets`: write every secret anew with the newest of BACKUPCENTER_ENCRYPTION_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand

from storage.rotation import rotate_secrets


class Command(BaseCommand):
    help = "Write every secret in the database anew with the newest of BACKUPCENTER_ENCRYPTION_KEYS."

    def handle(self, *arguments: Any, **options: Any) -> None:
        for rotation in rotate_secrets():
            self.stdout.write(f"{rotation.field}: {rotation.rows}")
        self.stdout.write(self.style.SUCCESS("Done. The older keys may be removed from the setting."))
