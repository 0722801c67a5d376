"""Splitting the text of a tree that is too large to be held in memory: its entries, one after another, out of pieces.

A window of the text is decoded at once. What it cannot hold is an entry with very many pieces: of a file of hundreds of gigabytes,
whose ids are then taken out of the text and packed (`engine.blobids`). Trees are taken as the programs write them, without white
space: `{"nodes":[{"name":…},{"name":…}]}`.
"""

import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from engine.blob import ID_SIZE
from engine.bounds import CONTENT_BLOBS, ENTRY_BYTES
from engine.errors import DataDamaged, TooLarge
from engine.store import Buffer

WINDOW_BYTES = 1 << 20
# From here on the ids of an entry are taken out of its text.
PACKED_FROM = 4 << 20
# Where an entry may end: what looks like it may also be within one. So many places are tried before the text is gone through.
PLACES_TRIED = 4
_OPENING = re.compile(rb'\s*\{\s*"nodes"\s*:\s*(\[|null)\s*')
_WHITE = b" \t\r\n"
_BETWEEN = b'},{"'
_CONTENT = b'"content":['
# A quotation mark, the digits, a quotation mark, a comma.
_STRIDE = 67
_scan = json.JSONDecoder().raw_decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class SplitEntry:
    """An entry's JSON. `packed`: the ids that were taken out of its `content`, which then is an empty list; None if none were."""

    text: Buffer
    packed: bytearray | None = None


def split_entries(pieces: Iterable[bytes]) -> Iterator[SplitEntry]:
    """Yield the entries of a tree that comes in pieces. Raises DataDamaged, TooLarge for an entry that no program writes."""
    window = _Window(pieces)
    window.open()
    while not window.is_done:
        yield from window.entries()


class _Window:
    """The part of the text that is in memory; it begins where an entry does."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._text = b""
        self._packed: bytearray | None = None
        self._closing: tuple[bytes, ...] = (b"}", b"]")
        self._is_complete = False
        self.is_done = False

    def open(self) -> None:
        """Skip what stands before the first entry."""
        self._fill(WINDOW_BYTES)
        found = _OPENING.match(self._text)
        if found is None:
            raise DataDamaged("A tree in the repository is damaged.")
        self._text = self._text[found.end() :]
        if found[1] == b"null":
            self._closing = (b"}",)

    def entries(self) -> Iterator[SplitEntry]:
        """Yield the entries that are whole in the window, and take them out of it; if there is none, let it grow."""
        texts = self._last() if self._is_complete else self._whole() or self._scanned()
        for text in texts:
            yield SplitEntry(text, self._packed)
            self._packed = None
        if texts or self.is_done:
            self._fill(WINDOW_BYTES)
        elif len(self._text) < PACKED_FROM:
            self._fill(max(WINDOW_BYTES, 2 * len(self._text)))
        elif self._packed is None and _CONTENT in self._text:
            self._pack()
        elif len(self._text) < ENTRY_BYTES:
            self._fill(2 * len(self._text))
        else:
            raise TooLarge("An entry of a tree in the repository is larger than any program writes it.")

    def _last(self) -> list[Buffer]:
        rest = self._text.rstrip(_WHITE)
        for bracket in self._closing:
            if not rest.endswith(bracket):
                raise DataDamaged("A tree in the repository is damaged.")
            rest = rest[:-1].rstrip(_WHITE)
        entries = _decoded(rest)
        if entries is None:
            raise DataDamaged("A tree in the repository is damaged.")
        self.is_done, self._text = True, b""
        return entries

    def _whole(self) -> list[Buffer]:
        """Return all entries that end in the window, if their end is soon found."""
        at = len(self._text)
        for _ in range(PLACES_TRIED):
            at = self._text.rfind(_BETWEEN, 0, at + len(_BETWEEN) - 1)
            if at < 0:
                break
            # What can be decoded has as many brackets opened as closed, so that nothing ends in the middle of an entry.
            entries = _decoded(self._text[: at + 1])
            if entries is not None:
                self._text = self._text[at + 2 :]
                return entries
        return []

    def _scanned(self) -> list[Buffer]:
        """Return the entries that end in the window, found one by one: there are many places that look like an end."""
        text = self._text.decode("utf-8", "surrogateescape")
        entries: list[Buffer] = []
        at = 0
        try:
            while True:
                _, end = _scan(text, at)
                if text[end : end + 1] != ",":
                    break
                entries.append(text[at:end].encode("utf-8", "surrogateescape"))
                at = end + 1
        except ValueError:
            pass  # it goes on outside of the window, or is no JSON
        except RecursionError as error:
            raise DataDamaged("A tree in the repository is damaged.") from error
        self._text = text[at:].encode("utf-8", "surrogateescape")
        return entries

    def _pack(self) -> None:
        """Take the ids of the first entry out of the text."""
        at = self._text.index(_CONTENT) + len(_CONTENT)
        head, self._text = self._text[:at], self._text[at:]
        packed = bytearray()
        end = -1
        while end < 0:
            end = self._text.find(b"]")
            length = end if end >= 0 else len(self._text) // _STRIDE * _STRIDE
            packed += _packed(self._text[:length] if end >= 0 else self._text[: max(0, length - 1)])
            if len(packed) > CONTENT_BLOBS * ID_SIZE:
                raise TooLarge("A file in the repository has more pieces than are read.")
            if end < 0 and length and self._text[length - 1 : length] != b",":
                raise DataDamaged("A tree in the repository is damaged.")
            self._text = self._text[length:]
            if end < 0 and not self._fill(WINDOW_BYTES):
                raise DataDamaged("A tree in the repository is damaged.")
        self._text = head + self._text
        self._packed = packed

    def _fill(self, wanted: int) -> bool:
        """Have the window hold `wanted` bytes, if there are as many; return whether it grew."""
        parts = [self._text]
        size = len(self._text)
        while size < wanted and not self._is_complete:
            piece = next(self._pieces, None)
            self._is_complete = piece is None
            if piece:
                parts.append(piece)
                size += len(piece)
        self._text = b"".join(parts)
        return len(parts) > 1


def _decoded(text: bytes) -> list[Buffer] | None:
    """Return the entries of a text without what stands around it, None if it is not whole."""
    try:
        return [memoryview(entry) for entry in _decode_list(b"[%b]" % text)]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _packed(text: bytes) -> bytes:
    """Return the ids of `"…","…"` as bytes. Raises DataDamaged."""
    count = (len(text) + 1) // _STRIDE
    digits = text[1:-1].replace(b'","', b"")
    try:
        packed = binascii.unhexlify(digits)
    except ValueError as error:
        raise DataDamaged("A tree in the repository names something that is no blob.") from error
    opening, closing, commas = text[::_STRIDE], text[_STRIDE - 2 :: _STRIDE], text[_STRIDE - 1 :: _STRIDE]
    if text and (len(packed), opening, closing, commas) != (ID_SIZE * count, b'"' * count, b'"' * count, b"," * (count - 1)):
        raise DataDamaged("A tree in the repository names something that is no blob.")
    return packed
