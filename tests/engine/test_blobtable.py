"""Rows and the table that finds them, beside a dictionary."""

import os

from hypothesis import given
from hypothesis import strategies as st

from engine.blobtable import CHUNK_ROWS, PLACES, BlobRows, IdTable


def filled(ids):
    rows = BlobRows()
    table = IdTable(rows)
    for number, blob_id in enumerate(ids):
        table.add(blob_id, number, 2, 3)
    return rows, table


def test_every_row_is_found_and_nothing_else():
    ids = [os.urandom(32) for _ in range(2 * CHUNK_ROWS + 5)]
    rows, table = filled(ids)
    assert [table.get(blob_id) for blob_id in ids] == list(range(len(ids)))
    assert [tuple(rows.numbers(number)) for number in (0, CHUNK_ROWS, len(ids) - 1)] == [
        (0, 2, 3), (CHUNK_ROWS, 2, 3), (len(ids) - 1, 2, 3)
    ]  # fmt: skip
    assert all(table.get(os.urandom(32)) is None for _ in range(1000))
    assert sorted(table.rows()) == list(range(len(ids)))
    assert len(rows) == len(table) == len(ids)


def test_an_id_that_is_there_gets_no_second_row():
    ids = [os.urandom(32) for _ in range(3)]
    rows, table = filled(ids)
    assert table.add(ids[1], 7, 8, 9) == 1
    assert (len(rows), rows.numbers(1)) == (3, (1, 2, 3))


def test_ids_that_meet_in_one_bucket_are_told_apart():
    """As those of an attacker would, who can choose what is hashed though not the hash."""
    ids = [bytes((number % 3,)) + bytes(29) + number.to_bytes(2, "big") for number in range(5 * PLACES)]
    _, table = filled(ids)
    assert [table.get(blob_id) for blob_id in ids] == list(range(len(ids)))
    assert table.get(bytes(30) + b"\xff\xff") is None


def test_room_may_be_made_before_and_after():
    ids = [os.urandom(32) for _ in range(1000)]
    rows = BlobRows()
    table = IdTable(rows)
    table.reserve(500)
    for blob_id in ids:
        table.add(blob_id, 0, 0, 0)
    table.reserve(10)
    table.reserve(5000)
    assert [table.get(blob_id) for blob_id in ids] == list(range(len(ids)))


@given(st.sets(st.binary(min_size=32, max_size=32)), st.lists(st.binary(max_size=40)))
def test_it_answers_as_a_dictionary_does(known, asked):
    ids = sorted(known)
    expected = {blob_id: number for number, blob_id in enumerate(ids)}
    _, table = filled(ids)
    for blob_id in [*ids, *asked]:
        assert table.get(blob_id) == expected.get(blob_id)
