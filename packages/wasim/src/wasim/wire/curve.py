"""X25519 key pairs, key agreement, and XEdDSA signatures in libsignal's form. Randomness is passed in as bytes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from xeddsa.bindings import XEdDSAException, ed25519_verify, priv_force_sign
from xeddsa.bindings import curve25519_pub_to_ed25519_pub as to_ed25519
from xeddsa.bindings import ed25519_priv_sign as ed25519_sign

from wasim.wire.errors import WireError

KEY_BYTES = 32
NONCE_BYTES = 64
SIGNATURE_BYTES = 64
DJB_TYPE = b"\x05"
"""Signal's type byte in front of a public key."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    private: bytes
    public: bytes

    @classmethod
    def from_private(cls, private: bytes) -> KeyPair:
        """The key pair of any 32 random bytes."""
        key = X25519PrivateKey.from_private_bytes(private)
        return cls(private, key.public_key().public_bytes_raw())

    def agree(self, public: bytes) -> bytes:
        """Diffie-Hellman. Raises WireError for an invalid public key."""
        try:
            peer = X25519PublicKey.from_public_bytes(public)
            return X25519PrivateKey.from_private_bytes(self.private).exchange(peer)
        except ValueError as error:
            raise WireError(f"not a Curve25519 public key: {error}") from error

    def sign(self, message: bytes, *, nonce: bytes) -> bytes:
        """An XEdDSA signature as specified (sign bit 0), which every verifier accepts."""
        return bytes(ed25519_sign(priv_force_sign(self.private, False), message, nonce))


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is a signature of `message` by `public`.

    libsignal stores the Edwards sign bit in bit 7 of the last byte; without it half of all good signatures would fail.
    """
    if len(signature) != SIGNATURE_BYTES or len(public) != KEY_BYTES:
        return False
    sign_bit = bool(signature[-1] & 0x80)
    plain = signature[:-1] + bytes((signature[-1] & 0x7F,))
    try:
        return bool(ed25519_verify(plain, to_ed25519(public, sign_bit), message))
    except XEdDSAException:
        return False


def hkdf(secret: bytes, *, salt: bytes, info: bytes = b"", length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    key = hmac.digest(salt, secret, hashlib.sha256)
    out, block, n = b"", b"", 0
    while len(out) < length:
        n += 1
        block = hmac.digest(key, block + info + bytes((n,)), hashlib.sha256)
        out += block
    return out[:length]


def typed(public: bytes) -> bytes:
    """The key with Signal's type byte in front."""
    return DJB_TYPE + public


def untyped(public: bytes) -> bytes:
    """The key without Signal's type byte, if it has one. Raises WireError for any other length."""
    if len(public) == KEY_BYTES + 1 and public[:1] == DJB_TYPE:
        return public[1:]
    if len(public) == KEY_BYTES:
        return public
    raise WireError(f"a public key has 32 bytes, or 33 that begin with 5; this has {len(public)}")
