"""Signing reports, with the installation's key (`jobs.signing`).

The signature is the last line of the file, a comment of HTML, and is that of all bytes before the line.
"""

import base64
import hashlib
import re

from jobs.signing import is_signed, public_key, signature_of

_LINE = re.compile(rb"<!-- Ed25519 signature ([A-Za-z0-9+/]{86}==) by key ([A-Za-z0-9+/]{43}=) -->\n")


class SignatureInvalid(Exception):
    """The file is not what was signed, or not by that key; the message says which."""


def fingerprint(key: str) -> str:
    """Return what tells a public key at a glance: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(base64.b64decode(key)).hexdigest()


def sign(document: bytes) -> bytes:
    """Return the document with its signature in a last line."""
    signature = base64.b64encode(signature_of(document)).decode()
    return document + f"<!-- Ed25519 signature {signature} by key {public_key()} -->\n".encode()


def verify(signed: bytes, key: str) -> None:
    """Raise SignatureInvalid unless the document was signed by the key (32 bytes in base64) and is as it was then."""
    at = signed.rfind(b"<!-- Ed25519 signature")
    found = _LINE.fullmatch(signed, at) if at >= 0 else None
    if found is None:
        raise SignatureInvalid("it does not end with a signature")
    if found[2].decode() != key:
        raise SignatureInvalid(f"it was signed by another key, {fingerprint(found[2].decode())}")
    if not is_signed(signed[:at], base64.b64decode(found[1]), key):
        raise SignatureInvalid("it was changed after it was signed")
