"""No decoder fails in words that are not its own: here with a few inputs each, in `test_fuzz_soak.py` with millions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.fuzztargets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_what_mutations_start_from(name):
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_a_decoder_refuses_what_is_nearly_right_in_its_own_words(name, data):
    seed = bytearray(data.draw(st.sampled_from(TARGETS[name].seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(seed)))
        end = at + data.draw(st.integers(0, 3))
        seed[at:end] = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"-", b"9" * 40, b"\\", b"{"]))
    TARGETS[name].check(bytes(seed))


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=200))
def test_a_decoder_refuses_what_is_nothing_in_its_own_words(name, content):
    TARGETS[name].check(content)
