"""Authenticated encryption as restic repositories have it: AES-256-CTR with Poly1305-AES, and scrypt for passwords.

A sealed message is `nonce (16) || ciphertext || tag (16)`. The tag is Poly1305 over the ciphertext under the one-time key
`r || AES-128(k, nonce)` (Bernstein's Poly1305-AES); RFC 8439's Poly1305 computes it, since it clamps `r` itself.
Specified in restic's design document, "Keys, Encryption and MAC".
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

from engine.errors import DataDamaged
from engine.store import Buffer

NONCE_SIZE = 16
TAG_SIZE = 16
OVERHEAD = NONCE_SIZE + TAG_SIZE
KEY_SIZE = 64
# Drawing nonces singly costs a system call each; small blobs come by the hundred.
NONCES_AT_ONCE = 256
NO_NONCE = bytes(NONCE_SIZE)


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The three keys of a repository: `encrypt` (32 bytes), `mac_k` (16) and `mac_r` (16)."""

    encrypt: bytes
    mac_k: bytes
    mac_r: bytes

    @classmethod
    def generate(cls) -> "KeyMaterial":
        return cls(os.urandom(32), os.urandom(16), _clamp(os.urandom(16)))

    @classmethod
    def derive(cls, password: str, salt: bytes, n: int, r: int, p: int) -> "KeyMaterial":
        """Derive keys from a password with scrypt; `n`, `r` and `p` are its cost parameters."""
        memory = 128 * n * r + 128 * r * p + (1 << 20)
        return cls.of(hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=KEY_SIZE))

    @classmethod
    def of(cls, raw: bytes) -> "KeyMaterial":
        """Return the keys in 64 bytes, as scrypt gives them."""
        return cls(raw[:32], raw[32:48], raw[48:64])

    def raw(self) -> bytes:
        return self.encrypt + self.mac_k + self.mac_r


class SealingKey:
    """Seals and opens messages under one repository's keys. Safe for use from several threads.

    Each thread keeps its own cipher contexts, since making one costs more than sealing a small blob.
    """

    def __init__(self, material: KeyMaterial) -> None:
        self.material = material
        self._contexts = threading.local()

    def seal(self, plaintext: Buffer) -> bytearray:
        """Return the sealed message, `OVERHEAD` bytes longer than `plaintext`."""
        contexts = self._of_this_thread()
        nonce, one_time = contexts.next_nonce()
        size = len(plaintext)
        sealed = bytearray(NONCE_SIZE + size + TAG_SIZE)
        sealed[:NONCE_SIZE] = nonce
        view = memoryview(sealed)
        stream = contexts.stream
        stream.reset_nonce(nonce)
        stream.update_into(plaintext, view[NONCE_SIZE:])
        tag = Poly1305.generate_tag(self.material.mac_r + one_time, view[NONCE_SIZE : NONCE_SIZE + size])
        view[NONCE_SIZE + size :] = tag
        return sealed

    def seal_pieces(self, pieces: Iterable[Buffer]) -> Iterator[bytes]:
        """Yield the sealed message of a plaintext that comes in pieces, in pieces."""
        nonce, one_time = self._of_this_thread().next_nonce()
        stream = Cipher(AES(self.material.encrypt), CTR(nonce)).encryptor()
        tag = Poly1305(self.material.mac_r + one_time)
        yield nonce
        for piece in pieces:
            ciphertext = stream.update(piece)
            tag.update(ciphertext)
            yield ciphertext
        yield tag.finalize()

    def open(self, sealed: Buffer) -> bytes:
        """Return the plaintext. Raises DataDamaged if the message is not authentic."""
        view = memoryview(sealed)
        if len(view) < OVERHEAD:
            raise DataDamaged("an encrypted message is too short")
        nonce, ciphertext, tag = bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:-TAG_SIZE], bytes(view[-TAG_SIZE:])
        if nonce == NO_NONCE:
            raise DataDamaged("an encrypted message has no nonce")
        contexts = self._of_this_thread()
        one_time = contexts.block.update(nonce)
        try:
            Poly1305.verify_tag(self.material.mac_r + one_time, ciphertext, tag)
        except InvalidSignature as error:
            raise DataDamaged("an encrypted message was altered") from error
        contexts.stream.reset_nonce(nonce)
        return bytes(contexts.stream.update(ciphertext))

    def open_pieces(self, pieces: Iterable[Buffer]) -> Iterator[bytes]:
        """Yield the plaintext of a message that comes in pieces, in pieces.

        Raises DataDamaged at the end if the message is not authentic: nothing of it may be believed before.
        """
        rest = b""
        stream: CipherContext | None = None
        for piece in pieces:
            rest += piece
            if stream is None:
                if len(rest) < OVERHEAD:
                    continue
                nonce, rest = rest[:NONCE_SIZE], rest[NONCE_SIZE:]
                if nonce == NO_NONCE:
                    raise DataDamaged("an encrypted message has no nonce")
                one_time = self._of_this_thread().block.update(nonce)
                tag_of = Poly1305(self.material.mac_r + one_time)
                stream = Cipher(AES(self.material.encrypt), CTR(nonce)).encryptor()
            # What comes last is the tag.
            ciphertext, rest = rest[:-TAG_SIZE], rest[-TAG_SIZE:]
            tag_of.update(ciphertext)
            yield stream.update(ciphertext)
        if stream is None:
            raise DataDamaged("an encrypted message is too short")
        try:
            tag_of.verify(rest)
        except InvalidSignature as error:
            raise DataDamaged("an encrypted message was altered") from error

    def _of_this_thread(self) -> "_Contexts":
        contexts = getattr(self._contexts, "of_this_thread", None)
        if contexts is None or contexts.process != os.getpid():
            contexts = self._contexts.of_this_thread = _Contexts(self.material)
        return contexts


class _Contexts:
    """A thread's ciphers and its stock of nonces; a forked process must not go on with its parent's."""

    def __init__(self, material: KeyMaterial) -> None:
        self.process = os.getpid()
        self.stream: CipherContext = Cipher(AES(material.encrypt), CTR(NO_NONCE)).encryptor()
        self.block: CipherContext = Cipher(AES(material.mac_k), ECB()).encryptor()  # noqa: S305 -- Poly1305-AES's own  # nosec B305
        self._nonces = b""
        self._encrypted = b""
        self._position = 0

    def next_nonce(self) -> tuple[bytes, bytes]:
        """Return a new nonce and its encryption under `mac_k`."""
        at = self._position
        if at == len(self._nonces):
            self._nonces = os.urandom(NONCES_AT_ONCE * NONCE_SIZE)
            self._encrypted = self.block.update(self._nonces)
            at = 0
        self._position = at + NONCE_SIZE
        return self._nonces[at : at + NONCE_SIZE], self._encrypted[at : at + NONCE_SIZE]



def _clamp(r: bytes) -> bytes:
    """Clear the bits that Poly1305 ignores, as restic stores `r`."""
    masked = bytearray(r)
    for index in (3, 7, 11, 15):
        masked[index] &= 15
    for index in (4, 8, 12):
        masked[index] &= 252
    return bytes(masked)
