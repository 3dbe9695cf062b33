"""`holdfast backup …` and `holdfast clear`: make, list and restore backups; back up one company and remove it."""

from __future__ import annotations

import asyncio
import functools
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast import terminal
from holdfast.cli.exit_codes import NOT_GOOD, UsageError
from holdfast.cli.installation import StoppedInstallation, backups_of, opener_of, running_or_stopped, stopped
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, read_settings, session_path, show_list
from holdfast.client import Client, Json
from holdfast.health.advice import format_duration

if TYPE_CHECKING:
    from holdfast.backup.backup_dir import BackupFile
    from holdfast.backup.creating import BackupResult
    from holdfast.backup.restoring import Restored

backup = typer.Typer(help="Back up everything into one file, list backups, restore one.", no_args_is_help=True)

Identity = Annotated[
    Path | None, typer.Option("--identity", metavar="FILE", help="secret key of age, for an encrypted backup")
]


@backup.command()
def create(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="also write a copy to this file")] = None,
    as_json: AsJson = False,
) -> None:
    """Back up everything into one file while sessions stay connected: messages, credentials, settings without secrets.

    The file is in the folder `backups` of the data folder. It is encrypted if HOLDFAST_BACKUP_RECIPIENTS
    or HOLDFAST_BACKUP_PASSPHRASE is set.
    """
    if file is not None and file.exists():
        raise UsageError(f'"{file}" exists already: a backup never overwrites a file, so give another name')

    async def ask(client: Client) -> Json:
        made: Json = await client.post("/v1/backups")
        if file is not None:
            await client.download(f"/v1/backups/{made['name']}", file)
        return made

    def act(installation: StoppedInstallation) -> Json:
        from holdfast.backup.backup_dir import MANUAL

        made = asyncio.run(installation.maker.make(kind=MANUAL, now=CLOCK.now(), progress=terminal.print_stderr))
        if file is not None:
            shutil.copyfile(made.path, file)
            file.chmod(0o600)
        return _result_json(made)

    _show_made(running_or_stopped(ask, act), file, as_json=as_json)


def _result_json(result: BackupResult) -> Json:
    from holdfast.backup.backup_dir import BackupFile

    return _backup_json(
        BackupFile(path=result.path, size_bytes=result.size_bytes, manifest=result.manifest, problem=None)
    )


def _backup_json(backup: BackupFile) -> Json:
    manifest = backup.manifest
    return {
        "name": backup.path.name,
        "sizeBytes": backup.size_bytes,
        "createdAt": None if manifest is None else manifest.created_at,
        "companies": None if manifest is None else [each.company_id for each in manifest.companies],
        "onlyCompany": None if manifest is None else manifest.only_company,
        "encrypted": backup.is_encrypted,
        "problem": backup.problem,
    }


def _show_made(made: Json, copy: Path | None, *, as_json: bool) -> None:
    if as_json:
        terminal.show_json(made | {"copy": None if copy is None else str(copy)})
        return
    terminal.print_stdout(f"Backup of {_count(made['companies'])} made: {made['name']}, {_size(made['sizeBytes'])}")
    if copy is not None:
        terminal.print_stdout(f"A copy is in {copy}")
    if not made["encrypted"]:
        terminal.print_stderr(
            "It contains the keys of every linked device and is not encrypted: store it as safely as passwords."
        )


def _count(companies: Sequence[str]) -> str:
    return f"{len(companies)} {'company' if len(companies) == 1 else 'companies'}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(size // 1000, 1)} kB"


@backup.command("list")
def list_backups(
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """List the backups in the data folder: age, companies, size, state. Exit code 1 when one is damaged."""
    from holdfast.backup import backup_dir

    settings = read_settings()
    folder, opener = backups_of(settings), opener_of(settings, identity)
    found = [_backup_json(each) for each in backup_dir.inspect_all(folder, opener)]
    none = f'There is no backup in "{folder}": `holdfast backup create` creates one.'
    show_list(found, ("backup", "age", "companies", "size", "state"), _row, as_json=as_json, none=none)
    if any(each["problem"] for each in found):
        raise typer.Exit(NOT_GOOD)


def _row(backup: Json) -> tuple[object, ...]:
    made_at, only = backup["createdAt"], backup["onlyCompany"]
    age = None if made_at is None else format_duration((CLOCK.now() - _at(made_at)).total_seconds())
    companies = None if backup["companies"] is None else f"only {only}" if only else len(backup["companies"])
    return (
        backup["name"],
        age,
        companies,
        _size(backup["sizeBytes"]),
        backup["problem"] or ("encrypted, not examined" if made_at is None else "intact"),
    )


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@backup.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a backup, or the name of one in the data folder")],
    take_stale: Annotated[
        list[str] | None,
        typer.Option(
            "--take-stale",
            metavar="COMPANY",
            help="let this company connect although its keys were used after the backup; `all` for all companies",
        ),
    ] = None,
    staging: Annotated[
        bool,
        typer.Option("--staging", help="restore a copy for tests: no linked devices, no webhooks, no messages to send"),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="with a backup of one company: replace the existing company")
    ] = False,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Replace everything with the content of a backup. Holdfast must be stopped; the present state is backed up first.

    A backup of one company, as `clear` makes it, adds that company and changes no other.

    A company whose keys were used after the backup was made is restored but not started; the reason is printed, and
    the exit code is 1.
    """
    from holdfast.backup.restoring import Restorer

    with stopped() as installation:
        path = file if file.exists() else installation.folder / file.name
        restorer = Restorer(
            installation.database,
            installation.maker,
            folder=installation.folder,
            opener=opener_of(installation.settings, identity),
            clock=CLOCK,
        )
        restored = asyncio.run(
            restorer.restore(
                path, take_stale=take_stale or (), staging=staging, replace=replace, progress=terminal.print_stderr
            )
        )
    _show_restored(restored, path, as_json=as_json)
    if staging and installation.settings.whatsapp_url is None:
        terminal.print_stderr(
            "This copy has no linked device. Set HOLDFAST_WHATSAPP_URL to a `wasim serve` before you start it."
        )
    if restored.refused:
        raise typer.Exit(NOT_GOOD)


def _show_restored(restored: Restored, path: Path, *, as_json: bool) -> None:
    manifest, copy = restored.manifest, restored.copy
    companies = [each.company_id for each in manifest.companies]
    if as_json:
        refused = [{"companyId": company, "message": why} for company, why in restored.refused.items()]
        summary = {
            "file": str(path),
            "createdAt": manifest.created_at,
            "companies": companies,
            "rows": restored.rows,
        }
        terminal.show_json({**summary, "copy": None if copy is None else str(copy), "refused": refused})
        return
    terminal.print_stdout(
        f"Restored {_count(companies)} and {restored.rows} rows from the backup of {manifest.created_at}."
    )
    if copy is not None:
        terminal.print_stdout(f"The state before the restore is in {copy}")
    if manifest.only_company is not None and manifest.companies[0].state == "stopped" and not restored.refused:
        terminal.print_stdout(
            f"Its session is stopped, as when the backup was made: once Holdfast runs, `holdfast start "
            f"{manifest.only_company}` connects it."
        )
    for sentence in restored.refused.values():
        terminal.complain(sentence)


def clear(
    company: CompanyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: AsJson = False,
) -> None:
    """Back up one company, then remove it: credentials, messages, history.

    The device stays in the phone's list of linked devices until it is removed there; `holdfast logout` removes it.
    API keys that were created for this company alone are revoked.
    """
    path = session_path(company, "/clear")
    if not yes and not _is_sure(company):
        raise typer.Exit(NOT_GOOD)

    async def ask(client: Client) -> Json:
        made: Json = await client.post(path)
        return made

    made = running_or_stopped(ask, lambda installation: _result_json(asyncio.run(_clear(installation, company))))
    if as_json:
        terminal.show_json(made)
    else:
        terminal.print_stdout(f"Company {company} is removed; `holdfast backup restore {made['name']}` brings it back.")


def compact(as_json: AsJson = False) -> None:
    """Free the disk space of removed rows: after `clear`, or when messages are kept for fewer days.

    Works beside a running Holdfast. A database file of an older version is rewritten once, while Holdfast is stopped.
    """

    async def ask(client: Client) -> Json:
        done: Json = await client.post("/v1/compact")
        return done

    def act(installation: StoppedInstallation) -> Json:
        from holdfast.store.compact import compact

        done = asyncio.run(compact(installation.database, may_rewrite=True, progress=terminal.print_stderr))
        return {"freedBytes": max(done.before - done.after, 0), "sizeBytes": done.after, "advice": done.advice}

    done = running_or_stopped(ask, act)
    if as_json:
        terminal.show_json(done)
        return
    terminal.print_stdout(f"{_size(done['freedBytes'])} freed; the database has {_size(done['sizeBytes'])} now.")
    if done["advice"]:
        terminal.print_stderr(f"More is possible: {done['advice']}.")


def _is_sure(company: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            f"standard input is not a terminal, so nobody can confirm that company {company} is removed: add --yes"
        )
    return typer.confirm(f"Remove company {company} with its credentials, messages and history?", err=True)


async def _clear(installation: StoppedInstallation, company: str) -> BackupResult:
    from holdfast.backup import company as companies
    from holdfast.backup.clearing import clear_in_parts

    made = await installation.maker.make(
        kind="before-clear", now=CLOCK.now(), company=company, progress=terminal.print_stderr
    )
    check = functools.partial(companies.refuse_in_use, company=company)
    await clear_in_parts(installation.database, company, clock=CLOCK, check=check)
    return made
