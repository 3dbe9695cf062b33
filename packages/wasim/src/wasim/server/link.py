"""One connection: handshake, then encrypted nodes in both directions. It handles bytes and phases, not accounts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from wasim.server.codes import CodeRequest
from wasim.server.passkeys import Ceremony
from wasim.server.state import Address
from wasim.wire import nodes
from wasim.wire.errors import WireError
from wasim.wire.framing import FrameReader, frame
from wasim.wire.messages import ClientPayload, PairingData
from wasim.wire.nodes import Node
from wasim.wire.noise import CompletedHandshake, Responder, Transport
from wasim.wire.protobuf import decode


class Phase(Enum):
    HELLO = "hello"
    FINISH = "finish"
    PAIRING = "pairing"
    OPEN = "open"
    CLOSING = "closing"
    """The client was asked to disconnect: all further data from it is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeDone:
    """The handshake is done; the client's payload says whether it registers or logs in."""

    peer: bytes
    payload: ClientPayload


@dataclass(slots=True, kw_only=True)
class PairingOffer:
    """The phone's signature for a device, which the device still has to sign."""

    address: Address
    iq_id: str
    details: bytes
    account_key: bytes
    account_signature: bytes


@dataclass(slots=True, kw_only=True)
class Pairing:
    """A device that is waiting to be linked."""

    noise_key: bytes
    data: PairingData
    refs: list[str]
    offer: PairingOffer | None = None
    code: CodeRequest | None = None
    passkey: Ceremony | None = None
    """The progress of the passkey ceremony, if the account requires a passkey."""


@dataclass(slots=True, kw_only=True)
class Link:
    id: int
    responder: Responder
    since: float
    phase: Phase = Phase.HELLO
    address: Address | None = None
    pairing: Pairing | None = None
    passive: bool = True
    """Until the client sends `active`, waiting stanzas are not delivered."""
    delivered: int = 0
    """The number of the last waiting stanza that was sent on this link."""
    available: bool = False
    subscriptions: set[str] = field(default_factory=set)
    """Accounts whose presence the client subscribed to."""
    frames_in: int = 0
    frames_out: int = 0
    outgoing: list[bytes] = field(default_factory=list)
    reader: FrameReader = field(default_factory=lambda: FrameReader(expects_intro=True))
    transport: Transport | None = None

    def receive(self, data: bytes) -> list[HandshakeDone | Node]:
        """What these bytes contain. Raises WireError when they violate the protocol."""
        received = (self._read(payload) for payload in self.reader.feed(data))
        return [item for item in received if item is not None]

    def _read(self, payload: bytes) -> HandshakeDone | Node | None:
        self.frames_in += 1
        match self.phase:
            case Phase.HELLO:
                answer = self.responder.answer_hello(payload)
                self._write(answer.frame)
                self.phase = Phase.FINISH
                return None if answer.finished is None else self._finish_handshake(answer.finished)
            case Phase.FINISH:
                return self._finish_handshake(self.responder.finish(payload))
            case Phase.PAIRING | Phase.OPEN | Phase.CLOSING:
                if self.transport is None:
                    raise WireError("a node before the handshake")
                return nodes.decode(self.transport.decrypt(payload))

    def _finish_handshake(self, done: CompletedHandshake) -> HandshakeDone:
        self.transport = done.transport
        self.phase = Phase.PAIRING
        return HandshakeDone(peer=done.peer, payload=decode(ClientPayload, done.payload))

    def send(self, node: Node) -> None:
        self.send_encoded(nodes.encode(node))

    def send_encoded(self, data: bytes) -> None:
        assert self.transport is not None, "nodes are sent after the handshake"
        self._write(self.transport.encrypt(data))

    def _write(self, payload: bytes) -> None:
        self.frames_out += 1
        self.outgoing.append(frame(payload))
