"""What `holdfast pair` does: lead a person from nothing to a linked, connected session."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.client import Client, Json, Refused
from holdfast.delivery.recipient import phone_number

_GLANCE_S = 1
_ON_ITS_WAY = {"connecting", "reconnecting"}


class NotPaired(HoldfastError):
    """The session is in a state that no scan gets it out of."""

    code = "not-paired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingOutput:
    """Shows a person the progress of pairing."""

    qr: Callable[[str], None]
    code: Callable[[str], None]
    trouble: Callable[[str], None]
    passkey: Callable[[str], Awaitable[str]]
    """Shows the snippet to sign with; returns the answer that was pasted, empty when it is given elsewhere."""
    compare: Callable[[str], Awaitable[bool]]
    """Shows a code; says whether the phone shows the same."""


async def pair(client: Client, path: str, *, phone: str | None, telling: PairingOutput, clock: Clock) -> None:
    """Returns when the session at `path` is connected. Raises `BadInput`, `NotPaired` and `Refused`.

    phone: use a pairing code for this number; checked before the session is created. Each new code is shown once, and
    so is what keeps codes from coming.
    """
    if phone is not None:
        phone = phone_number(phone, field="--phone")
    await client.put(path)
    told: set[str] = set()
    while (session := await client.get(path))["state"] != "connected":
        if (session["reason"] or {}).get("code") == "passkey-required":
            await _sign(client, f"{path}/passkey", telling, told)
        elif session["state"] not in _ON_ITS_WAY:
            await _show_code(client, path, session, phone, telling, told)
        await clock.sleep(_GLANCE_S)


async def _sign(client: Client, path: str, telling: PairingOutput, told: set[str]) -> None:
    """The account demands a passkey: show how its owner signs, and hand the answer over."""
    try:
        asked = await client.get(path)
        if asked["snippet"] in told:
            return
        told.add(asked["snippet"])
        answer = await telling.passkey(asked["snippet"])
        if not answer:
            return
        step = await client.post(path, json.loads(answer))
        if step["step"] == "confirm":
            await client.post(f"{path}/confirm", {"matches": await telling.compare(step["code"])})
    except ValueError:
        telling.trouble(
            "That was no answer of the console: it begins with { and ends with }. Run `holdfast pair` again."
        )
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:  # answered elsewhere meanwhile
            telling.trouble(refused.sentence)


async def _show_code(
    client: Client, path: str, session: Json, phone: str | None, telling: PairingOutput, told: set[str]
) -> None:
    if session["state"] == "paused":
        raise NotPaired(f"company {session['companyId']} has a phone, but is paused: {session['reason']['message']}")
    if phone in told and session["state"] == "pairing":
        return
    try:
        if phone is not None:
            telling.code((await client.post(f"{path}/pairing-code", {"phoneNumber": phone}))["code"])
            told.add(phone)
            return
        code = (await client.get(f"{path}/qr"))["qr"]
    except Refused as refused:
        await _bear(client, path, refused, telling, told)
        return
    if code not in told:
        telling.qr(code)
    told.add(code)


async def _bear(client: Client, path: str, refused: Refused, telling: PairingOutput, told: set[str]) -> None:
    """Handle a refused code (409): it is ignored when the phone was quicker, else the cause is shown once."""
    if refused.status != HTTPStatus.CONFLICT:
        raise refused
    session = await client.get(path)
    if session["state"] in _ON_ITS_WAY | {"connected"}:
        return
    reason = session["reason"]
    trouble = refused.sentence if reason is None else f"{refused.sentence} ({reason['message']})"
    if trouble not in told:
        telling.trouble(trouble)
    told.add(trouble)
