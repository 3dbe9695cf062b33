"""The states of a message, and the transitions that status updates cause: forward only.

`sent` means that WhatsApp acked the message, not that it was written to a socket. A message whose link ended before the
ack stays `sending`: its outcome is unknown until the same id, sent again, is acked or a receipt arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from holdfast.delivery.rate_limits import NEW_CHAT_QUOTA, REACH_OUT_LOCK


class MessageState(StrEnum):
    QUEUED = "queued"
    """Committed; no engine has got it yet."""
    SENDING = "sending"
    """Given to an engine at least once; the outcome is unknown."""
    SENT = "sent"
    """WhatsApp's server acked it."""
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class StatusUpdate(StrEnum):
    """A status update of a message."""

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

_S, _N = MessageState, StatusUpdate
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
    _S.CANCELLED: {_N.ACKED: _S.SENT, _N.DELIVERED: _S.DELIVERED, _N.READ: _S.READ, _N.PLAYED: _S.PLAYED},
})  # fmt: skip
"""Every transition of a message. An update that is not listed for a state changes nothing, because it is outdated.

A receipt can still arrive for a message that failed, or was cancelled by force while in flight.
"""


def advance(state: MessageState, update: StatusUpdate) -> MessageState:
    """The state after `update`; the same state when the update adds nothing."""
    return MOVES[state].get(update, state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Send it again under the same id, `after_s` seconds from now at the earliest."""

    after_s: float
    message: str
    """Why the attempt failed, for people."""
    is_general: bool = False
    """The cause is not this message: WhatsApp limits the session, or has a problem itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The message fails. `sentence` is the reason for people."""

    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBack:
    """WhatsApp refuses messages to new contacts for a time: this message and others like it wait until the lock
    ends."""

    code: str
    """`REACH_OUT_LOCK` or `NEW_CHAT_QUOTA`."""
    message: str


AckDecision = Retry | GiveUp | HoldBack

ENGINE_ATTEMPTS = 5
"""Failures of the engine in a row after which the message fails."""
RETRY_FOR_DAYS = 7
"""A message without an expiry fails when it has been refused for this long."""
_LONGEST_PAUSE_S = 600
_DEFINITE = {
    "400": "WhatsApp could not read the message",
    "403": "WhatsApp does not allow this account to write to this chat",
    "404": "WhatsApp does not know this chat",
    "405": "WhatsApp does not allow this kind of message here",
    "406": "WhatsApp does not accept this message",
    "479": "WhatsApp does not accept the message for the recipient's devices",
    "487": "WhatsApp could not parse the message",
    "488": "WhatsApp does not know this kind of stanza",
    "489": "WhatsApp does not know this class of stanza",
    "490": "WhatsApp does not know this type of stanza",
    "491": "WhatsApp could not read the message's content",
    "495": "the message lacks a secret that WhatsApp requires",
}
"""Ack errors that settle one message (source: whatsmeow and Baileys, nack reasons). Any other code is retried."""
_PASSING = {
    "408": "WhatsApp did not answer in time",
    "429": "WhatsApp limits the rate of messages",
    "500": "WhatsApp reports an error of its own",
    "503": "WhatsApp is busy",
}
_HOLDS = {
    "463": HoldBack(code=REACH_OUT_LOCK, message="WhatsApp accepts no messages to new contacts for now"),
    "475": HoldBack(code=NEW_CHAT_QUOTA, message="WhatsApp's quota of new chats is used up"),
}
_REFUSALS = {
    "not-on-whatsapp": "this number is not on WhatsApp",
    "no-audience": "nobody in the audience of this status is on WhatsApp",
    "no-such-group": "there is no such group, or this number is not in it",
    "bad-content": "the engine can't make a WhatsApp message of this content",
}
FILE_NOT_WRITTEN = "file-not-written"
_TEMPORARY = {
    "rate-limited": "WhatsApp limits the session's requests",
    "server-busy": "WhatsApp is busy",
    FILE_NOT_WRITTEN: "the message's file could not be written to Holdfast's disk",
}


def judge_ack_error(code: str, *, attempts: int) -> AckDecision:
    """Decide about a message that got an ack with this error `attempts` times in a row.

    Only a definite refusal settles a message: everything else, unknown codes included, is retried.
    """
    if code in _HOLDS:
        return _HOLDS[code]
    if code in _DEFINITE and not (code == "479" and attempts < 2):  # 479: once more, with fresh device sessions
        return GiveUp(sentence=f"{_DEFINITE[code]} (ack error {code})")
    reason = _PASSING.get(code) or _DEFINITE.get(code) or "WhatsApp did not accept the message"
    return Retry(after_s=_pause_s(attempts), message=f"{reason} (ack error {code})", is_general=code not in _DEFINITE)


def judge_refusal(code: str, detail: str, *, attempts: int, retry_after_s: float | None = None) -> AckDecision:
    """Decide about a message that the engine could not encode, `attempts` times in a row.

    Nothing was sent, so a retry is safe. `retry_after_s` is the engine's own pause, where it has one.
    """
    if code in _REFUSALS:
        says_more = code == "bad-content" and detail  # the others' detail repeats the sentence
        return GiveUp(sentence=_REFUSALS[code] + (f": {detail}" if says_more else ""))
    if code == "engine-error" and attempts >= ENGINE_ATTEMPTS:
        return GiveUp(sentence=f"the engine failed {attempts} times to make the message: {detail}")
    reason = _TEMPORARY.get(code, f"the engine could not send the message ({code})")
    after_s = _pause_s(attempts - 1) if retry_after_s is None else min(retry_after_s, _LONGEST_PAUSE_S)
    return Retry(after_s=after_s, message=f"{reason}: {detail}" if detail else reason)


def _pause_s(doublings: int) -> float:
    """1, 2, 4 … seconds; the exponent is bounded, because retries may continue for days."""
    return min(2.0 ** min(doublings, 10), _LONGEST_PAUSE_S)


# Messages that end links.

CRASH_POINTS, CLOSE_POINTS = 2, 1
"""Points added to the crash score of a message in flight: when an engine host died or WhatsApp reported a stream error,
and when the link was closed without a reason soon after the frame left, which also happens on bad networks."""
_SUSPECT_FROM, _CONDEMNED_FROM = 4, 10


def is_suspect(crash_score: int) -> bool:
    """Whether this message may be the cause of ended links. It is then sent alone, when nothing else is due."""
    return crash_score >= _SUSPECT_FROM


def is_condemned(crash_score: int) -> bool:
    """Whether so many links or hosts ended while this message was in flight, finally alone, that it must fail."""
    return crash_score >= _CONDEMNED_FROM
