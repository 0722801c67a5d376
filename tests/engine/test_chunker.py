"""Chunks cover the content, keep to their sizes, and do not depend on how it is read."""

import random

import pytest

from engine.chunker import MAX_SIZE, MIN_SIZE, cut

CONTENT = random.Random(1).randbytes(12 << 20)


def in_windows(content, window):
    """Cut as a reader does that holds `window` bytes at most, and carries the rest over."""
    lengths, at = [], 0
    while at < len(content):
        is_last = at + window >= len(content)
        found = cut(content[at : at + window], is_last)
        lengths += found
        at += sum(found)
    return lengths


def test_chunks_cover_the_content_and_keep_to_their_sizes():
    lengths = cut(CONTENT, True)
    assert sum(lengths) == len(CONTENT)
    assert len(lengths) > 4
    assert all(MIN_SIZE <= length <= MAX_SIZE for length in lengths[:-1])


@pytest.mark.parametrize("window", [MAX_SIZE, MAX_SIZE + 12345, 11 << 20])
def test_boundaries_do_not_depend_on_the_reading(window):
    assert in_windows(CONTENT, window) == cut(CONTENT, True)


def test_an_insertion_moves_few_boundaries():
    def chunks(content):
        at = 0
        for length in cut(content, True):
            yield content[at : at + length]
            at += length

    before, after = set(chunks(CONTENT)), set(chunks(b"inserted" + CONTENT))
    assert len(before - after) <= 2


def test_zeros_become_chunks_of_the_largest_size():
    assert cut(bytes(2 * MAX_SIZE), True) == [MAX_SIZE, MAX_SIZE]
    assert cut(bytes(MAX_SIZE), False) == [MAX_SIZE]


@pytest.mark.parametrize(
    ("size", "is_last", "lengths"), [(0, True, []), (5, True, [5]), (5, False, []), (MIN_SIZE, True, [MIN_SIZE])]
)
def test_little_content_is_one_chunk_once_it_is_all(size, is_last, lengths):
    assert cut(bytes(size), is_last) == lengths
