"""Linking a phone: the QR code and the pairing code, for callers who wait for them."""

from __future__ import annotations

from holdfast.base.errors import Conflict, Fault, HoldfastError
from holdfast.delivery.recipient import phone_number
from holdfast.runtime.actor import SessionActor
from holdfast.runtime.gateway import ask
from holdfast.runtime.view import Qr, View
from holdfast.session import events
from holdfast.session.state import State

_REFUSALS = {
    400: ("for this number", "check that it is the number of a WhatsApp account, with its country code"),
    429: ("after too many requests", "wait for an hour before you ask for another one, or scan a QR code"),
}
"""By code: why WhatsApp refuses a pairing code, and what to do."""


class PairingCodeRefused(HoldfastError):
    """WhatsApp refused to issue a pairing code for this number."""

    code = "pairing-code-refused"
    fault = Fault.WHATSAPP

    def __init__(self, refusal: int, text: str | None) -> None:
        """`refusal` and `text`: what WhatsApp answered."""
        cause, cure = _REFUSALS.get(refusal, ("for an unknown reason", "try again in a few minutes, or scan a QR code"))
        response = f"{refusal} {text}" if text else str(refusal)
        super().__init__(f"WhatsApp refused a pairing code {cause} ({response}): {cure}", field="phoneNumber")


async def qr_code(actor: SessionActor, *, within_s: float) -> Qr:
    """The QR code to be scanned; asks for one when none is shown. Raises `Conflict` when there can be none."""
    await ask(actor, events.PairAsked())
    code = await actor.wait_for_qr(within_s=within_s)
    if code is None:
        raise Conflict(_why_no_qr(actor.view))
    return code


async def pairing_code(actor: SessionActor, phone: str, *, within_s: float) -> str:
    """An eight-character code to be typed on the phone with this number.

    Raises `BadInput` for a number that is none, `Conflict`, and `PairingCodeRefused`.
    """
    digits = phone_number(phone, field="phoneNumber")
    await qr_code(actor, within_s=within_s)
    shown = await actor.pairing_code(digits, within_s=within_s)
    if shown.refused is not None:
        raise PairingCodeRefused(shown.refused, shown.error)
    if shown.code is None:
        raise Conflict(f"WhatsApp gave no pairing code: {shown.error}")
    return shown.code


def _why_no_qr(view: View) -> str:
    state = view.record.state
    if state in {State.CONNECTED, State.CONNECTING, State.RECONNECTING}:
        return f"there is no QR code: a phone is linked already, the session is {state}"
    if view.passkey is not None:
        return "there is no QR code: the owner of the account has to sign with a passkey first; see GET …/passkey"
    return f"WhatsApp showed no QR code in time: the session is {state}; try again"
