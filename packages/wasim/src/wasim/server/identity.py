"""The server's long-lived keys and certificate, which stay the same after a restart because clients may remember
them."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_key
from wasim.wire.certificates import make_chain
from wasim.wire.curve import NONCE_BYTES, KeyPair
from wasim.wire.noise import Responder

_RECORD = "server"


class ServerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    static: bytes
    """The private key for every handshake."""
    root: bytes
    """The root public key of the certificate chain, which clients that check it must trust."""
    certificate: bytes

    def responder(self, ephemeral: KeyPair, *, allows_resuming: bool) -> Responder:
        """The server's half of one handshake."""
        return Responder(
            static=KeyPair.from_private(self.static),
            ephemeral=ephemeral,
            certificate=self.certificate,
            allows_resuming=allows_resuming,
        )

    def media_auth(self, lid: str) -> str:
        """The `auth` with which an account uploads to the media host; the same after a restart."""
        proof = hmac.digest(self.static, b"media " + lid.encode(), hashlib.sha256)
        return f"{lid}.{proof.hex()}"


def restore_identity(records: list[tuple[str, str, bytes]]) -> ServerIdentity | None:
    """The identity in these records; None at the first start."""
    found = (value for kind, _, value in records if kind == _RECORD)
    value = next(found, None)
    return None if value is None else msgspec.msgpack.decode(value, type=ServerIdentity)


def make_identity(directory: Directory, entropy: Entropy, *, now: float) -> ServerIdentity:
    """Make a new identity, and record it for storage."""
    static, root, intermediate = new_key(entropy), new_key(entropy), new_key(entropy)
    chain = make_chain(
        root=root,
        intermediate=intermediate,
        leaf_public=static.public,
        now_s=int(now),
        nonces=(entropy(NONCE_BYTES), entropy(NONCE_BYTES)),
    )
    identity = ServerIdentity(static=static.private, root=root.public, certificate=chain)
    directory.put_record(_RECORD, "identity", msgspec.msgpack.encode(identity))
    return identity
