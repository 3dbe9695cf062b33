"""The interface through which faults change what the server does. Without faults nothing is changed: `NoFaults`.

A fault is a protocol behaviour: it may drop, delay, duplicate or refuse what the server would send. It never depends on
which program the client is.
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
    """Tag of the child of the `stream:error`."""
    how: Literal["rst", "fin", "close"] | None = None
    """The way in which the socket is closed, without a `stream:error`."""
    close_code: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageVerdict:
    """The effect on a message stanza that arrived."""

    accepted: bool = True
    """False: it is dropped, as if it had never arrived."""
    relayed: bool = True
    error: str | None = None
    """The ack carries this error."""
    acks: int = 1
    """How many times the ack is sent; 0: it is withheld."""
    ack_delay_s: float = 0.0
    ack_jitter_s: float = 0.0
    """Upper bound of an additional random delay, so that acks are sent out of order."""
    ends_link: LinkEnd | None = None
    """How the link ends instead of an ack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryVerdict:
    """The effect on a message on its way to a device."""

    damaged: bool = False
    """It arrives damaged, so that it can't be decrypted."""
    repeated: bool = False
    """It arrives twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyVerdict:
    """The effect on a valid assertion."""

    refused: bool = False
    """It is answered with an error."""
    silent: bool = False
    """It is accepted, and nothing follows."""
    delay_s: float = 0.0
    """Additional delay of what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailure:
    """The `failure` node that answers a login."""

    reason: str
    attrs: dict[str, str]


MESSAGE_ACCEPTED = MessageVerdict()
MESSAGE_DELIVERED = DeliveryVerdict()
PASSKEY_ACCEPTED = PasskeyVerdict()


QueryVerdict = Literal["answered", "unanswered", "lost"]
"""What happens to a query without an error: `unanswered`: it is carried out but not answered; `lost`: neither."""


class FaultHooks(Protocol):
    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        """Called once for every message stanza from a linked device.

        `chat`: the recipient's number, or the address of a group. `known`: its account exchanged messages with the
        recipient before, or the recipient is a group.
        """

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        """The error (code, text) that answers a query from a logged-in device; None: the query is answered normally."""

    def on_answer(self, address: Address, *, xmlns: str, tag: str, now: float) -> QueryVerdict:
        """Called for every query of a logged-in device that gets no error by `on_query`."""

    def on_delivery(self, to: Address, *, is_resend: bool, now: float) -> DeliveryVerdict:
        """Called for every message to a device or phone. `is_resend`: it was encrypted again, after a retry receipt."""

    def ack_withheld(self, sender: Address, link: int, ack: Node) -> None:
        """Called with an ack that a verdict with `acks=0` withheld."""

    def drops_receipt(self, to: str, *, now: float) -> bool:
        """Whether a receipt for messages of account `to` is dropped."""

    def receipt_delay(self, to: str, *, now: float) -> float:
        """The additional delay in seconds of a receipt for messages of account `to`."""

    def reach_out_lock(self, number: str, *, now: float) -> float | None:
        """Until when the account may not write to new contacts; None: it may."""

    def new_chat_quota(self, number: str, *, now: float) -> NewChatQuota | None:
        """The account's quota of new chats; None: it has no limit."""

    def on_login(self, address: Address, *, now: float) -> LoginFailure | None:
        """Called at every login."""

    @property
    def minimum_revision(self) -> int:
        """Clients of an older revision are refused with 405."""

    @property
    def allows_resuming(self) -> bool:
        """Whether a client that remembers the server's key may resume; otherwise it gets the full handshake."""

    def on_passkey(self, number: str, *, now: float) -> PasskeyVerdict:
        """Called for every valid assertion of an account's passkey."""


class NoFaults:
    minimum_revision = 0
    allows_resuming = True

    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        return MESSAGE_ACCEPTED

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        return None

    def on_answer(self, address: Address, *, xmlns: str, tag: str, now: float) -> QueryVerdict:
        return "answered"

    def on_delivery(self, to: Address, *, is_resend: bool, now: float) -> DeliveryVerdict:
        return MESSAGE_DELIVERED

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
        return PASSKEY_ACCEPTED
