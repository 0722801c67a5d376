"""Packs: files that hold many sealed blobs and, at their end, a sealed header that lists them.

`blob || … || sealed header || header length (4 bytes, little endian)`. A header entry is the type (0 data, 1 tree, 2 and 3
the same compressed), the stored length, for compressed blobs the plain length, and the id. Specified in restic's design
document, "Pack Format".
"""

import struct
from collections.abc import Iterable

from engine.blob import ID_SIZE, BlobType, PackedBlob
from engine.crypto import OVERHEAD, SealingKey
from engine.errors import DataDamaged

COMPRESSED = 2
_RAW_ENTRY = struct.Struct("<BI32s")
_COMPRESSED_ENTRY = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
LENGTH_SIZE = _LENGTH.size
# What restic accepts as the most that a header may take.
HEADER_LIMIT = 16 << 20


def encode_header(blobs: Iterable[PackedBlob], key: SealingKey) -> bytes:
    """Return the end of a pack: the sealed header and its length."""
    entries = bytearray()
    for blob in blobs:
        if blob.uncompressed_length:
            entries += _COMPRESSED_ENTRY.pack(blob.type | COMPRESSED, blob.length, blob.uncompressed_length, blob.id)
        else:
            entries += _RAW_ENTRY.pack(blob.type, blob.length, blob.id)
    sealed = key.seal(entries)
    return bytes(sealed) + _LENGTH.pack(len(sealed))


def header_size(raw_blobs: int, compressed_blobs: int) -> int:
    """Return the bytes that a pack takes beyond its blobs."""
    return raw_blobs * _RAW_ENTRY.size + compressed_blobs * _COMPRESSED_ENTRY.size + OVERHEAD + LENGTH_SIZE


def sealed_header_length(last_bytes: bytes, pack_size: int) -> int:
    """Return the header's length from the last four bytes of a pack. Raises DataDamaged."""
    if len(last_bytes) != LENGTH_SIZE:
        raise DataDamaged("a pack is too short")
    length = int(_LENGTH.unpack(last_bytes)[0])
    if length < OVERHEAD or length > pack_size - LENGTH_SIZE or length > HEADER_LIMIT:
        raise DataDamaged("a pack has a header of impossible length")
    return length


def decode_header(sealed: bytes, key: SealingKey, pack_size: int) -> list[PackedBlob]:
    """Return the blobs of a pack of `pack_size` bytes in their order. Raises DataDamaged."""
    entries = memoryview(key.open(sealed))
    blobs: list[PackedBlob] = []
    at = offset = 0
    while at < len(entries):
        kind = entries[at]
        if kind > COMPRESSED + 1:
            raise DataDamaged("a pack's header has an entry of unknown type")
        entry = _COMPRESSED_ENTRY if kind & COMPRESSED else _RAW_ENTRY
        if at + entry.size > len(entries):
            raise DataDamaged("a pack's header is truncated")
        if kind & COMPRESSED:
            _, length, plain, blob_id = _COMPRESSED_ENTRY.unpack_from(entries, at)
        else:
            _, length, blob_id = _RAW_ENTRY.unpack_from(entries, at)
            plain = 0
        blobs.append(PackedBlob(BlobType(kind & 1), blob_id, offset, length, plain))
        at += entry.size
        offset += length
    if offset + len(sealed) + LENGTH_SIZE != pack_size:
        raise DataDamaged("a pack has another size than its header says")
    return blobs


assert _RAW_ENTRY.size == 5 + ID_SIZE
