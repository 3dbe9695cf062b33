"""The client side of a link, for tests: handshake, then nodes. Real clients are other programs."""

from __future__ import annotations

from dataclasses import dataclass

from wasim.wire import nodes
from wasim.wire.curve import KeyPair, typed
from wasim.wire.framing import HEADER, FrameReader, frame
from wasim.wire.messages import ClientPayload, PairingData
from wasim.wire.nodes import Node
from wasim.wire.noise import Initiator, Transport
from wasim.wire.protobuf import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """The long-lived keys of a device."""

    noise: KeyPair
    identity: KeyPair
    signed_prekey: KeyPair
    registration_id: int
    adv_secret: bytes

    def registration(self, *, nonce: bytes) -> ClientPayload:
        """The payload of a device that requests to be linked."""
        return ClientPayload(
            passive=0,
            pull=0,
            pairing=PairingData(
                registration_id=self.registration_id.to_bytes(4, "big"),
                key_type=b"\x05",
                identity=self.identity.public,
                signed_prekey_id=(1).to_bytes(3, "big"),
                signed_prekey=self.signed_prekey.public,
                signed_prekey_signature=self.identity.sign(typed(self.signed_prekey.public), nonce=nonce),
            ),
        )


def login(number: str, device: int) -> ClientPayload:
    """The payload of a linked device."""
    return ClientPayload(username=int(number), device=device, passive=1, pull=1)


class ClientLink:
    """One connection, sans I/O: bytes in, nodes out, and the reverse."""

    def __init__(
        self,
        *,
        noise: KeyPair,
        ephemeral: KeyPair,
        payload: ClientPayload,
        intro: bytes = HEADER,
        server: bytes | None = None,
    ) -> None:
        """`server`: its static key, if a connection before this one learned it."""
        self._initiator = Initiator(static=noise, ephemeral=ephemeral, payload=encode(payload), server=server)
        self._reader = FrameReader(expects_intro=False)
        self._transport: Transport | None = None
        self._intro = intro
        self.certificate = b""
        self.server = b""
        """The server's static key, after the handshake."""

    def hello(self) -> bytes:
        """The first bytes of the connection."""
        return self._intro + frame(self._initiator.hello())

    def receive(self, data: bytes) -> tuple[list[Node], bytes]:
        """Nodes from the server, and bytes to send back for the handshake."""
        received, answer = [], b""
        for payload in self._reader.feed(data):
            if self._transport is None:
                finish, done = self._initiator.finish(payload)
                self._transport, self.certificate, self.server = done.transport, done.payload, done.peer
                answer += frame(finish) if finish is not None else b""
            else:
                received.append(nodes.decode(self._transport.decrypt(payload)))
        return received, answer

    def send(self, node: Node) -> bytes:
        """The bytes of a node. Only after the handshake."""
        assert self._transport is not None, "the handshake is not done"
        return frame(self._transport.encrypt(nodes.encode(node)))
