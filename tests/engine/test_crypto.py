"""Messages are sealed as restic seals them, and nothing that was altered is ever opened."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305
from hypothesis import given
from hypothesis import strategies as st

from engine.crypto import NONCES_AT_ONCE, OVERHEAD, KeyMaterial, SealingKey
from engine.errors import DataDamaged

VECTORS = json.loads((Path(__file__).parent / "data" / "crypto-vectors.json").read_text())
KEY = SealingKey(KeyMaterial.generate())


def of_vector(vector):
    return KeyMaterial(*(bytes.fromhex(vector[name]) for name in ("encrypt_key", "mac_k", "mac_r")))


@pytest.mark.parametrize("vector", VECTORS["poly1305_aes"])
def test_the_tag_is_poly1305_aes(vector):
    message, r, k, nonce, tag = (bytes.fromhex(vector[name]) for name in ("msg", "r", "k", "nonce", "mac"))
    one_time = Cipher(AES(k), ECB()).encryptor().update(nonce)
    assert Poly1305.generate_tag(r + one_time, message) == tag


@pytest.mark.parametrize("vector", VECTORS["seal"])
def test_what_restic_sealed_is_opened_and_altered_it_is_not(vector):
    key, sealed = SealingKey(of_vector(vector)), bytes.fromhex(vector["iv_ciphertext_mac"])
    assert key.open(sealed) == vector["plaintext"].encode()
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x23
        with pytest.raises(DataDamaged):
            key.open(altered)
    with pytest.raises(DataDamaged, match="no nonce"):
        key.open(bytes(16) + sealed[16:])


@given(st.binary(max_size=2000))
def test_what_is_sealed_is_opened(plaintext):
    sealed = KEY.seal(plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD
    assert KEY.open(sealed) == plaintext


@given(st.binary(max_size=200), st.data())
def test_an_altered_or_cut_message_is_damage(plaintext, data):
    sealed = KEY.seal(plaintext)
    with pytest.raises(DataDamaged):
        KEY.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))])
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataDamaged):
        KEY.open(sealed)


@given(st.binary(max_size=500), st.integers(1, 100))
def test_a_message_that_comes_in_pieces_is_opened(plaintext, cut):
    sealed = KEY.seal(plaintext)
    assert b"".join(KEY.open_pieces(sealed[at : at + cut] for at in range(0, len(sealed), cut))) == plaintext


@given(st.binary(max_size=200), st.data())
def test_an_altered_or_cut_message_in_pieces_is_damage_at_its_end(plaintext, data):
    sealed = KEY.seal(plaintext)
    cut = data.draw(st.integers(1, 100))
    for damaged in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], bytes(16) + sealed[16:], _flipped(sealed, data)):
        with pytest.raises(DataDamaged):
            list(KEY.open_pieces(damaged[at : at + cut] for at in range(0, len(damaged), cut)))


def _flipped(sealed, data):
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    altered = bytearray(sealed)
    altered[bit // 8] ^= 1 << bit % 8
    return altered


def test_another_key_opens_nothing():
    with pytest.raises(DataDamaged):
        SealingKey(KeyMaterial.generate()).open(KEY.seal(b"text"))


def test_no_nonce_is_used_twice_not_even_after_a_fork():
    key = SealingKey(KeyMaterial.generate())
    # Not a multiple of the stock, so that the fork meets one that is begun.
    nonces = [bytes(key.seal(b"")[:16]) for _ in range(3 * NONCES_AT_ONCE - 50)]
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, b"".join(bytes(key.seal(b"")[:16]) for _ in range(10)))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        raw = pipe.read()
    os.wait()
    nonces += [raw[at : at + 16] for at in range(0, len(raw), 16)]
    nonces += [bytes(key.seal(b"")[:16]) for _ in range(10)]
    assert len(set(nonces)) == len(nonces) == 3 * NONCES_AT_ONCE - 30
