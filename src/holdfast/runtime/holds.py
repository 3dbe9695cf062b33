"""Why a message that is to be sent has not left yet, in words."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.base.clock import iso
from holdfast.delivery.message import OPEN
from holdfast.delivery.rate_limits import DAILY_LIMIT, NEW_CHAT_QUOTA, REACH_OUT_LOCK
from holdfast.delivery.stores import Message
from holdfast.runtime.account_limits import Restrictions
from holdfast.runtime.view import View
from holdfast.session.state import State

_OF_MESSAGES = {
    REACH_OUT_LOCK: "WhatsApp accepts no messages to new contacts from this number for now; known chats go on",
    NEW_CHAT_QUOTA: "WhatsApp's quota of new chats is used up for this number; known chats go on",
    DAILY_LIMIT: "this number has written to as many new contacts as are allowed in 24 hours; known chats go on",
}
_OF_STATES = {
    State.UNPAIRED: "no phone is linked: scan a QR code",
    State.PAIRING: "no phone is linked yet: scan the QR code",
    State.CONNECTING: "the session is connecting",
    State.RECONNECTING: "the session is reconnecting",
    State.PAUSED: "the session is paused",
    State.LOGGED_OUT: "the device was logged out: scan a QR code",
    State.STOPPED: "the session is stopped: start it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldNotice:
    """What a message waits for."""

    code: str
    """Stable: that of a hold, or the session's state."""
    sentence: str
    until: str | None
    """Known end of it, ISO 8601."""


def hold_notice(message: Message, view: View | None, restrictions: Restrictions | None = None) -> HoldNotice | None:
    """What holds a message back: WhatsApp, a limit, or the state of its session; None when nothing does.

    `view` is the session as it is now, `restrictions` are its account's; None where they are not known.
    """
    if message.state not in OPEN:
        return None
    if message.held_code in _OF_MESSAGES:
        return HoldNotice(code=message.held_code, sentence=_OF_MESSAGES[message.held_code], until=message.held_until)
    if message.is_to_new_contact and restrictions is not None and restrictions.hold_code is not None:
        code = restrictions.hold_code
        return HoldNotice(code=code, sentence=_OF_MESSAGES[code], until=restrictions.hold_until)
    if view is None or view.record.state not in _OF_STATES:
        return None
    state, reason = view.record.state, view.session.told_reason
    sentence = _OF_STATES[state] if reason is None else f"{_OF_STATES[state]} – {reason.sentence}"
    return HoldNotice(code=state.value, sentence=sentence, until=iso(view.next_attempt_at))
