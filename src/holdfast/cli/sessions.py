"""Commands about sessions: pair, list, show, start, stop, reconnect, log out."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated

import typer

from holdfast import terminal
from holdfast.cli import pairing
from holdfast.cli.exit_codes import NOT_GOOD, UsageError
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path, show_one, with_client
from holdfast.cli.serving import draw_qr
from holdfast.client import Json
from holdfast.health.advice import format_duration, needed_advice


def pair(
    company: CompanyArgument,
    phone: Annotated[
        str | None,
        typer.Option(
            "--phone",
            metavar="NUMBER",
            help="use a pairing code for this number, such as 962790000001, instead of a QR code",
        ),
    ] = None,
) -> None:
    """Link a phone to a company: show QR codes or a pairing code until it is linked."""
    if phone is None and not terminal.out.is_terminal:
        raise UsageError(
            "QR codes are drawn on a terminal only, and standard output is not one: "
            f"run this in a terminal, or get the picture from GET /v1/sessions/{company}/qr.png"
        )
    output = pairing.PairingOutput(
        qr=lambda code: draw_qr(company, code),
        code=lambda code: terminal.print_stdout(f"WhatsApp → Linked devices → Link with phone number: {code}"),
        problem=terminal.print_stderr,
        passkey=_ask_passkey,
        compare=_compare,
    )
    path = session_path(company)
    with_client(lambda client: pairing.pair(client, path, phone=phone, output=output, clock=CLOCK))
    terminal.print_stdout(f"Company {company} is linked and connected.")


async def _ask_passkey(snippet: str) -> str:
    terminal.print_stdout(
        "The account demands a passkey. Its owner signs on https://web.whatsapp.com: through the dashboard's page of "
        "this company, or by pasting this into the console of the browser's developer tools there:\n"
    )
    terminal.print_stdout(snippet)
    if not sys.stdin.isatty():
        return ""
    return (
        await asyncio.to_thread(input, "\nPaste what the console shows, or sign in the dashboard and press Enter: ")
    ).strip()


async def _compare(code: str) -> bool:
    answer = await asyncio.to_thread(input, f"Does the phone show {code}? [y/n] ")
    return answer.strip().lower() in {"y", "yes"}


def sessions(as_json: AsJson = False) -> None:
    """List all sessions, those with problems first: state, for how long, why, and what to do."""
    page = with_client(lambda client: client.get("/v1/sessions"))
    if as_json:
        terminal.show_json(page)
        return
    if not page["items"]:
        terminal.print_stderr("There are no sessions yet: `holdfast pair COMPANY` creates one.")
        return
    now = CLOCK.now()
    rows = (_row(session, now) for session in sorted(page["items"], key=_rank))
    terminal.show_table(("company", "state", "for", "why", "what to do"), rows)


_ORDER = ("unhealthy", "degraded", "not linked", "healthy", "stopped")
"""As on the dashboard."""


def _rank(session: Json) -> tuple[int, str]:
    match session["state"]:
        case "stopped":
            kind = "stopped"
        case "unpaired" | "pairing":
            kind = "not linked"
        case _:
            kind = _health(session)["status"]
    return _ORDER.index(kind), session["companyId"]


def _health(session: Json) -> Json:
    """The verdict; for a session of another process one made from its state and reason."""
    if session["health"] is not None:
        return dict(session["health"])
    if session["state"] == "connected":
        return {"status": "healthy", "reasons": []}
    return {"status": "unhealthy", "reasons": [] if session["reason"] is None else [session["reason"]]}


def _company(session: Json) -> str:
    """Id, label and phone number: `962302 Bakery Irbid +962790000002`."""
    number = None if session["phoneNumber"] is None else f"+{session['phoneNumber']}"
    return " ".join(part for part in (session["companyId"], session["label"], number) if part)


def _row(session: Json, now: datetime) -> tuple[object, ...]:
    reasons = _health(session)["reasons"]
    worst: Json = reasons[0] if reasons else {"message": None, "action": "none", "code": ""}
    lasted_s = (now - datetime.fromisoformat(session["since"])).total_seconds()
    return (
        _company(session),
        session["state"].replace("_", " "),
        format_duration(max(lasted_s, 0)),
        worst["message"],
        needed_advice(worst["action"], worst["code"]),
    )


def show(company: CompanyArgument, as_json: AsJson = False) -> None:
    """Show one session in full. Exit code 1 when it is not connected."""
    session = with_client(lambda client: client.get(session_path(company)))
    show_one(session if as_json else _with_one_advice(session), as_json=as_json)
    if session["state"] != "connected":
        raise typer.Exit(NOT_GOOD)


def _with_one_advice(session: Json) -> Json:
    """The advice of the verdict replaces that of the reason: it takes the other companies into account."""
    if session["health"] is None or session["reason"] is None:
        return session
    return {**session, "reason": {**session["reason"], "action": None}}


def start(company: CompanyArgument, as_json: AsJson = False) -> None:
    """Connect a session and keep it connected."""
    _request(company, "start", as_json=as_json)


def stop(company: CompanyArgument, as_json: AsJson = False) -> None:
    """Disconnect a session until it is started again."""
    _request(company, "stop", as_json=as_json)


def reconnect(company: CompanyArgument, as_json: AsJson = False) -> None:
    """Cut a session's link and connect at once."""
    _request(company, "reconnect", as_json=as_json)


def logout(
    company: CompanyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask; required without a terminal")] = False,
    as_json: AsJson = False,
) -> None:
    """Unlink the device at WhatsApp; its credentials are moved to quarantine."""
    path = session_path(company, "/logout")
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            f"standard input is not a terminal, so nobody can confirm that company {company} is unlinked: add --yes"
        )
    question = f"Unlink company {company}? To connect again, its phone must scan a QR code."
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(NOT_GOOD)
    show_one(with_client(lambda client: client.post(path)), as_json=as_json)


def _request(company: str, action: str, *, as_json: bool) -> None:
    show_one(with_client(lambda client: client.post(session_path(company, f"/{action}"))), as_json=as_json)
