"""Backups, imports and exports while the gateway runs, for the routes of the API."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from holdfast.backup import backup_dir
from holdfast.backup import company as companies
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.clearing import clear_in_parts
from holdfast.backup.company import Device
from holdfast.backup.creating import BackupMaker, BackupResult
from holdfast.base.clock import Clock, iso
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.runtime.gateway import Gateway
from holdfast.session import events
from holdfast.session.state import State
from holdfast.store.compact import Compacted, compact
from holdfast.store.database import Database

_AT_REST = frozenset({State.STOPPED, State.LOGGED_OUT, State.UNPAIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupService:
    gateway: Gateway
    database: Database
    maker: BackupMaker
    folder: Path
    opener: backup_dir.Opener
    clock: Clock
    load_api_keys: Callable[[], Awaitable[None]]
    """Reads the API keys from the database again, after those of a removed company were withdrawn."""

    async def make(self, *, kind: str = backup_dir.MANUAL) -> BackupResult:
        """Back up everything. Raises `BackupFailed`."""
        return await self.maker.make(kind=kind, now=self.clock.now())

    async def found(self, *, verify: bool) -> Sequence[backup_dir.BackupFile]:
        """Return all backups, newest first; `verify` reads each of them whole."""

        def work(cancel_token: CancelToken) -> list[backup_dir.BackupFile]:
            return list(
                cancel_token.each(
                    backup_dir.inspect_all(self.folder, self.opener, verify=verify, cancel_token=cancel_token)
                )
            )

        with CancelToken() as cancel_token:
            return await asyncio.to_thread(work, cancel_token)

    def file(self, name: str) -> tuple[Path, os.stat_result]:
        """Return the path and the status of a backup.

        Raises `NotFound` for a name that is not in the list, so that no other file is served, and for a backup that is
        removed at this moment, as old scheduled ones are.
        """
        for path in backup_dir.names(self.folder):
            if path.name == name:
                with contextlib.suppress(FileNotFoundError):
                    return path, path.stat()
        raise NotFound(f'there is no backup "{name[:120]}": GET /v1/backups lists all backups', field="name")

    async def clear(self, company: str) -> BackupResult:
        """Back up the company, then remove it with all its rows, and from the API keys that name it.

        Raises `NotFound`, and `BackupFailed` when nothing was removed.
        """
        await self.gateway.ask(company, events.StopAsked())

        async def work() -> BackupResult:
            made = await self.maker.make(kind="before-clear", now=self.clock.now(), company=company)
            await clear_in_parts(self.database, company, clock=self.clock)
            await self.load_api_keys()
            return made

        return await self.gateway.run_exclusively(company, work)

    async def compact(self) -> Compacted:
        """Return the space of removed rows to the disk. Raises `Conflict` for a file that must be rewritten."""
        return await compact(self.database, may_rewrite=False)

    async def import_device(self, company: str, device: Device, *, in_use: bool) -> None:
        """Import a device, completely or not at all, and connect.

        in_use: another program may still use its keys.
        Raises `Conflict` when the company has a linked phone.
        """
        if not is_company_id(company):
            raise BadInput(f'company "{company[:80]}" is not usable: {COMPANY_RULE}', field="company")
        # Checked before the session is stopped, too: a mistyped name must not cut a link.
        await self.database.read(lambda connection: companies.refuse_linked(connection, company))
        now = self.clock.now()
        closed_at_ms = int(now.timestamp() * 1000) if in_use else None

        def store(connection: Connection) -> None:
            companies.import_device(connection, company, device, now=iso(now), closed_at_ms=closed_at_ms)

        async def work() -> None:
            await self.database.write(store)

        await self.gateway.run_exclusively(company, work)

    async def device(self, company: str) -> Device:
        """Return the device of a session that is not running. Raises `NotFound`, and `Conflict` while it runs."""
        state = (await self.gateway.cluster_view(company)).record.state
        if state not in _AT_REST:
            raise Conflict(
                f"the session of company {company} is {state}: stop it first (`holdfast stop {company}` or POST "
                f"/v1/sessions/{company}/stop), because its keys keep changing while it runs"
            )
        return await self.database.read(lambda connection: companies.device_of(connection, company))
