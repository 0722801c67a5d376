"""What a password must be. What people type is checked by Django's validators; of the API's digests less can be known.

A digest hides how long a password is. That it is the digest of a common password, or of the account's own name, shows.
"""

from functools import cache

from django.conf import settings
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from accounts.models import password_digest


def check_digest(digest: str, username: str) -> None:
    """Raise ValidationError for the digest of a password that anybody would guess, if the settings refuse those."""
    if not settings.REFUSE_COMMON_PASSWORDS:
        return
    own = {password_digest(text) for text in (username, username.lower(), "")}
    if digest.lower() in own or digest.lower() in _common_digests():
        raise ValidationError(_("This is the digest of a password that is too common."))


@cache
def _common_digests() -> frozenset[str]:
    return frozenset(map(password_digest, CommonPasswordValidator().passwords))
