"""Content-defined chunks: FastCDC over a buffer that slides along a file.

Where a chunk ends depends on the bytes around it alone, so that an insertion moves few boundaries. The sizes are those of
restic (512 KiB, 1 MiB on average, 8 MiB), the boundaries are not: they only decide what two writers share (restic's are in
`engine.rabin`). FastCDC is specified in Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
Deduplication" (2016).
"""

from collections.abc import Callable
from typing import Literal

import pyfastcdc

from engine.store import Buffer

MIN_SIZE = 512 << 10
AVERAGE_SIZE = 1 << 20
MAX_SIZE = 8 << 20

ChunkerName = Literal["fastcdc", "rabin"]
# What `cut` is, and `engine.rabin` has another of.
Cut = Callable[[Buffer, bool], list[int]]

_cutter = pyfastcdc.FastCDC(AVERAGE_SIZE, min_size=MIN_SIZE, max_size=MAX_SIZE)


def cut(buffer: Buffer, is_last: bool) -> list[int]:
    """Return the lengths of the chunks at the beginning of `buffer`, in bytes.

    Unless `is_last`, the chunk that reaches the buffer's end is left out, since what comes after may lengthen it: the
    caller carries that rest over to the beginning of the next buffer. A buffer of at least `MAX_SIZE` always yields a
    chunk. Releases the interpreter lock while it searches.
    """
    size = len(buffer)
    if size <= MIN_SIZE:
        return [size] if is_last and size else []
    lengths: list[int] = [chunk.length for chunk in _cutter.cut_buf(buffer)]
    if not is_last and lengths[-1] < MAX_SIZE:
        del lengths[-1]
    return lengths
