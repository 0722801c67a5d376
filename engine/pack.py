"""Packs: files that hold many sealed blobs and, at their end, a sealed header that lists them.

`blob || … || sealed header || header length (4 bytes, little endian)`. A header entry is the type (0 data, 1 tree, 2 and 3
the same compressed), the stored length, for compressed blobs the plain length, and the id. Specified in restic's design
document, "Pack Format".
"""

import struct
from collections.abc import Iterable, Iterator

from engine.blob import ID_SIZE, BlobType, PackedBlob
from engine.bounds import HEADER_BYTES, require_blob_size
from engine.crypto import OVERHEAD, SealingKey
from engine.errors import DataDamaged
from engine.store import Buffer

COMPRESSED = 2
_RAW_ENTRY = struct.Struct("<BI32s")
_COMPRESSED_ENTRY = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
LENGTH_SIZE = _LENGTH.size


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
    if length < OVERHEAD or length > pack_size - LENGTH_SIZE or length > HEADER_BYTES:
        raise DataDamaged("a pack has a header of impossible length")
    return length


def decode_header(sealed: Buffer, key: SealingKey, pack_size: int) -> list[PackedBlob]:
    """Return the blobs of a pack of `pack_size` bytes in their order. Raises DataDamaged."""
    return list(iter_header(key.open(sealed), pack_size))


def iter_header(header: bytes, pack_size: int) -> Iterator[PackedBlob]:
    """Yield the blobs that an opened header lists, in their order; all at once take ten times as much memory as the header.

    Raises DataDamaged, at the end also for a header that is not that of a pack of `pack_size` bytes.
    """
    at = offset = 0
    while at < len(header):
        kind = header[at]
        if kind > COMPRESSED + 1:
            raise DataDamaged("a pack's header has an entry of unknown type")
        entry = _COMPRESSED_ENTRY if kind & COMPRESSED else _RAW_ENTRY
        if at + entry.size > len(header):
            raise DataDamaged("a pack's header is truncated")
        if kind & COMPRESSED:
            _, length, plain, blob_id = _COMPRESSED_ENTRY.unpack_from(header, at)
        else:
            _, length, blob_id = _RAW_ENTRY.unpack_from(header, at)
            plain = 0
        blob_type = BlobType(kind & 1)
        if blob_type is BlobType.DATA:  # trees are read entry by entry if they are large
            require_blob_size(blob_type, length, plain)
        yield PackedBlob(blob_type, blob_id, offset, length, plain)
        at += entry.size
        offset += length
    if offset + OVERHEAD + len(header) + LENGTH_SIZE != pack_size:
        raise DataDamaged("a pack has another size than its header says")


assert _RAW_ENTRY.size == 5 + ID_SIZE
