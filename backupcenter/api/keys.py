"""Keys in paths: plain text, or base64 of it (URL-safe or standard, padded or not).

Percent-encoding is undone before a view sees the path. What a key means is tried in a fixed order, plain text first,
so that a plain key that happens to be base64 as well still finds its own object.
"""

import base64
import binascii
import ipaddress
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

ModelT = TypeVar("ModelT", bound=Model)

# What fits a database's 64-bit integer; longer digits in a path match no route.
ID_PATTERN = "[0-9]{1,18}"


def find_by_key(rows: QuerySet[ModelT], field: str, key: str, *, encoded: bool = True) -> ModelT:
    """Return the row whose text `field` is the key, which may be base64 if `encoded`. Raises Http404."""
    candidates = key_candidates(key) if encoded else [key]
    found: dict[Any, ModelT] = {}
    if "\0" not in key:
        found = {getattr(row, field): row for row in rows.filter(**{f"{field}__in": candidates})}
    for candidate in candidates:
        if candidate in found:
            return found[candidate]
    raise Http404(_("There is no such object."))


def key_candidates(key: str) -> list[str]:
    """Return the texts that a key may stand for, the likeliest first."""
    # A trailing slash of the route may have been the last digit of a key in standard base64.
    decoded = [decode_base64(key), decode_base64(key + "/")]
    return [key, *(text for text in decoded if text is not None)]


def decode_base64(text: str) -> str | None:
    """Return the text that is encoded in base64, or None if it is none (or none that a key could be)."""
    standard = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded and decoded.isprintable() else None


def ipv4_number(text: str) -> int | None:
    """Return the unsigned 32-bit number of `2886769509` or `172.16.155.101`, or None if it is neither."""
    try:
        if text.isascii() and text.isdigit():
            return int(ipaddress.IPv4Address(int(text))) if len(text) <= 10 else None
        return int(ipaddress.IPv4Address(text))
    except ipaddress.AddressValueError:
        return None


def address_of_key(key: str) -> int | str | None:
    """Return what a client's key stands for: its IPv4 number, its IPv6 text, or None if it is no address."""
    for text in key_candidates(key):
        number = ipv4_number(text)
        if number is not None:
            return number
        try:
            address = ipaddress.IPv6Address(text)
        except ipaddress.AddressValueError:
            continue
        return None if address.scope_id else str(address)
    return None
