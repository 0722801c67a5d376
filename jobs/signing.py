"""The key that the installation signs with: Ed25519, drawn when it is first needed, kept encrypted in the database."""

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jobs.models import SigningKey


def public_key() -> str:
    """Return the installation's public key, 32 bytes in base64."""
    return _key().public_key


def signature_of(message: bytes) -> bytes:
    """Return the installation's signature of a message, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(_key().private_key)).sign(message)


def is_signed(message: bytes, signature: bytes, key: str) -> bool:
    """Whether the signature is that of the message by this public key (32 bytes in base64)."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signature, message)
    except InvalidSignature:
        return False
    return True


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
