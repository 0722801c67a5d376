"""What is compressed comes back, and no frame takes more memory than was promised."""

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engine.compression import FRAME_LIMIT, compress, decompress, pack_file, unpack_file
from engine.errors import DataDamaged


@given(st.binary(max_size=5000), st.integers(1, 40))
def test_compressed_content_comes_back(unit, times):
    content = unit * times
    frame = compress(content)
    assert frame is None or (len(frame) < len(content) and decompress(frame, len(content)) == content)


@pytest.mark.parametrize("size", [10, 1000, 1 << 20])
def test_what_does_not_get_smaller_stays_as_it_is(size):
    assert compress(os.urandom(size)) is None


def test_text_behind_a_random_middle_is_compressed_still():
    content = b"text " * 30_000 + os.urandom(20_000) + b"text " * 30_000
    assert len(compress(content) or content) < len(content) // 2


@pytest.mark.parametrize("promised", [0, 999, 1001, FRAME_LIMIT + 1])
def test_a_frame_of_another_size_than_promised_is_damage(promised):
    with pytest.raises(DataDamaged):
        decompress(zstandard.compress(bytes(1000)), promised)


@pytest.mark.parametrize("promised", [999, 1001])
def test_a_frame_that_keeps_its_size_to_itself_is_held_to_the_promise(promised):
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    assert decompress(frame, 1000) == bytes(1000)
    with pytest.raises(DataDamaged):
        decompress(frame, promised)


@pytest.mark.parametrize("frame", [b"", b"no frame", zstandard.compress(b"cut" * 100)[:-3]])
def test_what_is_no_frame_is_damage(frame):
    with pytest.raises(DataDamaged):
        decompress(frame, 300)
    with pytest.raises(DataDamaged):
        unpack_file(b"\x02" + frame)


@given(st.binary(max_size=500).map(lambda raw: b"{" + raw))
def test_files_of_both_versions_come_back(content):
    assert pack_file(content, 1) == content
    for version in (1, 2):
        assert unpack_file(pack_file(content, version)) == content


def test_a_file_of_unknown_encoding_is_damage():
    with pytest.raises(DataDamaged, match="unknown encoding"):
        unpack_file(b"\x03abc")


def test_a_frame_that_claims_an_absurd_size_is_refused_before_any_memory_is_taken():
    header = bytes.fromhex("28b52ffd e0") + (1 << 50).to_bytes(8, "little")
    with pytest.raises(DataDamaged, match="absurd"):
        unpack_file(b"\x02" + header + bytes(20))
    with pytest.raises(DataDamaged, match="absurd"):
        decompress(header + bytes(20), 1000)
