"""The certificate chain in a server's handshake: root key → intermediate (issuer serial 0) → leaf."""

from __future__ import annotations

from wasim.wire.curve import KeyPair
from wasim.wire.messages import CertChain, CertificateDetails, NoiseCertificate
from wasim.wire.protobuf import encode

ROOT_SERIAL, INTERMEDIATE_SERIAL, LEAF_SERIAL = 0, 1, 2
_YEARS_10_S = 10 * 365 * 24 * 3600


def make_chain(
    *, root: KeyPair, intermediate: KeyPair, leaf_public: bytes, now_s: int, nonces: tuple[bytes, bytes]
) -> bytes:
    """The chain for the static key `leaf_public`, valid from a day before `now_s` for ten years."""
    leaf = _certificate(LEAF_SERIAL, INTERMEDIATE_SERIAL, leaf_public, intermediate, now_s, nonces[0])
    middle = _certificate(INTERMEDIATE_SERIAL, ROOT_SERIAL, intermediate.public, root, now_s, nonces[1])
    return encode(CertChain(leaf=leaf, intermediate=middle))


def _certificate(
    serial: int, issuer_serial: int, key: bytes, issuer: KeyPair, now_s: int, nonce: bytes
) -> NoiseCertificate:
    details = encode(
        CertificateDetails(
            serial=serial,
            issuer_serial=issuer_serial,
            key=key,
            not_before=now_s - 24 * 3600,
            not_after=now_s + _YEARS_10_S,
        )
    )
    return NoiseCertificate(details=details, signature=issuer.sign(details, nonce=nonce))
