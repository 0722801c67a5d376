"""Signing reports: Ed25519, with a key that the installation draws when it first needs one, and keeps encrypted in its database.

The signature is the last line of the file, a comment of HTML, and is that of all bytes before the line.
"""

import base64
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jobs.models import SigningKey

_LINE = re.compile(rb"<!-- Ed25519 signature ([A-Za-z0-9+/]{86}==) by key ([A-Za-z0-9+/]{43}=) -->\n")


class SignatureInvalid(Exception):
    """The file is not what was signed, or not by that key; the message says which."""


def public_key() -> str:
    """Return the installation's public key, 32 bytes in base64."""
    return _key().public_key


def fingerprint(key: str) -> str:
    """Return what tells a public key at a glance: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(base64.b64decode(key)).hexdigest()


def sign(document: bytes) -> bytes:
    """Return the document with its signature in a last line."""
    key = _key()
    signature = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.private_key)).sign(document)
    return document + f"<!-- Ed25519 signature {base64.b64encode(signature).decode()} by key {key.public_key} -->\n".encode()


def verify(signed: bytes, key: str) -> None:
    """Raise SignatureInvalid unless the document was signed by the key (32 bytes in base64) and is as it was then."""
    at = signed.rfind(b"<!-- Ed25519 signature")
    found = _LINE.fullmatch(signed, at) if at >= 0 else None
    if found is None:
        raise SignatureInvalid("it does not end with a signature")
    if found[2].decode() != key:
        raise SignatureInvalid(f"it was signed by another key, {fingerprint(found[2].decode())}")
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(base64.b64decode(found[1]), signed[:at])
    except InvalidSignature as error:
        raise SignatureInvalid("it was changed after it was signed") from error


def _key() -> SigningKey:
    found = SigningKey.objects.filter(pk=1).first()
    if found is not None:
        return found
    drawn = Ed25519PrivateKey.generate()
    fields = {
        "private_key": base64.b64encode(drawn.private_bytes_raw()).decode(),
        "public_key": base64.b64encode(drawn.public_key().public_bytes_raw()).decode(),
    }
    # Of two that draw one at once the first counts.
    return SigningKey.objects.get_or_create(pk=1, defaults=fields)[0]
