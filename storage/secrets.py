"""Secrets at rest: a text field that is encrypted in the database.

The keys come from `settings.ENCRYPTION_KEYS`, newest first. A new key is put in front, `manage.py rotatesecrets` writes
every secret anew, and the old key can go. Tokens are Fernet's (AES-128-CBC with HMAC-SHA256).
"""

import base64
import functools
import hashlib
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

MASK = "********"


@functools.lru_cache(maxsize=8)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"backupcenter:" + key.encode()).digest())) for key in keys])


def encrypt(text: str) -> str:
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise ImproperlyConfigured(
            "a stored secret cannot be decrypted: its key is missing from BACKUPCENTER_ENCRYPTION_KEYS"
        ) from error


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is plain in Python and encrypted in the database; it cannot be searched."""

    def get_prep_value(self, value: Any) -> Any:
        return value if value in (None, "") else encrypt(str(value))

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        return value if value in (None, "") else decrypt(value)
