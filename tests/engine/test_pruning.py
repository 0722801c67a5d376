"""What a prune decides loses nothing, leaves what it may leave, and rewrites no more than it is asked to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blob import BlobType, PackedBlob
from engine.copies import Copies
from engine.errors import InvalidLimit
from engine.index import IndexedPack
from engine.pack import header_size
from engine.pruning import (
    NOWHERE,
    Fate,
    UnusedLimit,
    choose_copies,
    count_outcome,
    count_use,
    decide,
    parse_size,
    spare,
    unkept,
)

NOTHING_UNUSED = UnusedLimit(percent=0)
LIMITS = st.one_of(
    st.just(UnusedLimit()),
    st.builds(UnusedLimit, percent=st.floats(0, 99)),
    st.builds(UnusedLimit, size=st.integers(0, 2000)),
)


def copies_of(packs):
    """Packs, each a list of (number of the blob, stored length), as index files would list them."""
    copies = Copies()
    for number, content in enumerate(packs):
        offsets = [sum(length for _, length in content[:at]) for at in range(len(content))]
        blobs = [
            PackedBlob(BlobType.DATA, bytes([blob]) * 32, offset, length, 0)
            for offset, (blob, length) in zip(offsets, content, strict=True)
        ]
        copies.add_pack(IndexedPack(bytes([number]) * 32, blobs), [blob for blob, _ in content])
    return copies


@st.composite
def repositories(draw):
    """Return packs, a byte for each blob (1: used) and one for each pack (1: usable); every used blob is in a usable pack."""
    blobs = draw(st.integers(1, 12))
    packs = draw(st.lists(st.lists(st.tuples(st.integers(0, blobs - 1), st.integers(32, 300)), max_size=6), max_size=8))
    usable = bytearray(draw(st.lists(st.sampled_from([1, 1, 1, 0]), min_size=len(packs), max_size=len(packs))))
    there = {blob for number, content in enumerate(packs) if usable[number] for blob, _ in content}
    used = bytearray(blob in there and draw(st.booleans()) for blob in range(blobs))
    return packs, used, usable


def planned(packs, used, usable, limit, max_repack_size=None):
    copies = copies_of(packs)
    chosen = choose_copies(copies, used, usable)
    uses = count_use(copies, used, chosen)
    return copies, chosen, uses, decide(uses, limit, max_repack_size)


def carried_out(packs, used, chosen, fates):
    """Return the packs after the plan: what is kept, and one new pack with what was moved."""
    moved = {}
    for number, content in enumerate(packs):
        if fates[number] is Fate.REPACK:
            for blob, length in content:
                if used[blob] and chosen[blob] == number:
                    moved.setdefault(blob, length)
    kept = [content for number, content in enumerate(packs) if fates[number] is Fate.KEEP]
    return kept + ([list(moved.items())] if moved else [])


@given(repositories(), LIMITS, st.one_of(st.none(), st.integers(0, 2000)))
def test_every_used_blob_is_there_afterwards(repository, limit, max_repack_size):
    packs, used, usable = repository
    _, chosen, _, fates = planned(packs, used, usable, limit, max_repack_size)
    assert all(usable[number] for number, fate in enumerate(fates) if fate is not Fate.DELETE)
    left = {blob for content in carried_out(packs, used, chosen, fates) for blob, _ in content}
    assert {blob for blob, is_used in enumerate(used) if is_used} <= left


@given(repositories())
def test_without_tolerance_exactly_one_copy_of_each_used_blob_is_left_and_nothing_else(repository):
    packs, used, usable = repository
    _, chosen, _, fates = planned(packs, used, usable, NOTHING_UNUSED)
    left = sorted(blob for content in carried_out(packs, used, chosen, fates) for blob, _ in content)
    assert left == [blob for blob, is_used in enumerate(used) if is_used]


@given(repositories(), LIMITS)
def test_no_more_is_left_unused_than_the_limit_and_no_pack_is_rewritten_beyond_it(repository, limit):
    _, _, uses, fates = planned(*repository, limit)
    allowed = limit.allowed(sum(use.used_bytes for use in uses))
    kept = sum(use.waste for use, fate in zip(uses, fates, strict=True) if fate is Fate.KEEP)
    rewritten = [use.waste for use, fate in zip(uses, fates, strict=True) if fate is Fate.REPACK]
    if allowed is None:
        assert rewritten == []
    else:
        assert kept <= allowed
        assert all(waste and kept + waste > allowed for waste in rewritten)


@given(repositories(), st.integers(0, 2000))
def test_no_more_is_rewritten_than_the_limit(repository, max_repack_size):
    _, _, uses, fates = planned(*repository, NOTHING_UNUSED, max_repack_size)
    assert sum(use.size for use, fate in zip(uses, fates, strict=True) if fate is Fate.REPACK) <= max_repack_size


@given(repositories(), LIMITS)
def test_what_was_pruned_is_not_rewritten_by_the_next_prune(repository, limit):
    packs, used, usable = repository
    packs = [[(blob, 32 + blob) for blob, _ in content] for content in packs]
    _, chosen, _, fates = planned(packs, used, usable, limit)
    again = carried_out(packs, used, chosen, fates)
    assert Fate.REPACK not in planned(again, used, bytes([1]) * len(again), limit)[3]


@given(repositories())
def test_what_was_pruned_without_tolerance_needs_no_pruning(repository):
    packs, used, usable = repository
    _, chosen, _, fates = planned(packs, used, usable, NOTHING_UNUSED)
    again = carried_out(packs, used, chosen, fates)
    assert planned(again, used, bytes([1]) * len(again), NOTHING_UNUSED)[3] == [Fate.KEEP] * len(again)


@given(repositories(), LIMITS, st.lists(st.integers(1, 100), max_size=3))
def test_the_counts_are_those_of_what_is_left(repository, limit, unreferenced):
    packs, used, usable = repository
    _, chosen, uses, fates = planned(packs, used, usable, limit)
    blobs, sizes, counted = count_outcome(uses, fates, unreferenced)
    left = carried_out(packs, used, chosen, fates)
    assert blobs.total == sum(map(len, packs))
    assert (blobs.used, blobs.remaining) == (sum(used), sum(map(len, left)))
    assert sizes.total == sum(length for content in packs for _, length in content) + sum(unreferenced)
    assert sizes.remaining == sum(length for content in left for _, length in content)
    assert sizes.remaining_unused == sizes.remaining - sizes.used
    assert (counted.total, counted.remove_total - counted.remove) == (len(packs) + len(unreferenced), len(unreferenced))
    assert counted.keep + counted.repack + counted.remove == len(packs)


@given(repositories(), st.data())
def test_what_comes_to_be_needed_keeps_its_pack_and_no_other(repository, data):
    packs, used, usable = repository
    copies, _, _, fates = planned(packs, used, usable, NOTHING_UNUSED)
    there = {blob for number, content in enumerate(packs) if usable[number] for blob, _ in content}
    later = bytearray(blob in there and (bool(is_used) or data.draw(st.booleans())) for blob, is_used in enumerate(used))
    before = bytearray(fate is not Fate.KEEP for fate in fates)
    doomed = bytearray(before)
    spared = spare(copies, later, usable, doomed)
    assert unkept(copies, later, usable, doomed) is None
    assert [number for number in range(len(packs)) if before[number] and not doomed[number]] == sorted(spared)
    kept = [number for number in range(len(packs)) if not before[number] and usable[number]]
    for number in spared:
        assert any(later[blob] and blob not in {one for at in kept for one, _ in packs[at]} for blob, _ in packs[number])
        kept.append(number)


def test_a_blob_that_only_unusable_packs_have_is_told():
    copies = copies_of([[(0, 50)], [(0, 50), (1, 60)]])
    assert list(choose_copies(copies, b"\1\1", b"\1\0")) == [0, NOWHERE]
    at = unkept(copies, b"\1\1", b"\1\0", b"\0\0")
    assert (copies.blob[at], copies.pack[at]) == (1, 1)
    assert spare(copies, b"\1\1", b"\1\0", bytearray(b"\0\1")) == []


def test_the_packs_that_a_prune_has_written_before_it_was_cut_off_are_kept_and_nothing_is_rewritten_again():
    old, half, new = [(0, 100), (1, 100), (2, 100)], [(3, 100), (4, 100)], [(0, 100), (1, 100)]
    used = b"\1\1\0\1\1"
    assert planned([old, half, new], used, b"\1\1\1", NOTHING_UNUSED)[3] == [Fate.DELETE, Fate.KEEP, Fate.KEEP]


def test_of_two_packs_with_the_same_blob_that_one_stays_which_must_stay_anyway():
    assert planned([[(0, 100)], [(0, 100), (1, 100)]], b"\1\1", b"\1\1", NOTHING_UNUSED)[3] == [Fate.DELETE, Fate.KEEP]


def test_the_packs_with_the_most_waste_are_rewritten_first():
    packs = [[(0, 100), (1, 50)], [(2, 100), (3, 300)], [(4, 100), (5, 100)]]
    used = b"\1\0\1\0\1\0"
    assert planned(packs, used, b"\1\1\1", UnusedLimit(size=150))[3] == [Fate.KEEP, Fate.REPACK, Fate.KEEP]
    assert planned(packs, used, b"\1\1\1", UnusedLimit(size=149))[3] == [Fate.KEEP, Fate.REPACK, Fate.REPACK]


@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 5), max_size=4)), max_size=8))
def test_a_pack_may_be_listed_again_and_in_parts(listings):
    copies, expected = Copies(), {}
    for pack, blobs in listings:
        listed = [PackedBlob(BlobType.DATA, bytes([blob]) * 32, 100 * blob, 100, blob % 2) for blob in sorted(blobs)]
        copies.add_pack(IndexedPack(bytes([pack]) * 32, listed), sorted(blobs))
        expected.setdefault(bytes([pack]) * 32, set()).update(blobs)
    assert copies.packs == list(expected)
    for number, pack in enumerate(copies.packs):
        found = list(copies.of_pack(number))
        assert sorted(copies.blob[at] for at in found) == sorted(expected[pack])
        assert {copies.pack[at] for at in found} <= {number}
        compressed = sum(blob % 2 for blob in expected[pack])
        header = header_size(len(expected[pack]) - compressed, compressed)
        assert copies.sizes[number] == 100 * len(expected[pack]) + header


@pytest.mark.parametrize(
    ("text", "used", "allowed"),
    [
        ("5%", 1900, 100),
        ("0%", 1900, 0),
        ("50%", 700, 700),
        ("2.5%", 3900, 100),
        ("0", 5, 0),
        ("3K", 5, 3072),
        ("unlimited", 5, None),
    ],
)
def test_a_limit_says_how_much_may_stay_unused_beside_what_is_used(text, used, allowed):
    assert UnusedLimit.parse(text).allowed(used) == allowed


@pytest.mark.parametrize("text", ["", "%", "100%", "-1%", "x%", "nan%", "inf%", "-5", "5.5", "1Q", "Unlimited", "5 M", "٣"])
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(InvalidLimit, match="is no"):
        UnusedLimit.parse(text)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("12b", 12), ("1k", 1024), ("2M", 2 << 20), ("3g", 3 << 30), ("1T", 1 << 40)])
def test_sizes_have_the_units_of_restic(text, size):
    assert parse_size(text) == size
