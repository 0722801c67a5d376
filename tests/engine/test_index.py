"""The index finds every blob that index files name, and reads back what it writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blob import BlobLocation, BlobType, PackedBlob
from engine.errors import DataDamaged
from engine.index import Index, IndexedPack, decode_index, encode_index

NUMBERS = st.integers(0, (1 << 32) - 1)
IDS = st.binary(min_size=32, max_size=32)
PACKS = st.lists(
    st.builds(IndexedPack, IDS, st.lists(st.builds(PackedBlob, st.sampled_from(BlobType), IDS, NUMBERS, NUMBERS, NUMBERS))),
    max_size=5,
)


@given(PACKS)
def test_an_index_file_round_trips(packs):
    assert list(decode_index(encode_index(packs))) == packs


@given(PACKS)
def test_the_index_finds_the_first_place_of_each_blob(packs):
    index, first = Index(), {}
    for pack in packs:
        index.add_pack(pack)
        for blob in pack.blobs:
            place = BlobLocation(pack.id, blob.offset, blob.length, blob.uncompressed_length)
            first.setdefault((blob.type, blob.id), place)
    assert len(index) == len(first)
    assert {(kind, blob_id): place for kind in BlobType for blob_id, place in index.blobs(kind)} == first
    assert all(index.find(*blob) == place and blob in index for blob, place in first.items())
    assert set(index.packs()) == {pack.id for pack in packs}


@given(PACKS)
def test_blobs_are_numbered_in_the_order_in_which_they_were_learnt(packs):
    index, order = Index(), {}
    for pack in packs:
        index.add_pack(pack)
        for blob in pack.blobs:
            order.setdefault((blob.type, blob.id), len(order))
    assert {blob: index.number(*blob) for blob in order} == order
    assert index.number(BlobType.DATA, b"") is None


def test_a_blob_is_of_the_type_it_was_stored_as():
    index = Index()
    index.add_pack(IndexedPack(b"p" * 32, [PackedBlob(BlobType.TREE, b"b" * 32, 0, 132, 0)]))
    assert index.find(BlobType.DATA, b"b" * 32) is None
    assert index.plain_length(BlobType.TREE, b"b" * 32) == 100


def test_an_index_file_names_those_it_replaces_as_restic_expects():
    assert json.loads(encode_index([], ["ab"])) == {"supersedes": ["ab"], "packs": []}


BLOB = {"id": "00" * 32, "type": "data", "offset": 0, "length": 50}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"null", b'{"packs":5}', b'{"packs":[{}]}',
        *(json.dumps({"packs": [{"id": "11" * 32, "blobs": [BLOB | change]}]}).encode() for change in (
            {"id": "00"}, {"type": "leaf"}, {"offset": -1}, {"length": 1 << 32}, {"uncompressed_length": "x"}, {"id": None})),
    ],
)  # fmt: skip
def test_what_is_no_index_file_is_damage(content):
    with pytest.raises(DataDamaged):
        list(decode_index(content))
