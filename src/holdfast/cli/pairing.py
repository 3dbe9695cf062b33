"""What `holdfast pair` does: creates a session, shows its codes and waits until it is linked and connected."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.client import Client, Json, Refused
from holdfast.delivery.recipient import phone_number

_POLL_INTERVAL_S = 1
_IN_PROGRESS = {"connecting", "reconnecting"}


class NotPaired(HoldfastError):
    """The session is in a state that scanning a code does not change."""

    code = "not-paired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingOutput:
    """Shows a person the progress of pairing."""

    qr: Callable[[str], None]
    code: Callable[[str], None]
    problem: Callable[[str], None]
    passkey: Callable[[str], Awaitable[str]]
    """Shows the snippet to sign with; returns the answer that was pasted, or "" when it is given in the dashboard."""
    compare: Callable[[str], Awaitable[bool]]
    """Shows a code; returns whether the phone shows the same one."""


async def pair(client: Client, path: str, *, phone: str | None, output: PairingOutput, clock: Clock) -> None:
    """Returns when the session at `path` is connected. Raises `BadInput`, `NotPaired` and `Refused`.

    phone: use a pairing code for this number; checked before the session is created. Each new code is shown once, and
    each cause of a missing code too.
    """
    if phone is not None:
        phone = phone_number(phone, field="--phone")
    await client.put(path)
    shown: set[str] = set()
    while (session := await client.get(path))["state"] != "connected":
        if (session["reason"] or {}).get("code") == "passkey-required":
            await _sign(client, f"{path}/passkey", output, shown)
        elif session["state"] not in _IN_PROGRESS:
            await _show_code(client, path, session, phone, output, shown)
        await clock.sleep(_POLL_INTERVAL_S)


async def _sign(client: Client, path: str, output: PairingOutput, shown: set[str]) -> None:
    """Show the owner of the account how to sign with a passkey, and send the answer to Holdfast."""
    try:
        asked = await client.get(path)
        if asked["snippet"] in shown:
            return
        shown.add(asked["snippet"])
        answer = await output.passkey(asked["snippet"])
        if not answer:
            return
        step = await client.post(path, json.loads(answer))
        if step["step"] == "confirm":
            await client.post(f"{path}/confirm", {"matches": await output.compare(step["code"])})
    except ValueError:
        output.problem(
            "This is not what the console shows: its answer begins with { and ends with }. Run `holdfast pair` again."
        )
    except Refused as refused:
        if refused.status != HTTPStatus.NOT_FOUND:  # 404: answered in the dashboard
            output.problem(refused.sentence)


async def _show_code(
    client: Client, path: str, session: Json, phone: str | None, output: PairingOutput, shown: set[str]
) -> None:
    if session["state"] == "paused":
        raise NotPaired(f"company {session['companyId']} is linked, but paused: {session['reason']['message']}")
    if phone in shown and session["state"] == "pairing":
        return
    try:
        if phone is not None:
            output.code((await client.post(f"{path}/pairing-code", {"phoneNumber": phone}))["code"])
            shown.add(phone)
            return
        code = (await client.get(f"{path}/qr"))["qr"]
    except Refused as refused:
        await _handle_refusal(client, path, refused, output, shown)
        return
    if code not in shown:
        output.qr(code)
    shown.add(code)


async def _handle_refusal(client: Client, path: str, refused: Refused, output: PairingOutput, shown: set[str]) -> None:
    """Ignore a refused code (409) when the phone has linked already, else show the cause once."""
    if refused.status != HTTPStatus.CONFLICT:
        raise refused
    session = await client.get(path)
    if session["state"] in _IN_PROGRESS | {"connected"}:
        return
    reason = session["reason"]
    problem = refused.sentence if reason is None else f"{refused.sentence} ({reason['message']})"
    if problem not in shown:
        output.problem(problem)
    shown.add(problem)
