"""Blobs: the pieces of content that a repository stores once, and where a stored one lies.

An id is the SHA-256 of the content, 32 raw bytes inside the engine, hexadecimal only at JSON's edge. Specified in restic's design
document, "Terminology" and "Pack Format".
"""

import binascii
from enum import IntEnum

import msgspec

from engine.crypto import OVERHEAD

ID_SIZE = 32


def parse_id(text: str) -> bytes:
    """Return the id that 64 hexadecimal digits stand for. Raises ValueError."""
    raw = binascii.unhexlify(text)
    if len(raw) != ID_SIZE:
        raise ValueError(f"an id of {len(raw)} bytes")
    return raw


class BlobType(IntEnum):
    """What a blob holds: a piece of a file, or a directory."""

    DATA = 0
    TREE = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class PackedBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob in a pack. `offset` and `length` (bytes, as stored); `uncompressed_length` is 0 for a raw blob."""

    type: BlobType
    id: bytes
    offset: int
    length: int
    uncompressed_length: int = 0


class BlobLocation(msgspec.Struct, frozen=True, gc=False):
    """Where a blob lies: its pack's 32-byte id and the place in it (see PackedBlob)."""

    pack_id: bytes
    offset: int
    length: int
    uncompressed_length: int

    @property
    def plain_length(self) -> int:
        """The size of the blob's content in bytes."""
        return self.uncompressed_length or self.length - OVERHEAD
