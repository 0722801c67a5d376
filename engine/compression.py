"""zstd as repositories of version 2 use it, and the choice not to compress what does not get smaller.

A blob may be stored raw or as one zstd frame (RFC 8878); an unpacked file (index, snapshot, lock) begins with the byte 2
if a frame follows, or is plain JSON. Specified in restic's design document, "Unpacked Data Format" and "Pack Format".
"""

import threading
from collections.abc import Iterable, Iterator
from typing import IO, cast

import zstandard

from engine.bounds import WINDOW_BYTES
from engine.errors import DataDamaged, TooLarge
from engine.store import Buffer

# libzstd's level 2 reaches the size of restic's default at about 60 % of the time of level 3.
LEVEL = 2
# A sample at the middle of a large chunk tells whether the rest is worth the time.
SAMPLE_SIZE = 16 << 10
SAMPLED_FROM = 128 << 10
WORTHWHILE = 0.97
COMPRESSED_MARK = 2
PIECE_BYTES = 1 << 20

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


def compress_pieces(pieces: Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Yield the zstd frame of a content of `size` bytes that comes in pieces, in pieces, even if it does not get smaller."""
    frame = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=size)
    for piece in pieces:
        yield frame.compress(piece)
    yield frame.flush()


def decompress(frame: Buffer, size: int) -> bytes:
    """Return the content of a frame that holds `size` bytes. Raises DataDamaged if it does not.

    The caller has seen that there is memory for `size` bytes.
    """
    _check_frame(frame, size)
    try:
        content: bytes = _decompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise DataDamaged("compressed data cannot be decompressed") from error
    if len(content) != size:
        raise DataDamaged("compressed data has another size than its index says")
    return content


def decompress_pieces(pieces: Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Yield the content of a frame of `size` bytes that comes in pieces, in pieces. Raises DataDamaged.

    Memory holds a piece of either, and what the frame looks back over, however large it claims to be.
    """
    left = size
    try:
        with _decompressor().stream_reader(cast(IO[bytes], _Pieces(pieces))) as stream:
            while piece := stream.read(min(PIECE_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except zstandard.ZstdError as error:
        raise DataDamaged("compressed data cannot be decompressed") from error
    if left:
        raise DataDamaged("compressed data has another size than its index says")


def pack_file(plaintext: bytes, version: int) -> bytes:
    """Return the content of an unpacked file as a repository of `version` stores it before encryption."""
    if version < 2:
        return plaintext
    return bytes([COMPRESSED_MARK]) + _compressor().compress(plaintext)


def unpack_file(content: bytes, limit: int) -> bytes:
    """Undo `pack_file`, for repositories of every version. Raises DataDamaged, TooLarge for more than `limit` bytes."""
    if content[:1] in (b"{", b"["):
        return content
    if content[:1] != bytes([COMPRESSED_MARK]):
        raise DataDamaged("a file of the repository has an unknown encoding")
    frame = memoryview(content)[1:]
    size = _check_frame(frame, limit)
    try:
        if size is not None:
            return bytes(_decompressor().decompress(frame, max_output_size=size))
        plaintext = bytes(_decompressor().stream_reader(frame).read(limit + 1))
    except zstandard.ZstdError as error:
        raise DataDamaged("a file of the repository cannot be decompressed") from error
    if len(plaintext) > limit:
        raise TooLarge("compressed data is of an absurd size")
    return plaintext


def _check_frame(frame: Buffer, limit: int) -> int | None:
    """Return the size that the frame claims, None if it does not say; refuse the absurd before any memory is taken."""
    try:
        claimed = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise DataDamaged("compressed data is no zstd frame") from error
    if claimed > limit:
        raise TooLarge("compressed data claims an absurd size")
    return None if claimed < 0 else int(claimed)


class _Pieces:
    """Pieces as a file that can be read from, which is all that a decompressor asks of one."""

    def __init__(self, pieces: Iterable[Buffer]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return taken


def _compressor() -> zstandard.ZstdCompressor:
    tool = getattr(_tools, "compressor", None)
    if tool is None:
        tool = _tools.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return tool


def _decompressor() -> zstandard.ZstdDecompressor:
    tool = getattr(_tools, "decompressor", None)
    if tool is None:
        tool = _tools.decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    return tool
