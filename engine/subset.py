"""Which packs a check reads that is not to read all: restic's `--read-data-subset`.

`n/t` is the n-th of t parts, into which packs fall by the first byte of their ids: t checks, one of each part, have read all.
`x%` is as many packs by chance, one at least; a size is that share of all packs which the size is of all their bytes.
Specified in restic's manual, "Checking integrity and consistency".
"""

import re
from collections.abc import Callable, Mapping
from secrets import SystemRandom

Subset = Callable[[Mapping[bytes, int]], list[bytes]]
"""Chooses packs: from their ids and sizes in bytes, the ids of those to read."""

# As many as a byte has values.
PARTS_LIMIT = 256
_SIZE = re.compile(r"([0-9]+)([bkmgt])", re.IGNORECASE)
_POWER_OF_1024 = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_subset(text: str) -> Subset:
    """Return the choice that `n/t`, `x%` or a size (`500K`, `20M`, `1G`, `1T`) stands for. Raises ValueError."""
    if "/" in text:
        return _part(text)
    if text.endswith("%"):
        return _share(text)
    found = _SIZE.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(f"{text or 'nothing'} is no part of the packs like 1/5, 2.5% or 500M")
    size = int(found[1]) << 10 * _POWER_OF_1024[found[2].lower()]

    def choose(packs: Mapping[bytes, int]) -> list[bytes]:
        total = sum(packs.values())
        return _draw(packs, min(size, total) / total * 100 if total else 100)

    return choose


def _part(text: str) -> Subset:
    number, _slash, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) <= PARTS_LIMIT):
        raise ValueError(f"{text} is no part n/t with n from 1 to t, and t up to {PARTS_LIMIT}")
    return lambda packs: [pack for pack in packs if pack[0] % int(parts) == int(number) - 1]


def _share(text: str) -> Subset:
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = 0
    if not 0 < percent <= 100:
        raise ValueError(f"{text} is no percentage above 0% and up to 100%")
    return lambda packs: _draw(packs, percent)


def _draw(packs: Mapping[bytes, int], percent: float) -> list[bytes]:
    return SystemRandom().sample(list(packs), min(len(packs), max(1, int(len(packs) * (percent / 100)))))
