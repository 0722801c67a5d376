"""Sealing under a passphrase, in a form that the `openssl` program opens without us.

`openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -md sha256 -a`: "Salted__", a salt of 8 bytes, and AES-256-CBC with PKCS#7
padding, key and vector by PBKDF2 with HMAC-SHA256; base64 in lines of 64. It tells nobody that it was altered: what is sealed has
sums of its own.
"""

import base64
import hashlib
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

ITERATIONS = 600_000
OPENSSL = f"openssl enc -d -aes-256-cbc -pbkdf2 -iter {ITERATIONS} -md sha256 -a"
_MAGIC = b"Salted__"
_SALT, _KEY, _VECTOR, _BLOCK_BITS = 8, 32, 16, 128


class CannotOpen(Exception):
    """It is no sealed text, or another passphrase seals it."""


def seal(content: bytes, passphrase: str) -> str:
    """Return the sealed content as lines of base64."""
    salt = os.urandom(_SALT)
    padder = PKCS7(_BLOCK_BITS).padder()
    encryptor = _cipher(passphrase, salt).encryptor()
    sealed = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    return "\n".join(textwrap.wrap(base64.b64encode(_MAGIC + salt + sealed).decode(), 64))


def unseal(text: str, passphrase: str) -> bytes:
    """Return the content. Raises CannotOpen; another passphrase may also give something else than was sealed."""
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
        if not raw.startswith(_MAGIC):
            raise CannotOpen
        decryptor = _cipher(passphrase, raw[len(_MAGIC) : len(_MAGIC) + _SALT]).decryptor()
        padded = decryptor.update(raw[len(_MAGIC) + _SALT :]) + decryptor.finalize()
        unpadder = PKCS7(_BLOCK_BITS).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise CannotOpen from error


def _cipher(passphrase: str, salt: bytes) -> "Cipher[modes.CBC]":
    derived = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ITERATIONS, _KEY + _VECTOR)
    return Cipher(algorithms.AES(derived[:_KEY]), modes.CBC(derived[_KEY:]))
