"""`holdfast import`, `import-baileys` and `export-baileys`: a company's linked device from other programs, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast import terminal
from holdfast.base.clock import iso
from holdfast.cli.exit_codes import UsageError
from holdfast.cli.installation import StoppedInstallation, running_or_stopped
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path
from holdfast.client import Client, Json

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from holdfast.backup.company import Device
    from holdfast.importing.device import ImportedDevice

PROGRAMS = "baileys, evolution, waha, baileys-api, openwa, whatsmeow"
"""The names in `holdfast.importing.kinds`, which takes long to import."""

SkipDamaged = Annotated[
    bool, typer.Option("--skip-damaged", help="skip damaged keys of single contacts; credentials are never skipped")
]


def import_device(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"one of {PROGRAMS}")],
    company: CompanyArgument,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="a folder, a file, or the address of a database")],
    session: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="which of the sessions in SOURCE")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="PLACE", help="Evolution API with PostgreSQL: its Redis, or its folder"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="import although the other program seems to be running; chats get new keys")
    ] = False,
    skip_damaged: SkipDamaged = False,
    as_json: AsJson = False,
) -> None:
    """Import a linked device from another program, without a QR code. Stop that program first.

    Either all of a device is imported, or nothing. SOURCE is only read.
    """
    from holdfast.importing.device import import_from
    from holdfast.importing.kinds import KINDS, open_source

    path = session_path(company, "/import")
    if kind not in KINDS:
        raise UsageError(f'"{kind[:40]}" is not a known program: give one of {PROGRAMS}')
    with open_source(kind, source, keys=keys) as opened:
        read = import_from(opened, session_name=session, now=CLOCK.now(), force=force, skip_damaged=skip_damaged)
    _print_skipped(read)
    for sign in read.in_use:
        terminal.print_stderr(f"In use: {sign}. Chats get new keys before Holdfast sends.")
    _import(path, company, read, as_json=as_json)


def import_baileys(
    company: CompanyArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the folder that the bot gives to useMultiFileAuthState")
    ],
    skip_damaged: SkipDamaged = False,
    as_json: AsJson = False,
) -> None:
    """Import a linked device from a Baileys bot, without a QR code. Stop the bot first.

    Either all of the folder is imported, or nothing. The folder is not changed.
    """
    from holdfast.backup.baileys import format_age, read_folder
    from holdfast.importing.device import ImportedDevice

    path = session_path(company, "/import")
    found = read_folder(folder, now=CLOCK.now(), skip_damaged=skip_damaged)
    warning = (
        f'"{folder}" was written {format_age(found)} ago: a bot seems to use it. Stop it now: two programs on one '
        "device disconnect each other (440). Chats get new keys before Holdfast sends, in case the bot still runs."
    )
    in_use = (warning,) if found.is_in_use else ()
    read = ImportedDevice(
        device=found.device, session=str(folder), skipped=found.skipped, ignored=found.ignored, in_use=in_use
    )
    _print_skipped(read)
    for sign in read.in_use:
        terminal.print_stderr(sign)
    _import(path, company, read, as_json=as_json)


def _print_skipped(read: ImportedDevice) -> None:
    for each in read.skipped:
        terminal.print_stderr(f"Left out: {each}")
    if read.ignored:
        terminal.print_stderr(f"Left out, because Baileys did not write them: {', '.join(read.ignored[:5])}")


def _import(path: str, company: str, read: ImportedDevice, *, as_json: bool) -> None:
    """Import by the running Holdfast or into the data folder, and print the result."""
    body = {
        "credentials": read.device.credentials,
        "keys": [{"type": key.type, "id": key.id, "value": key.value} for key in read.device.keys],
        "inUse": bool(read.in_use),
    }

    async def ask(client: Client) -> str:
        session: Json = await client.post(path, body)
        return str(session["state"])

    state = running_or_stopped(ask, lambda installation: _import_device(installation, company, read))
    count = len(read.device.keys)
    if as_json:
        terminal.show_json({"companyId": company, "keys": count, "skipped": list(read.skipped), "state": state})
        return
    terminal.print_stdout(f"Company {company} is imported with {count} keys; it is {state}.")


def _import_device(installation: StoppedInstallation, company: str, read: ImportedDevice) -> str:
    from holdfast.backup import company as companies

    now = CLOCK.now()
    closed_at_ms = int(now.timestamp() * 1000) if read.in_use else None

    def work(connection: Connection) -> None:
        companies.refuse_in_use(connection, company=company)
        companies.import_device(connection, company, read.device, now=iso(now), closed_at_ms=closed_at_ms)

    async def store() -> None:
        await installation.database.write(work)

    asyncio.run(store())
    return "connected at the next `holdfast serve`"


def export_baileys(
    company: CompanyArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
    as_json: AsJson = False,
) -> None:
    """Write a company's linked device as a folder for useMultiFileAuthState. Stop the session first."""
    from holdfast.backup.baileys import write_folder
    from holdfast.backup.company import Device
    from holdfast.backup.ratchets import RatchetKey

    path = session_path(company)

    async def ask(client: Client) -> tuple[Device, str]:
        session: Json = await client.get(path)
        found: Json = await client.get(f"{path}/export")
        keys = tuple(RatchetKey(**key) for key in found["keys"])
        return Device(credentials=found["credentials"], keys=keys), str(session["state"])

    device, state = running_or_stopped(
        ask, lambda installation: (asyncio.run(_device(installation, company)), "stopped")
    )
    files = write_folder(folder, device)
    if as_json:
        terminal.show_json({"companyId": company, "files": files, "state": state})
        return
    terminal.print_stdout(
        f"Wrote {files} files to {folder}. Anybody who has them can read and send messages as company {company}."
    )


async def _device(installation: StoppedInstallation, company: str) -> Device:
    from holdfast.backup import company as companies

    return await installation.database.read(lambda connection: companies.device_of(connection, company))
