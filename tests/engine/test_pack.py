"""A pack's header says what is in the pack, and one that lies is damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blob import BlobType, PackedBlob
from engine.bounds import HEADER_BYTES
from engine.crypto import KeyMaterial, SealingKey
from engine.errors import DataDamaged
from engine.pack import LENGTH_SIZE, decode_header, encode_header, header_size, sealed_header_length

KEY = SealingKey(KeyMaterial.generate())
ENTRIES = st.lists(
    st.tuples(st.sampled_from(BlobType), st.binary(min_size=32, max_size=32), st.integers(32, 1 << 20), st.integers(0, 1 << 24)),
    max_size=20,
)


def placed(entries):
    blobs, offset = [], 0
    for blob_type, blob_id, length, plain in entries:
        blobs.append(PackedBlob(blob_type, blob_id, offset, length, plain))
        offset += length
    return blobs, offset


@given(ENTRIES)
def test_a_header_round_trips(entries):
    blobs, size = placed(entries)
    end = encode_header(blobs, KEY)
    compressed = sum(blob.uncompressed_length > 0 for blob in blobs)
    assert len(end) == header_size(len(blobs) - compressed, compressed)
    assert sealed_header_length(end[-LENGTH_SIZE:], size + len(end)) == len(end) - LENGTH_SIZE
    assert decode_header(end[:-LENGTH_SIZE], KEY, size + len(end)) == blobs


@given(ENTRIES, st.integers(1, 1000))
def test_a_pack_of_another_size_is_damage(entries, more):
    blobs, size = placed(entries)
    end = encode_header(blobs, KEY)
    with pytest.raises(DataDamaged):
        decode_header(end[:-LENGTH_SIZE], KEY, size + len(end) + more)


@pytest.mark.parametrize("plaintext", [b"\x04" + bytes(40), b"\x00" + bytes(10), b"\x02" + bytes(36)])
def test_an_unknown_or_cut_entry_is_damage(plaintext):
    sealed = bytes(KEY.seal(plaintext))
    with pytest.raises(DataDamaged):
        decode_header(sealed, KEY, len(sealed) + LENGTH_SIZE)


@pytest.mark.parametrize(("length", "size"), [(0, 100), (31, 100), (97, 100), (HEADER_BYTES + 1, 1 << 30)])
def test_an_impossible_header_length_is_damage(length, size):
    with pytest.raises(DataDamaged):
        sealed_header_length(length.to_bytes(4, "little"), size)


def test_a_pack_of_less_than_a_length_is_damage():
    with pytest.raises(DataDamaged):
        sealed_header_length(b"abc", 3)
