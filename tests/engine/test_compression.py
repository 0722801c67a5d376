"""What is compressed comes back, and no frame takes more memory than was promised."""

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import WINDOW_BYTES
from engine.compression import PIECE_BYTES, compress, decompress, decompress_pieces, pack_file, unpack_file
from engine.errors import DataDamaged, TooLarge

LIMIT = 1000


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


@pytest.mark.parametrize("promised", [0, 999, 1001, 1 << 40])
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
        unpack_file(b"\x02" + frame, LIMIT)
    with pytest.raises(DataDamaged):
        list(decompress_pieces([frame], 300))


@given(st.binary(max_size=500).map(lambda raw: b"{" + raw))
def test_files_of_both_versions_come_back(content):
    assert pack_file(content, 1) == content
    for version in (1, 2):
        assert unpack_file(pack_file(content, version), LIMIT) == content


def test_a_file_of_unknown_encoding_is_damage():
    with pytest.raises(DataDamaged, match="unknown encoding"):
        unpack_file(b"\x03abc", LIMIT)


def test_a_frame_that_claims_an_absurd_size_is_refused_before_any_memory_is_taken():
    header = bytes.fromhex("28b52ffd e0") + (1 << 50).to_bytes(8, "little")
    with pytest.raises(TooLarge, match="absurd"):
        unpack_file(b"\x02" + header + bytes(20), LIMIT)
    with pytest.raises(TooLarge, match="absurd"):
        decompress(header + bytes(20), 1000)


@pytest.mark.parametrize("says_size", [True, False])
def test_a_file_unpacks_to_what_is_allowed_and_to_no_more(says_size):
    frame = zstandard.ZstdCompressor(write_content_size=says_size).compress(b"{" + bytes(LIMIT - 1))
    assert len(unpack_file(b"\x02" + frame, LIMIT)) == LIMIT
    with pytest.raises(TooLarge):
        unpack_file(b"\x02" + frame, LIMIT - 1)


@given(st.binary(max_size=3000), st.integers(1, 2000), st.integers(1, 100))
def test_a_frame_that_comes_in_pieces_is_the_same(unit, times, cut):
    content = unit * times
    frame = zstandard.compress(content)
    pieces = [frame[at : at + cut] for at in range(0, len(frame), cut)]
    assert b"".join(decompress_pieces(pieces, len(content))) == content


@pytest.mark.parametrize("promised", [0, 999, 1001])
@pytest.mark.parametrize("says_size", [True, False])
def test_a_frame_in_pieces_is_held_to_the_promise(promised, says_size):
    frame = zstandard.ZstdCompressor(write_content_size=says_size).compress(bytes(1000))
    with pytest.raises(DataDamaged):
        list(decompress_pieces([frame], promised))


def test_a_frame_in_pieces_grows_piece_by_piece():
    bomb = zstandard.compress(bytes(64 << 20))
    pieces = decompress_pieces([bomb], 64 << 20)
    assert 0 < len(next(pieces)) <= PIECE_BYTES


def test_a_frame_that_looks_back_over_too_much_is_damage():
    def bomb(window_log):
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
        return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(2 * WINDOW_BYTES))

    window_log = WINDOW_BYTES.bit_length() - 1
    assert sum(map(len, decompress_pieces([bomb(window_log)], 2 * WINDOW_BYTES))) == 2 * WINDOW_BYTES
    with pytest.raises(DataDamaged):
        list(decompress_pieces([bomb(window_log + 1)], 2 * WINDOW_BYTES))
