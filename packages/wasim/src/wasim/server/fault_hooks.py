"""The port through which faults change what the server does. Without faults nothing is changed: `NoFaults`.

A fault is protocol behaviour only: it may swallow, delay, double or refuse what the server would say, and never looks
at who the client is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from wasim.server.quota import NewChatQuota
from wasim.server.state import Address
from wasim.wire.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnd:
    """How the server ends the link on which a message arrived."""

    code: str | None = None
    attrs: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    """Child tag of the `stream:error`."""
    how: Literal["rst", "fin", "close"] | None = None
    """The socket is closed this way, without a `stream:error`."""
    close_code: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageVerdict:
    """What becomes of a message stanza that arrived."""

    taken: bool = True
    """False: it vanishes, as if it had never come."""
    relayed: bool = True
    error: str | None = None
    """The ack carries this error."""
    acks: int = 1
    """How often the ack is sent; 0: it is withheld."""
    ack_delay_s: float = 0.0
    ack_scatter_s: float = 0.0
    """And by chance up to so much later, so that acks overtake each other."""
    ends_link: LinkEnd | None = None
    """The link ends instead of an ack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryVerdict:
    """What becomes of a message on its way to a device."""

    damaged: bool = False
    """It arrives so that it can't be opened."""
    repeated: bool = False
    """It arrives twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyVerdict:
    """What becomes of a good assertion."""

    refused: bool = False
    """It is answered with an error."""
    silent: bool = False
    """It is accepted, and nothing follows."""
    delay_s: float = 0.0
    """What follows comes so much later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailure:
    """The `failure` node that answers a login."""

    reason: str
    attrs: dict[str, str]


PLAIN = MessageVerdict()
DELIVERED = DeliveryVerdict()
ACCEPTED = PasskeyVerdict()


class FaultHooks(Protocol):
    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        """Asked once for every message stanza from a linked device.

        `chat`: the recipient's number, or the address of a group. `known`: its account exchanged messages with the
        recipient before, or the recipient is a group.
        """

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        """The error (code, text) that answers a query from a logged-in device; None: it is answered properly."""

    def on_delivery(self, to: Address, *, again: bool, now: float) -> DeliveryVerdict:
        """Asked for every message to a device or phone. `again`: it was encrypted anew, after a retry receipt."""

    def ack_withheld(self, sender: Address, link: int, ack: Node) -> None:
        """Told of an ack that a verdict with `acks=0` kept back."""

    def drops_receipt(self, to: str, *, now: float) -> bool:
        """Whether a receipt for messages of account `to` is swallowed."""

    def receipt_delay(self, to: str, *, now: float) -> float:
        """How many seconds a receipt for messages of account `to` takes longer."""

    def reach_out_lock(self, number: str, *, now: float) -> float | None:
        """Until when the account may write to nobody new; None: it may."""

    def new_chat_quota(self, number: str, *, now: float) -> NewChatQuota | None:
        """The account's quota of new chats; None: it has no limit."""

    def on_login(self, address: Address, *, now: float) -> LoginFailure | None:
        """Asked at every login."""

    @property
    def minimum_revision(self) -> int:
        """Clients of an older revision are refused with 405."""

    def on_passkey(self, number: str, *, now: float) -> PasskeyVerdict:
        """Asked for every good assertion of an account's passkey."""


class NoFaults:
    minimum_revision = 0

    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        return PLAIN

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        return None

    def on_delivery(self, to: Address, *, again: bool, now: float) -> DeliveryVerdict:
        return DELIVERED

    def ack_withheld(self, sender: Address, link: int, ack: Node) -> None:
        raise AssertionError("nothing is withheld without a fault")

    def drops_receipt(self, to: str, *, now: float) -> bool:
        return False

    def receipt_delay(self, to: str, *, now: float) -> float:
        return 0.0

    def reach_out_lock(self, number: str, *, now: float) -> float | None:
        return None

    def new_chat_quota(self, number: str, *, now: float) -> NewChatQuota | None:
        return None

    def on_login(self, address: Address, *, now: float) -> LoginFailure | None:
        return None

    def on_passkey(self, number: str, *, now: float) -> PasskeyVerdict:
        return ACCEPTED
