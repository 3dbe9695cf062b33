"""Computes the public key of a private X25519 key (RFC 7748, section 5).

It does not run in constant time, because it runs once for each imported key on the operator's own machine.
"""

from __future__ import annotations

_PRIME = 2**255 - 19
_A24 = 121_665
_BASE = 9


def public_key(private: bytes) -> bytes:
    """The public key; both keys have 32 bytes."""
    scalar = int.from_bytes(private, "little") & ~7 & ((1 << 254) - 1) | (1 << 254)
    return _multiply(scalar, _BASE).to_bytes(32, "little")


def _multiply(scalar: int, u: int) -> int:
    """The Montgomery ladder, with the variable names of the RFC."""
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for bit_index in reversed(range(255)):
        bit = scalar >> bit_index & 1
        if swap != bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % _PRIME, b * b % _PRIME, d * a % _PRIME, c * b % _PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _PRIME, u * (da - cb) ** 2 % _PRIME
        x2, z2 = aa * bb % _PRIME, e * (aa + _A24 * e) % _PRIME
    if swap:
        x2, z2 = x3, z3
    return x2 * pow(z2, _PRIME - 2, _PRIME) % _PRIME
