"""The index finds every blob that index files name, and reads back what it writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blob import BlobLocation, BlobType, PackedBlob
from engine.bounds import BLOB_BYTES
from engine.errors import DataDamaged
from engine.index import OTHER_PLACES, Index, IndexedPack, decode_index, encode_index

NUMBERS = st.integers(0, (1 << 32) - 1)
LENGTHS = {BlobType.DATA: st.integers(0, BLOB_BYTES[BlobType.DATA]), BlobType.TREE: NUMBERS}
IDS = st.binary(min_size=32, max_size=32)
BLOBS = st.sampled_from(BlobType).flatmap(
    lambda kind: st.builds(PackedBlob, st.just(kind), IDS, NUMBERS, LENGTHS[kind], LENGTHS[kind])
)
PACKS = st.lists(st.builds(IndexedPack, IDS, st.lists(BLOBS)), max_size=5)


@given(PACKS)
def test_an_index_file_round_trips(packs):
    assert list(decode_index(encode_index(packs))) == packs


@given(PACKS)
def test_a_large_index_file_is_decoded_pack_by_pack_to_the_same(packs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.index.DECODED_AT_ONCE", 0)
        assert list(decode_index(encode_index(packs))) == packs


@pytest.mark.parametrize("at_once", [0, 1 << 20])
@pytest.mark.parametrize("field", ["length", "uncompressed_length"])
def test_a_piece_of_a_file_larger_than_any_program_writes_is_left_out_and_a_tree_may_be_large(at_once, field, monkeypatch):
    monkeypatch.setattr("engine.index.DECODED_AT_ONCE", at_once)

    def decoded(blob_type, size):
        blob = BLOB | {"type": blob_type, "length": 50, field: size}
        content = json.dumps({"packs": [{"id": "11" * 32, "blobs": [blob, BLOB]}]}).encode()
        return [len(pack.blobs) for pack in decode_index(content)]

    assert decoded("data", BLOB_BYTES[BlobType.DATA]) == [2]
    assert decoded("tree", (1 << 32) - 1) == [2]
    assert decoded("data", BLOB_BYTES[BlobType.DATA] + 1) == [1]


def test_a_pack_with_more_blobs_than_a_header_can_list_is_damage(monkeypatch):
    monkeypatch.setattr("engine.index.DECODED_AT_ONCE", 0)
    monkeypatch.setattr("engine.index.BLOBS_IN_PACK", 2)
    packs = [IndexedPack(b"p" * 32, [PackedBlob(BlobType.DATA, bytes([n]) * 32, n, 50) for n in range(count)]) for count in (2, 3)]
    assert list(decode_index(encode_index(packs[:1]))) == packs[:1]
    with pytest.raises(DataDamaged):
        list(decode_index(encode_index(packs)))


def test_of_a_blob_that_lies_in_very_many_places_some_are_remembered():
    index = Index()
    for offset in range(10 * OTHER_PLACES):
        index.add_pack(IndexedPack(b"p" * 32, [PackedBlob(BlobType.DATA, b"b" * 32, offset, 50)]))
    assert [place.offset for place in index.other_places(BlobType.DATA, b"b" * 32)] == list(range(1, OTHER_PLACES + 1))


def test_a_damaged_index_file_is_named():
    with pytest.raises(DataDamaged, match="index file ab is damaged"):
        list(decode_index(b"{}", "ab"))


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


@given(PACKS)
def test_a_prune_gets_the_numbers_of_the_blobs_of_a_pack(packs):
    index, learnt = Index(), Index()
    for pack in packs:
        learnt.add_pack(pack)
        assert index.number_pack(pack) == [learnt.number(blob.type, blob.id) for blob in pack.blobs]
    assert index.packs() == learnt.packs()
    for pack in packs:
        for blob in pack.blobs:
            assert index.find(blob.type, blob.id) == learnt.find(blob.type, blob.id)
            assert index.other_places(blob.type, blob.id) == ()


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
