"""What a message's state means, and how news moves it: forward only.

`sent` is WhatsApp's own ack, never the hope that a write arrived. A message whose link died before the ack stays
`sending`: its outcome is unknown until the same id, sent again, is acked or shown by a receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class MessageState(StrEnum):
    QUEUED = "queued"
    """Committed; nothing has been given to an engine."""
    SENDING = "sending"
    """Given to an engine at least once; the outcome is not known."""
    SENT = "sent"
    """WhatsApp's server acked it."""
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class News(StrEnum):
    """What can be learned about a message."""

    HANDED_OVER = "handed over"
    ACKED = "acked"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    GIVEN_UP = "given up"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN = frozenset({MessageState.QUEUED, MessageState.SENDING})
"""States in which a message is still to be sent."""

_S, _N = MessageState, News
_UNSETTLED = {
    _N.ACKED: _S.SENT,
    _N.DELIVERED: _S.DELIVERED,
    _N.READ: _S.READ,
    _N.PLAYED: _S.PLAYED,
    _N.GIVEN_UP: _S.FAILED,
}

MOVES = MappingProxyType({
    _S.QUEUED: {_N.HANDED_OVER: _S.SENDING, _N.EXPIRED: _S.EXPIRED, _N.CANCELLED: _S.CANCELLED, **_UNSETTLED},
    _S.SENDING: _UNSETTLED,
    _S.SENT: {_N.DELIVERED: _S.DELIVERED, _N.READ: _S.READ, _N.PLAYED: _S.PLAYED},
    _S.DELIVERED: {_N.READ: _S.READ, _N.PLAYED: _S.PLAYED},
    _S.READ: {_N.PLAYED: _S.PLAYED},
    _S.PLAYED: {},
    _S.FAILED: {_N.ACKED: _S.SENT, _N.DELIVERED: _S.DELIVERED, _N.READ: _S.READ, _N.PLAYED: _S.PLAYED},
    _S.EXPIRED: {},
    _S.CANCELLED: {},
})  # fmt: skip
"""The whole of a message's life. News that is not listed for a state changes nothing: it is old, or says less.

A failed message can still be shown to have arrived; the truth about an arrival outranks our giving up.
"""


def advance(state: MessageState, news: News) -> MessageState:
    """The state after `news`; the same state when the news adds nothing."""
    return MOVES[state].get(news, state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Send it again under the same id, `after_s` seconds from now at the earliest."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """It will not arrive. `sentence` is for people."""

    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBack:
    """WhatsApp refused it for the time being, and would refuse its like: it waits until the lock on them ends."""


Verdict = Retry | GiveUp | HoldBack

ENGINE_TRIES = 5
_LONGEST_PAUSE_S = 60
_SERVER_BUSY = frozenset({"500", "503"})
_ACK_ERRORS = {
    "400": "WhatsApp could not read the message",
    "403": "WhatsApp does not allow this account to write to this chat",
    "475": "the recipient's phone number is not accepted by WhatsApp",
    "479": "WhatsApp does not accept the message for the recipient's devices",
}
_REFUSALS = {
    "not-on-whatsapp": "this number is not on WhatsApp",
    "no-such-group": "there is no such group, or this number is not in it",
    "bad-content": "the engine can't make a WhatsApp message of this content",
}


def judge_ack_error(code: str, *, attempts: int) -> Verdict:
    """What an ack with an error means for a message that was `attempts` times answered with an error."""
    if code in _SERVER_BUSY or (code == "479" and attempts < 2):
        return Retry(after_s=_pause_s(attempts))
    if code == "463":
        return HoldBack()
    known = _ACK_ERRORS.get(code, "WhatsApp refused the message")
    return GiveUp(sentence=f"{known} (ack error {code})")


def judge_refusal(code: str, detail: str, *, attempts: int) -> Verdict:
    """What it means that the engine made no frame of the message, `attempts` times so far.

    Nothing left, so trying again is safe.
    """
    if code in _REFUSALS:
        says_more = code == "bad-content" and detail  # the others' detail is the same sentence again
        return GiveUp(sentence=_REFUSALS[code] + (f": {detail}" if says_more else ""))
    if code == "engine-error" and attempts >= ENGINE_TRIES:
        return GiveUp(sentence=f"the engine failed {attempts} times to make the message: {detail}")
    return Retry(after_s=_pause_s(attempts - 1))


def _pause_s(doublings: int) -> float:
    """1, 2, 4 … seconds; the exponent is bounded, for a busy server may be asked for days."""
    return min(2.0 ** min(doublings, 10), _LONGEST_PAUSE_S)
