"""zstd as repositories of version 2 use it, and the choice not to compress what does not get smaller.

A blob may be stored raw or as one zstd frame (RFC 8878); an unpacked file (index, snapshot, lock) begins with the byte 2
if a frame follows, or is plain JSON. Specified in restic's design document, "Unpacked Data Format" and "Pack Format".
"""

import threading

import zstandard

from engine.errors import DataDamaged
from engine.store import Buffer

# libzstd's level 2 reaches the size of restic's default at about 60 % of the time of level 3.
LEVEL = 2
# A sample at the middle of a large chunk tells whether the rest is worth the time.
SAMPLE_SIZE = 16 << 10
SAMPLED_FROM = 128 << 10
WORTHWHILE = 0.97
COMPRESSED_MARK = 2
# A frame that claims to grow beyond this is an attack: no blob or file of a repository is as large.
FRAME_LIMIT = 1 << 30

_tools = threading.local()


def compress(data: Buffer) -> bytes | None:
    """Return `data` as a zstd frame, or None if that would not be smaller."""
    compressor = _compressor()
    size = len(data)
    if size >= SAMPLED_FROM:
        middle = (size - SAMPLE_SIZE) // 2
        if len(compressor.compress(memoryview(data)[middle : middle + SAMPLE_SIZE])) > SAMPLE_SIZE * WORTHWHILE:
            first = memoryview(data)[:SAMPLE_SIZE]
            if len(compressor.compress(first)) > SAMPLE_SIZE * WORTHWHILE:
                return None
    frame: bytes = compressor.compress(data)
    return frame if len(frame) < size else None


def decompress(frame: Buffer, size: int) -> bytes:
    """Return the content of a frame that holds `size` bytes. Raises DataDamaged if it does not."""
    _check_frame(frame, size)
    try:
        content: bytes = _decompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise DataDamaged("compressed data cannot be decompressed") from error
    if len(content) != size:
        raise DataDamaged("compressed data has another size than its index says")
    return content


def pack_file(plaintext: bytes, version: int) -> bytes:
    """Return the content of an unpacked file as a repository of `version` stores it before encryption."""
    if version < 2:
        return plaintext
    return bytes([COMPRESSED_MARK]) + _compressor().compress(plaintext)


def unpack_file(content: bytes) -> bytes:
    """Undo `pack_file`, for repositories of every version. Raises DataDamaged."""
    if content[:1] in (b"{", b"["):
        return content
    if content[:1] != bytes([COMPRESSED_MARK]):
        raise DataDamaged("a file of the repository has an unknown encoding")
    frame = content[1:]
    size = _check_frame(frame, None)
    try:
        if size is not None:
            return bytes(_decompressor().decompress(frame, max_output_size=size))
        stream = _decompressor().stream_reader(frame)
        plaintext = bytes(stream.read(FRAME_LIMIT + 1))
    except zstandard.ZstdError as error:
        raise DataDamaged("a file of the repository cannot be decompressed") from error
    if len(plaintext) > FRAME_LIMIT:
        raise DataDamaged("a file of the repository claims an absurd size")
    return plaintext


def _check_frame(frame: Buffer, expected: int | None) -> int | None:
    """Return the size that the frame claims, None if it does not say; refuse the absurd before any memory is taken."""
    try:
        claimed = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise DataDamaged("compressed data is no zstd frame") from error
    size = None if claimed < 0 else int(claimed)
    limit = FRAME_LIMIT if expected is None else min(expected, FRAME_LIMIT)
    if (size is not None and size > limit) or (expected is not None and expected > FRAME_LIMIT):
        raise DataDamaged("compressed data claims an absurd size")
    return size


def _compressor() -> zstandard.ZstdCompressor:
    tool = getattr(_tools, "compressor", None)
    if tool is None:
        tool = _tools.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return tool


def _decompressor() -> zstandard.ZstdDecompressor:
    tool = getattr(_tools, "decompressor", None)
    if tool is None:
        tool = _tools.decompressor = zstandard.ZstdDecompressor()
    return tool
