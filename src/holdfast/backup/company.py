"""Imports and exports the linked device of one company: its credentials and Signal keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from holdfast.backup.errors import RestoreRefused
from holdfast.backup.ratchets import RatchetKey, without_sending
from holdfast.base.errors import Conflict, NotFound
from holdfast.session.credentials import fault_of_text
from holdfast.session.state import State
from holdfast.store.postgres import MIGRATING
from holdfast.store.tables import credentials, leases, sessions, signal_keys

_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A linked device as Baileys stores it: each value is the text of one of its files."""

    credentials: str
    keys: tuple[RatchetKey, ...]


def import_device(connection: Connection, company: str, device: Device, *, now: str, closed_at_ms: int | None) -> None:
    """Store this device for the company and let it connect.

    Raises `Conflict` when the company has a linked phone already, or another company has the device.

    closed_at_ms: set when the keys may have been used since; each chat then negotiates new ones before it sends.
    """
    refuse_linked(connection, company)
    refuse_duplicate_device(connection, company, device.credentials)
    for table in (credentials, signal_keys):
        connection.execute(delete(table).where(table.c.company_id == company))
    row = {"company_id": company, "creds": device.credentials, "paired": True, "updated_at": now}
    connection.execute(insert(credentials).values(row))
    for batch in _batches(device.keys):
        rows = [{"company_id": company, "type": key.type, "id": key.id, "value": key.value} for key in batch]
        connection.execute(insert(signal_keys), rows)
    if closed_at_ms is not None:
        close_sending(connection, company, closed_at_ms=closed_at_ms)
    _want_connected(connection, company, now)


def refuse_linked(connection: Connection, company: str) -> None:
    """Raises `Conflict` when a phone is linked with usable credentials."""
    columns = credentials.c["paired", "creds"]
    row = connection.execute(select(*columns).where(credentials.c.company_id == company)).first()
    if row is not None and row.paired and fault_of_text(row.creds) is None:
        raise Conflict(
            f'company "{company}" has a linked device already: `holdfast clear {company}` backs it up and removes it'
        )


def refuse_duplicate_device(connection: Connection, company: str, device_credentials: str) -> None:
    """Raises `Conflict` when another company has the device: two sessions with one device replace each other (440)
    without end.
    """
    jid = _jid(device_credentials)
    others = select(credentials.c.company_id, credentials.c.creds).where(credentials.c.paired)
    for other, creds in connection.execute(others.order_by(credentials.c.company_id)):
        if other != company and jid is not None and _jid(creds) == jid:
            raise Conflict(
                f'company "{other}" has this device already, and one device can serve one company: '
                f"`holdfast clear {other}` removes it there"
            )


def _jid(creds: str) -> str | None:
    """Return the account's JID; None when the credentials are damaged or have none."""
    if fault_of_text(creds) is not None:
        return None
    me = json.loads(creds).get("me")
    return me.get("id") if isinstance(me, dict) else None


def _want_connected(connection: Connection, company: str, now: str) -> None:
    values = {"state": State.RECONNECTING, "since": now, "reason": None, "code": None, "attempts": 0}
    changed = connection.execute(sessions.update().where(sessions.c.company_id == company).values(values))
    if not changed.rowcount:
        connection.execute(insert(sessions).values(company_id=company, created_at=now, **values))


def _batches(keys: tuple[RatchetKey, ...]) -> Iterable[tuple[RatchetKey, ...]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


def device_of(connection: Connection, company: str) -> Device:
    """Return the linked device of the company. Raises `NotFound`."""
    table = signal_keys.c
    text = connection.scalar(
        select(credentials.c.creds).where(credentials.c.company_id == company, credentials.c.paired)
    )
    if text is None:
        raise NotFound(f'company "{company}" has no linked device: there is nothing to export', field="company")
    found = connection.execute(select(table.type, table.id, table.value).where(table.company_id == company))
    return Device(credentials=text, keys=tuple(RatchetKey(*row) for row in found))


def close_sending(connection: Connection, company: str, *, closed_at_ms: int) -> None:
    """Change the keys so that every chat of this company negotiates a new ratchet before it sends."""
    table = signal_keys.c
    text = connection.scalar(select(credentials.c.creds).where(credentials.c.company_id == company))
    if text is None:
        return
    found = connection.execute(select(table.type, table.id, table.value).where(table.company_id == company))
    keys = [RatchetKey(*row) for row in found]
    for before, after in without_sending(keys, credentials=text, closed_at_ms=closed_at_ms):
        key = (table.company_id == company, table.type == before.type, table.id == before.id)
        if after is None:
            connection.execute(delete(signal_keys).where(*key))
        else:
            connection.execute(signal_keys.update().where(*key).values(value=after.value))


def refuse_in_use(connection: Connection, *, company: str | None = None) -> None:
    """Raises `RestoreRefused` while a Holdfast process runs the company, or any company, of a shared database.

    A process that starts now waits until this transaction ends.
    """
    node = node_in_use(connection, company=company)
    if node is not None:
        raise RestoreRefused(
            f'the database is in use by the Holdfast process "{node}": stop it first, or send the request to it'
        )


def node_in_use(connection: Connection, *, company: str | None = None) -> str | None:
    """The Holdfast process that runs the company, or any company, of a shared database; None without one.

    A process that starts now waits until this transaction ends.
    """
    if connection.dialect.name != "postgresql":
        return None  # the lock on the data folder guarantees it
    connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
    held = select(leases.c.node).where(leases.c.expires_at > func.clock_timestamp(), leases.c.holder != "")
    if company is not None:
        held = held.where(leases.c.company_id == company)
    return connection.scalar(held.limit(1))
