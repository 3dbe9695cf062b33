"""Randomness as an argument: the caller passes in a source of random bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable

from wasim.wire.curve import KEY_BYTES, NONCE_BYTES, KeyPair

Entropy = Callable[[int], bytes]
"""Returns that many random bytes."""


def new_key(entropy: Entropy) -> KeyPair:
    return KeyPair.from_private(entropy(KEY_BYTES))


def sign(key: KeyPair, message: bytes, entropy: Entropy) -> bytes:
    return key.sign(message, nonce=entropy(NONCE_BYTES))


def digits(entropy: Entropy, count: int) -> str:
    """A random number of `count` digits that does not begin with 0."""
    return str(10 ** (count - 1) + int.from_bytes(entropy(16), "big") % (9 * 10 ** (count - 1)))


def new_id(entropy: Entropy) -> str:
    """The id of a stanza."""
    return token_urlsafe(entropy, 9)


def token_urlsafe(entropy: Entropy, size: int) -> str:
    """`size` random bytes as URL-safe text."""
    return base64.urlsafe_b64encode(entropy(size)).decode().rstrip("=")
