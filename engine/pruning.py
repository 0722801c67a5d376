"""What a prune decides: which copy of a blob stays, which packs are kept, rewritten or deleted. Nothing here reads or writes.

Blobs and packs are the numbers of `copies`. The limits are restic's: `--max-unused` and `--max-repack-size` of its manual,
"Customize pruning".
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from engine.copies import Copies
from engine.errors import InvalidLimit

NOWHERE = 0xFFFFFFFF
_SIZE = re.compile(r"(\d+)([bkmgt]?)", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Fate(IntEnum):
    """What becomes of a pack."""

    KEEP = 0
    REPACK = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class UnusedLimit:
    """How much unused content may stay: `percent` of all that stays, or `size` bytes; with neither, any amount."""

    percent: float | None = None
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> UnusedLimit:
        """Return the limit that `5%`, `200M` or `unlimited` stands for. Raises InvalidLimit."""
        if text == "unlimited":
            return cls()
        if not text.endswith("%"):
            return cls(size=parse_size(text))
        try:
            percent = float(text[:-1])
        except ValueError as error:
            raise InvalidLimit(f"{text} is no percentage") from error
        if not 0 <= percent < 100:
            raise InvalidLimit(f"{text} is not between 0% and 100%")
        return cls(percent=percent)

    def allowed(self, used: int) -> int | None:
        """Return the bytes that may stay unused beside `used` bytes that are needed, None for any amount."""
        if self.percent is not None:
            return int(self.percent / (100 - self.percent) * used)
        return self.size


# restic's.
USUAL_LIMIT = UnusedLimit(percent=5)


def parse_size(text: str) -> int:
    """Return the bytes that `300`, `300K`, `20m`, `1G` or `1T` stands for; the units are powers of 1024. Raises InvalidLimit."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidLimit(f"{text or 'nothing'} is no size like 300K, 20M, 1G")
    return int(match[1]) * _UNITS[match[2].lower()]


@dataclass(slots=True)
class PackUse:
    """How much of a pack is needed; sizes in bytes as stored, `size` with the header.

    `duplicate` blobs are needed, but kept elsewhere; `unused` ones no snapshot needs.
    """

    size: int
    used_blobs: int = 0
    used_bytes: int = 0
    duplicate_blobs: int = 0
    duplicate_bytes: int = 0
    unused_blobs: int = 0
    unused_bytes: int = 0

    @property
    def waste(self) -> int:
        """The bytes that would be missed by nobody."""
        return self.duplicate_bytes + self.unused_bytes

    @property
    def wasted_blobs(self) -> int:
        return self.duplicate_blobs + self.unused_blobs


def choose_copies(copies: Copies, used: bytes | bytearray, usable: bytes | bytearray) -> array[int]:
    """Return for each blob the number of the pack whose copy is to stay: NOWHERE if it is unused, or no usable pack has it.

    `used`: a byte for each blob, `usable`: a byte for each pack, not 0 if so. Of several copies that one stays whose pack has
    the least that nobody needs, so that the packs of a prune that was cut off are preferred to those that they came from;
    then one whose pack must stay anyway for the only copy of another blob.
    """
    found = bytearray(len(used))
    waste = array("Q", bytes(8 * len(copies.packs)))
    for blob, pack, length in zip(copies.blob, copies.pack, copies.length, strict=True):
        if not used[blob]:
            waste[pack] += length
        elif usable[pack] and found[blob] < 2:
            found[blob] += 1
    is_pinned = bytearray(len(copies.packs))
    for blob, pack in zip(copies.blob, copies.pack, strict=True):
        if found[blob] == 1:
            is_pinned[pack] = 1
    ranks = array("I", bytes(4 * len(copies.packs)))
    by_worth = sorted(range(len(ranks)), key=lambda pack: (waste[pack] / copies.sizes[pack], not is_pinned[pack], pack))
    for rank, pack in enumerate(by_worth):
        ranks[pack] = rank
    chosen = array("I", [NOWHERE]) * len(used)
    for blob, pack in zip(copies.blob, copies.pack, strict=True):
        if used[blob] and usable[pack] and (chosen[blob] == NOWHERE or ranks[pack] < ranks[chosen[blob]]):
            chosen[blob] = pack
    return chosen


def count_use(copies: Copies, used: bytes | bytearray, chosen: array[int]) -> list[PackUse]:
    """Return how much of each pack is needed, given the packs whose copies stay."""
    uses = [PackUse(size) for size in copies.sizes]
    is_counted = bytearray(len(used))
    for blob, pack, length in zip(copies.blob, copies.pack, copies.length, strict=True):
        use = uses[pack]
        if not used[blob]:
            use.unused_blobs += 1
            use.unused_bytes += length
        elif chosen[blob] == pack and not is_counted[blob]:
            is_counted[blob] = 1
            use.used_blobs += 1
            use.used_bytes += length
        else:
            use.duplicate_blobs += 1
            use.duplicate_bytes += length
    return uses


def decide(uses: Sequence[PackUse], limit: UnusedLimit, max_repack_size: int | None) -> list[Fate]:
    """Return the fate of each pack: those without anything needed go, and none is rewritten that the limit does not ask for.

    The packs of which the largest part is waste come first. `max_repack_size`: bytes of packs that may be rewritten at most.
    """
    fates = [Fate.KEEP if use.used_blobs else Fate.DELETE for use in uses]
    allowed = limit.allowed(sum(use.used_bytes for use in uses))
    if allowed is None:
        return fates
    candidates = [number for number, use in enumerate(uses) if use.used_blobs and use.waste]
    waste = sum(uses[number].waste for number in candidates)
    rewritten: list[int] = []
    left = max_repack_size
    for number in sorted(candidates, key=lambda number: -uses[number].waste / uses[number].size):
        if waste <= allowed:
            break
        if left is None or uses[number].size <= left:
            rewritten.append(number)
            waste -= uses[number].waste
            left = None if left is None else left - uses[number].size
    for number in sorted(rewritten, key=lambda number: -uses[number].size):
        # One that was chosen early may have become needless by those after it.
        if waste + uses[number].waste <= allowed:
            waste += uses[number].waste
        else:
            fates[number] = Fate.REPACK
    return fates


def spare(copies: Copies, used: bytes | bytearray, usable: bytes | bytearray, doomed: bytearray) -> list[int]:
    """Take packs out of `doomed` (a byte for each pack) until what stays has a copy of each used blob; return those packs.

    Packs that are not usable do not count. A blob that is in no usable pack at all stays without: see `unkept`.
    """
    is_safe = _safe(copies, used, usable, doomed)
    spared = []
    for blob, pack in zip(copies.blob, copies.pack, strict=True):
        if used[blob] and not is_safe[blob] and usable[pack]:
            doomed[pack] = 0
            spared.append(pack)
            for copy in copies.of_pack(pack):
                is_safe[copies.blob[copy]] = 1
    return spared


def unkept(copies: Copies, used: bytes | bytearray, usable: bytes | bytearray, doomed: bytes | bytearray) -> int | None:
    """Return a copy of a used blob of which no copy is in a usable pack that stays, None if there is none such."""
    is_safe = _safe(copies, used, usable, doomed)
    return next((at for at, blob in enumerate(copies.blob) if used[blob] and not is_safe[blob]), None)


def _safe(copies: Copies, used: bytes | bytearray, usable: bytes | bytearray, doomed: bytes | bytearray) -> bytearray:
    is_safe = bytearray(len(used))
    for blob, pack in zip(copies.blob, copies.pack, strict=True):
        if usable[pack] and not doomed[pack]:
            is_safe[blob] = 1
    return is_safe


@dataclass(frozen=True, slots=True)
class BlobCounts:
    """Blobs, in restic's words. `repack`: in packs that are rewritten, `repack_remove`: those of them that are left out."""

    used: int
    duplicate: int
    unused: int
    total: int
    repack: int
    repack_remove: int
    remove: int
    remove_total: int
    remaining: int


@dataclass(frozen=True, slots=True)
class ByteCounts:
    """Bytes of blobs as stored, in restic's words; `repack` and `unreferenced` (what no index names) are of whole packs."""

    used: int
    duplicate: int
    unused: int
    unreferenced: int
    total: int
    repack: int
    repack_remove: int
    remove: int
    remove_total: int
    remaining: int
    remaining_unused: int


@dataclass(frozen=True, slots=True)
class PackCounts:
    """Packs, in restic's words. `remove` does not count those that are rewritten, nor what no index names."""

    used: int
    unused: int
    partly_used: int
    unreferenced: int
    total: int
    keep: int
    repack: int
    remove: int
    remove_total: int


def count_outcome(
    uses: Sequence[PackUse], fates: Sequence[Fate], unreferenced: Sequence[int]
) -> tuple[BlobCounts, ByteCounts, PackCounts]:
    """Return what the fates come to. `unreferenced`: the sizes of the packs that no index names, which all go."""
    every = _total(uses)
    repacked = _total(use for use, fate in zip(uses, fates, strict=True) if fate is Fate.REPACK)
    removed = _total(use for use, fate in zip(uses, fates, strict=True) if fate is Fate.DELETE)
    blobs, left_out = every.used_blobs + every.wasted_blobs, repacked.wasted_blobs
    stray = sum(unreferenced)
    stored = every.used_bytes + every.waste + stray
    unused = sum(not use.used_blobs for use in uses)
    partly_used = sum(bool(use.used_blobs and use.wasted_blobs) for use in uses)
    return (
        BlobCounts(
            used=every.used_blobs,
            duplicate=every.duplicate_blobs,
            unused=every.unused_blobs,
            total=blobs,
            repack=repacked.used_blobs + left_out,
            repack_remove=left_out,
            remove=removed.wasted_blobs,
            remove_total=removed.wasted_blobs + left_out,
            remaining=blobs - removed.wasted_blobs - left_out,
        ),
        ByteCounts(
            used=every.used_bytes,
            duplicate=every.duplicate_bytes,
            unused=every.unused_bytes,
            unreferenced=stray,
            total=stored,
            repack=repacked.size,
            repack_remove=repacked.waste,
            remove=removed.waste,
            remove_total=removed.waste + repacked.waste + stray,
            remaining=stored - removed.waste - repacked.waste - stray,
            remaining_unused=every.waste - removed.waste - repacked.waste,
        ),
        PackCounts(
            used=len(uses) - unused - partly_used,
            unused=unused,
            partly_used=partly_used,
            unreferenced=len(unreferenced),
            total=len(uses) + len(unreferenced),
            keep=fates.count(Fate.KEEP),
            repack=fates.count(Fate.REPACK),
            remove=fates.count(Fate.DELETE),
            remove_total=fates.count(Fate.DELETE) + len(unreferenced),
        ),
    )


def _total(uses: Iterable[PackUse]) -> PackUse:
    total = PackUse(0)
    for use in uses:
        total.size += use.size
        total.used_blobs += use.used_blobs
        total.used_bytes += use.used_bytes
        total.duplicate_blobs += use.duplicate_blobs
        total.duplicate_bytes += use.duplicate_bytes
        total.unused_blobs += use.unused_blobs
        total.unused_bytes += use.unused_bytes
    return total
