"""Why a session can't do now what it was asked."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session.state import State

_REFUSALS = {
    400: ("for this number", "check that it is the number of a WhatsApp account, with its country code"),
    429: ("after too many requests", "wait for an hour before you ask for another one, or scan a QR code"),
}
"""By code: why WhatsApp refuses a pairing code, and what helps."""


class NotConnected(HoldfastError):
    """What was asked needs a connection to WhatsApp."""

    code = "not-connected"
    fault = Fault.HOLDFAST

    def __init__(self, company: str, state: State) -> None:
        super().__init__(f"the session of company {company} is {state}: this needs its connection to WhatsApp")


class PairingCodeRefused(HoldfastError):
    """WhatsApp gives no pairing code for this number now."""

    code = "pairing-code-refused"
    fault = Fault.WHATSAPP

    def __init__(self, refusal: int, text: str | None) -> None:
        """`refusal` and `text`: what WhatsApp answered."""
        cause, cure = _REFUSALS.get(refusal, ("for an unknown reason", "try again in a few minutes, or scan a QR code"))
        said = f"{refusal} {text}" if text else str(refusal)
        super().__init__(f"WhatsApp refused a pairing code {cause} ({said}): {cure}", field="phoneNumber")


class SessionRestarting(HoldfastError):
    """Nothing runs the session just now: Holdfast failed inside it, is stopping, or is changing what it has stored."""

    code = "session-restarting"
    fault = Fault.HOLDFAST

    def __init__(self, company: str) -> None:
        super().__init__(f"the session of company {company} is being restarted: try again in a few seconds")
