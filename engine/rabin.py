"""restic's own chunk boundaries, for repositories that restic also writes: Rabin fingerprints, searched by compiled code.

Content is a polynomial over GF(2), a bit a coefficient. A chunk may end, from `MIN_SIZE` bytes on, where the last 64 bytes modulo
the repository's polynomial have twenty zeros at their end, and ends at `MAX_SIZE`. So it is with github.com/restic/chunker; the
algorithm is Rabin's, "Fingerprinting by Random Polynomials" (1981).

The search is compiled by numba, which only whoever wants these boundaries needs to have (requirements-rabin.txt). It is loaded
when the first file is cut: after the workers were forked, and not at all by a run that finds no large file to read.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from array import array
from collections.abc import Callable

from engine.chunker import MAX_SIZE, MIN_SIZE
from engine.errors import DataDamaged, EngineError
from engine.polynomial import DEGREE, is_irreducible, modulo
from engine.store import Buffer

WINDOW = 64
BOUNDARY = (1 << 20) - 1
# How long two stretches that are searched side by side may be.
STRIDE = 16 << 10

_TOP = DEGREE - 8
_Search = Callable[[memoryview, int, int, memoryview, memoryview], int]
_search: _Search | None = None
_compiling = threading.Lock()


class ChunkerUnavailable(EngineError):
    """The package that a chunker needs is not installed, or does not work."""


class RabinChunker:
    """Cuts as restic does in a repository whose configuration has this `polynomial` (hexadecimal).

    Raises ChunkerUnavailable without numba, DataDamaged if restic would refuse the polynomial.
    """

    def __init__(self, polynomial: str) -> None:
        if importlib.util.find_spec("numba") is None:
            raise ChunkerUnavailable("restic's chunk boundaries need numba: pip install -r requirements-rabin.txt")
        try:
            modulus = int(polynomial, 16)
        except ValueError:
            modulus = 0
        if not is_irreducible(modulus):
            raise DataDamaged(f"the repository's chunker polynomial, {polynomial}, is none of degree {DEGREE} that is irreducible")
        entering, leaving = tables(modulus)
        self._entering, self._leaving = memoryview(entering), memoryview(leaving)

    def cut(self, buffer: Buffer, is_last: bool) -> list[int]:
        """As `engine.chunker.cut`. Raises ChunkerUnavailable if numba is there but does not work."""
        lengths: list[int] = []
        size, at = len(buffer), 0
        # Always of the same type, since each other one would be compiled anew.
        content = memoryview(buffer).toreadonly()
        while size - at > MIN_SIZE:
            limit = min(at + MAX_SIZE, size)
            end = _compiled()(content, at + MIN_SIZE, limit, self._entering, self._leaving)
            if end == size and not is_last and end - at < MAX_SIZE:
                break
            lengths.append(end - at)
            at = end
        if is_last and at < size:
            lengths.append(size - at)
        return lengths


def tables(polynomial: int) -> tuple[array[int], array[int]]:
    """Return what a byte does to a fingerprint: one that is shifted out above it, and one that leaves the window below."""
    # With the byte itself above, so that one step both clears the bits that were shifted out and adds what they amount to.
    entering = array("q", (byte << DEGREE | modulo(byte << DEGREE, polynomial) for byte in range(256)))
    leaving = array("q")
    for byte in range(256):
        fingerprint = byte
        for _ in range(WINDOW):
            fingerprint = fingerprint << 8 ^ entering[fingerprint >> _TOP]
        leaving.append(fingerprint)
    return entering, leaving


def find_end(content: memoryview, first: int, last: int, entering: memoryview, leaving: memoryview) -> int:
    """Return the first place from `first` to `last` where a chunk may end, or `last`; `WINDOW` bytes precede the first.

    To be compiled: each name holds a 64-bit integer that is never negative. A step waits for the one before it, so two stretches
    are searched side by side; measured, that is two thirds faster. Where they overlap, both find the same.
    """
    at = first - 1
    while at < last:
        left = last - at
        span = min(STRIDE, (left + 1) // 2)
        apart = min(span, left - span)
        near, far = 0, 0
        for i in range(at - WINDOW, at):
            near = (near << 8 | content[i]) ^ entering[near >> _TOP & 255]
            far = (far << 8 | content[i + apart]) ^ entering[far >> _TOP & 255]
        found = 0
        for i in range(at, at + span):
            near = (near << 8 | content[i]) ^ entering[near >> _TOP & 255] ^ leaving[content[i - WINDOW]]
            far = (far << 8 | content[i + apart]) ^ entering[far >> _TOP & 255] ^ leaving[content[i + apart - WINDOW]]
            if near & BOUNDARY == 0:
                return i + 1
            if far & BOUNDARY == 0 and found == 0:
                found = i + apart + 1
        if found:
            return found
        at += span + apart
    return last


def _compiled() -> _Search:
    """`find_end` as machine code that needs no interpreter lock.

    Compiled by each process that cuts, in about half a second with numba's import, and not kept on disk: where numba would keep
    it, beside this file, an agent may not write.
    """
    global _search
    with _compiling:
        if _search is None:
            # numpy, which numba brings, would start threads of which nobody here knows, and a later fork would wait for their end.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            try:
                import numba
            except ImportError as error:
                raise ChunkerUnavailable(f"restic's chunk boundaries need numba, which does not work: {error}") from error
            _search = numba.njit(nogil=True)(find_end)
        return _search
