"""Content-defined chunks: FastCDC over a buffer that slides along a file.

Where a chunk ends depends on the bytes around it alone, so that an insertion moves few boundaries. The sizes are those of
restic (512 KiB, 1 MiB on average, 8 MiB), the boundaries are not: they only decide what two writers share. FastCDC is
specified in Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data Deduplication" (2016).
"""

import pyfastcdc

from engine.store import Buffer

MIN_SIZE = 512 << 10
AVERAGE_SIZE = 1 << 20
MAX_SIZE = 8 << 20

_cutter = pyfastcdc.FastCDC(AVERAGE_SIZE, min_size=MIN_SIZE, max_size=MAX_SIZE)


def cut(buffer: Buffer, is_last: bool) -> list[int]:
    """Return the lengths of the chunks at the beginning of `buffer`, in bytes.

    Unless `is_last`, they end where less than the largest chunk remains, since what comes after might move the next
    boundary: the caller carries the rest over to the beginning of the next buffer. A buffer at least `MAX_SIZE` long always
    yields a chunk. Releases the interpreter lock while it searches.
    """
    size = len(buffer)
    if size <= MIN_SIZE:
        return [size] if is_last and size else []
    lengths: list[int] = []
    at = 0
    for chunk in _cutter.cut_buf(buffer):
        if not is_last and size - at < MAX_SIZE:
            break
        lengths.append(chunk.length)
        at += chunk.length
    return lengths
