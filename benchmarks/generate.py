"""Data to back up, the same for the same seed: large files (half random, half text as in SQL dumps), small and tiny files."""

from __future__ import annotations

import os
import random
from pathlib import Path

MIB = 1 << 20
_TEXT_POOL = 8 * MIB
_WORDS = 4000


def write_large_files(directory: Path, size_mib: int, *, seed: int = 1) -> None:
    """`size_mib` MiB in sixteen files; every second one does not compress."""
    rng = random.Random(seed)
    text = _text(rng, _TEXT_POOL)
    directory.mkdir(parents=True)
    each = max(size_mib // 16, 1)
    for number in range(16):
        with (directory / f"{'random' if number % 2 else 'log'}-{number:02d}").open("wb") as file:
            for _ in range(each):
                file.write(rng.randbytes(MIB) if number % 2 else _line_block(rng, text))


def change_large_files(directory: Path, *, share: float = 0.01, seed: int = 2) -> None:
    """Overwrite `share` of the content in place, in pieces of 256 KiB, and insert a few bytes into one file."""
    rng = random.Random(seed)
    piece = 256 << 10
    for path in sorted(directory.iterdir()):
        size = path.stat().st_size
        with path.open("r+b") as file:
            for _ in range(max(int(size * share / piece), 1)):
                file.seek(rng.randrange(max(size - piece, 1)))
                file.write(rng.randbytes(piece))
    first = min(directory.iterdir())
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2] + b"inserted" + content[len(content) // 2 :])


def write_small_files(directory: Path, count: int, *, seed: int = 3) -> None:
    """`count` files of a few KiB (log-normal sizes), a hundred to a directory; every fourth does not compress."""
    rng = random.Random(seed)
    text = _text(rng, _TEXT_POOL)
    for number in range(count):
        size = min(int(rng.lognormvariate(8.2, 1.3)), 400_000)
        start = rng.randrange(_TEXT_POOL - size)
        content = rng.randbytes(size) if number % 4 == 0 else text[start : start + size]
        _write_numbered(directory, number, content)


def write_tiny_files(directory: Path, count: int, *, seed: int = 5) -> None:
    """`count` files of 100 to 1000 bytes that do not compress, a hundred to a directory."""
    rng = random.Random(seed)
    for number in range(count):
        _write_numbered(directory, number, rng.randbytes(rng.randint(100, 1000)))


def _write_numbered(directory: Path, number: int, content: bytes) -> None:
    folder = directory / f"{number // 10_000:02d}" / f"{number // 100 % 100:02d}"
    if number % 100 == 0:
        folder.mkdir(parents=True)
    (folder / f"file-{number}.dat").write_bytes(content)


def total_size(directory: Path) -> int:
    """Bytes of all files below."""
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(directory) for name in names)


def _text(rng: random.Random, size: int) -> bytes:
    words = ["".join(rng.choices("etaoinshrdlucmfwyp", k=rng.randint(2, 11))) for _ in range(_WORDS)]
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    lines: list[str] = []
    length = 0
    while length < size:
        line = f"INSERT INTO events VALUES ({rng.randrange(10**9)}, '{' '.join(rng.choices(words, weights, k=12))}');\n"
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def _line_block(rng: random.Random, text: bytes) -> bytes:
    """A MiB that nothing else contains, of about the text's compressibility: slices of it with numbers between."""
    block = bytearray()
    while len(block) < MIB:
        start = rng.randrange(len(text) - 2048)
        block += b"%016x " % rng.getrandbits(64) + text[start : start + rng.randint(200, 2000)]
    return bytes(block[:MIB])
