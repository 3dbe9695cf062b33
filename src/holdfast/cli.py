"""The command `holdfast`: arguments in, an exit code out.

Exit codes: 0 good, 1 the thing asked about is not good, 2 wrong use, 3 no server.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from holdfast import pairing, terminal
from holdfast import settings as settings_module
from holdfast.api.keys import first_key, stored_key
from holdfast.base.clock import SystemClock
from holdfast.base.errors import HoldfastError
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.client import Client, Json, NoServer, Refused, connect
from holdfast.engine.baileys.install import fill_cache, install
from holdfast.engine.host import HostProgram
from holdfast.engine.node import Node, find_node
from holdfast.settings import BadSetting, Settings

T = TypeVar("T")

CLOCK = SystemClock()
GOOD, NOT_GOOD, WRONG_USE, NO_SERVER = 0, 1, 2, 3
_UNAUTHORIZED = 401

cli = typer.Typer(
    help="Keeps WhatsApp sessions of many companies connected, and gets every accepted message there.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Company = Annotated[str, typer.Argument(metavar="COMPANY", help="the company id, such as 962302")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point: errors become a sentence and an exit code. `arguments` None: those of this process."""
    try:
        cli(arguments, prog_name="holdfast")
    except HoldfastError as error:
        _end(error)
    except BaseExceptionGroup as group:
        known = _first_known(group)
        if known is None:
            raise
        _end(known)
    raise SystemExit(GOOD)


def _end(error: HoldfastError) -> NoReturn:
    terminal.complain(error.sentence)
    codes = {NoServer: NO_SERVER, BadSetting: WRONG_USE, WrongUse: WRONG_USE}
    raise SystemExit(codes.get(type(error), NOT_GOOD))


class WrongUse(HoldfastError):
    """A command that makes no sense in this place."""

    code = "wrong-use"


def _first_known(group: BaseExceptionGroup[BaseException]) -> HoldfastError | None:
    """The cause that a person can mend, if that is all there is."""
    known, rest = group.split(HoldfastError)
    if known is None or rest is not None:
        return None
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HoldfastError) else None


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.say(f"holdfast {version('holdfast')}")
        raise typer.Exit(GOOD)


@cli.callback()
def holdfast(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Keeps WhatsApp sessions of many companies connected, and gets every accepted message there."""


@cli.command()
def serve(
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="also stop when standard input ends")
    ] = False,
) -> None:
    """Run the gateway until Ctrl-C."""
    from holdfast import app  # the other commands do without it, and start in half the time

    settings = settings_module.load()
    terminal.log_to_stderr(settings.log_level)
    os.umask(0o077)  # what is written from here on – database, key, caches – is its owner's alone
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the gateway takes both signals over
    try:
        with app.claim(settings, key_made=_tell_key) as held:
            running = app.serve(
                held,
                _engine(settings),
                ready=_tell_url,
                qr_shown=_draw_qr,
                until_stdin_closes=until_stdin_closes,
            )
            asyncio.run(running)
    except KeyboardInterrupt:
        raise typer.Exit(GOOD) from None


def _engine(settings: Settings) -> HostProgram:
    """The engine host's program; Baileys is installed where it is not yet."""
    node = _node(settings)
    cache = None if settings.npm_cache is None else settings.npm_cache.absolute()
    bridge = install(settings.cache_dir.absolute(), node=node, progress=terminal.tell, npm_cache=cache)
    environment = settings_module.without_secrets(settings_module.process_environment())
    return HostProgram(argv=(str(node.executable), str(bridge)), cwd=bridge.parent, env=environment)


def _node(settings: Settings) -> Node:
    named = settings.node_bin
    in_path = named is None or named == Path(named.name)
    return find_node(named if named is None or in_path else named.absolute())


def _tell_url(url: str) -> None:
    terminal.say(f"Holdfast listens on {url}")


def _tell_key(key: str, file: Path) -> None:
    terminal.say(f"API key, made just now and shown this once: {key}")
    terminal.say(f"It is kept in {file}, where commands on this machine find it.")


def _draw_qr(company: str, code: str) -> None:
    """Only to a person: whoever reads a QR code in a log file could link."""
    if terminal.out.is_terminal:
        terminal.say(f"Company {company}: WhatsApp → Linked devices → Link a device")
        terminal.show_qr(code)


@cli.command("fill-npm-cache")
def fill_npm_cache(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="made where it is missing")],
) -> None:
    """Fill a folder with Baileys, for a machine that reaches no package registry: HOLDFAST_NPM_CACHE names it there."""
    fill_cache(folder.absolute(), node=_node(settings_module.load()), progress=terminal.tell)


@cli.command()
def demo(
    seconds: Annotated[int, typer.Option(min=20, max=3600, help="how long messages are sent and links broken")] = 60,
    as_json: AsJson = False,
) -> None:
    """Show the main job without a phone: a simulated WhatsApp, two companies, messages, faults, the result."""
    from holdfast.lab.demo import run_demo
    from holdfast.lab.screen import Screen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way what was started is ended
    screen = Screen(quiet=as_json)
    settings = settings_module.load()
    _engine(settings)
    environment = settings_module.process_environment()
    result = asyncio.run(run_demo(seconds=seconds, environment=environment, screen=screen))
    if as_json:
        terminal.show_json(result.as_json())
    else:
        screen.show_result(result)
    raise typer.Exit(GOOD if result.passed else NOT_GOOD)


@cli.command()
def pair(
    company: Company,
    phone: Annotated[
        str | None,
        typer.Option("--phone", metavar="NUMBER", help="use a pairing code for this number, no QR code"),
    ] = None,
) -> None:
    """Link a phone to a company: draws the QR code, or prints a pairing code, until it is linked."""
    if phone is None and not terminal.out.is_terminal:
        raise WrongUse(
            "QR codes are drawn for people only, and standard output is no terminal: "
            "run this in one, or take the picture at GET /v1/sessions/COMPANY/qr.png"
        )
    telling = pairing.Telling(
        qr=lambda code: _draw_qr(company, code),
        code=lambda code: terminal.say(f"WhatsApp → Linked devices → Link with phone number: {code}"),
        trouble=terminal.tell,
    )
    path = _session(company)
    _with_client(lambda client: pairing.pair(client, path, phone=phone, telling=telling, clock=CLOCK))
    terminal.say(f"Company {company} is linked and connected.")


@cli.command()
def sessions(as_json: AsJson = False) -> None:
    """All sessions: state, since when, what to do."""
    page = _with_client(lambda client: client.get("/v1/sessions"))
    if as_json:
        terminal.show_json(page)
        return
    if not page["items"]:
        terminal.tell("There is no session yet: `holdfast pair COMPANY` makes one.")
        return
    columns = ("company", "state", "since", "attempts", "why", "what to do")
    terminal.show_table(columns, (_row(session) for session in page["items"]))


def _row(session: Json) -> tuple[object, ...]:
    reason = session["reason"] or {}
    return (
        *(session[name] for name in ("companyId", "state", "since", "reconnectAttempts")),
        reason.get("message"),
        reason.get("action"),
    )


@cli.command()
def show(company: Company, as_json: AsJson = False) -> None:
    """One session, in full. Exit code 1 when it is not connected."""
    session = _with_client(lambda client: client.get(_session(company)))
    _show_one(session, as_json=as_json)
    if session["state"] != "connected":
        raise typer.Exit(NOT_GOOD)


@cli.command()
def send(
    company: Company,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="recipient: 7 to 15 digits with country code")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the message")],
    wait: Annotated[bool, typer.Option("--wait", help="until WhatsApp has it, or it has failed")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a message. Without --wait, the exit code 0 means that it is accepted and will be sent."""
    message = _with_client(lambda client: _send(client, company, {"to": number, "text": text}, wait=wait))
    _show_one(message, as_json=as_json)
    if message["state"] in {"failed", "expired", "cancelled"}:
        raise typer.Exit(NOT_GOOD)


async def _send(client: Client, company: str, body: Json, *, wait: bool) -> Json:
    message: Json = await client.post(_session(company, "/messages"), body)
    while wait and message["state"] in {"queued", "sending"}:
        await CLOCK.sleep(0.2)
        message = await client.get(f"/v1/messages/{message['id']}")
    return message


@cli.command()
def start(company: Company, as_json: AsJson = False) -> None:
    """Connect a session, and keep it connected."""
    _wish(company, "start", as_json=as_json)


@cli.command()
def stop(company: Company, as_json: AsJson = False) -> None:
    """Disconnect a session until it is started again."""
    _wish(company, "stop", as_json=as_json)


@cli.command()
def reconnect(company: Company, as_json: AsJson = False) -> None:
    """Cut a session's link and connect at once."""
    _wish(company, "reconnect", as_json=as_json)


@cli.command()
def logout(company: Company, as_json: AsJson = False) -> None:
    """Unlink the device at WhatsApp; its credentials go to quarantine."""
    _wish(company, "logout", as_json=as_json)


def _wish(company: str, wish: str, *, as_json: bool) -> None:
    _show_one(_with_client(lambda client: client.post(_session(company, f"/{wish}"))), as_json=as_json)


@cli.command("settings")
def show_settings(as_json: AsJson = False) -> None:
    """All settings: value, where it came from, what it means."""
    settings = settings_module.load()
    came_from = settings_module.origins()
    values = settings.model_dump(mode="json")
    rows = [
        (settings_module.variable(name), values[name], came_from.get(name, "default"), field.description)
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        names = ("setting", "value", "origin", "meaning")
        terminal.show_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    terminal.show_table(("setting", "value", "origin", "meaning"), rows)


def _with_client(work: Callable[[Client], Awaitable[T]]) -> T:
    settings = settings_module.load()
    key = stored_key(settings.data_dir) if settings.api_key is None else first_key(settings.api_key)

    async def run() -> T:
        async with connect(settings.server_url, key, only_holdfast=True) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except Refused as refused:
        if refused.status != _UNAUTHORIZED:
            raise
        where = "commands take it from HOLDFAST_API_KEY, or from the file api-key in HOLDFAST_DATA_DIR"
        raise Refused(refused.status, f"{refused.sentence}; {where}") from refused


def _session(company: str, rest: str = "") -> str:
    if not is_company_id(company):
        raise WrongUse(f'company "{company}" is not usable: {COMPANY_RULE}')
    return f"/v1/sessions/{company}{rest}"


def _show_one(item: Json, *, as_json: bool) -> None:
    if as_json:
        terminal.show_json(item)
    else:
        terminal.show_table(("", ""), ((name, _told(value)) for name, value in item.items()))


def _told(value: object) -> object:
    """A reason or an error as a sentence; everything else as it is."""
    if not isinstance(value, dict):
        return value
    action = f" – {value['action']}" if value.get("action") else ""
    return f"{value.get('message') or value['code']} ({value['code']}){action}"
