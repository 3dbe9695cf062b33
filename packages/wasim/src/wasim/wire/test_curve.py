"""Keys and signatures agree with the standards and with libsignal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasim.wire.curve import KeyPair, hkdf, typed, untyped, verify
from wasim.wire.errors import WireError

keys = st.binary(min_size=32, max_size=32).map(KeyPair.from_private)

# Signed by libsignal (npm, through Baileys 7.0.0-rc14): "a message". In the first the Edwards sign bit is set.
SIGNED = [
    (
        "12aacdbe604f65f7d06fc16164e4685168dde51d0d9e92c0b2bdbc223afd5e40",
        (
            "8476c8e459047895fcd75ab84e1ab4c1eae2f0439b476fca19eef06a88434cad"
            "af6f03458c6fb6469f999e2b58da0d413b3fc5afc57d390bead57716b9776e8b"
        ),
    ),
    (
        "15c3d2760c56c53e6cd3e399b20df5edf2241793d6699d8451f0cddaffce0f19",
        (
            "b5e73271276c920d13fe6b29af17875ad74dafff3bdf87e73f8fb77b378639de"
            "c3aaa18e09bf141ba0eba52d765273ffb7c1974d9faa6e1274f14cc8b2469f0e"
        ),
    ),
]


@pytest.mark.parametrize(("public", "signature"), SIGNED)
def test_signatures_of_libsignal_are_valid(public: str, signature: str) -> None:
    """Both values of the sign bit are accepted; with another message, key or byte the signature is invalid."""
    key, signed = bytes.fromhex(public), bytes.fromhex(signature)
    assert verify(key, b"a message", signed)
    assert not verify(key, b"a massage", signed)
    assert not verify(bytes.fromhex(SIGNED[0][0] if public == SIGNED[1][0] else SIGNED[1][0]), b"a message", signed)
    assert not verify(key, b"a message", signed[:-1] + bytes([signed[-1] ^ 0x80]))


@settings(max_examples=30)
@given(keys, st.binary(max_size=100), st.binary(min_size=64, max_size=64))
def test_signatures_have_the_form_of_the_specification(key: KeyPair, message: bytes, nonce: bytes) -> None:
    """Signatures made here verify, with the sign bit clear, so that strict verifiers accept them."""
    signature = key.sign(message, nonce=nonce)
    assert verify(key.public, message, signature)
    assert signature[-1] & 0x80 == 0


@pytest.mark.parametrize(
    ("public", "signature"),
    [(b"\x01" * 32, b""), (b"", b"\x01" * 64), (b"\xff" * 32, b"\x01" * 64)],
)
def test_any_bytes_are_an_invalid_signature(public: bytes, signature: bytes) -> None:
    """Bytes of any length and value return False and raise nothing."""
    assert not verify(public, b"a message", signature)


@given(keys, keys)
def test_both_sides_agree(one: KeyPair, other: KeyPair) -> None:
    """Diffie-Hellman gives both sides the same secret."""
    assert one.agree(other.public) == other.agree(one.public)


def test_the_all_zero_key_is_refused() -> None:
    """Agreement with it raises WireError."""
    with pytest.raises(WireError, match="Curve25519"):
        KeyPair.from_private(b"\x01" * 32).agree(bytes(32))


def test_hkdf_is_rfc_5869() -> None:
    """Test case 1 of RFC 5869."""
    made = hkdf(b"\x0b" * 22, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)), length=42)
    assert made.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def test_the_type_byte_is_added_and_removed() -> None:
    """It is removed only if present; a key of any other length is refused."""
    key = bytes(range(32))
    assert untyped(typed(key)) == key
    assert untyped(key) == key
    with pytest.raises(WireError, match="32 bytes"):
        untyped(b"\x06" + key)
