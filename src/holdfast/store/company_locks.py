"""Locks on PostgreSQL for what several nodes write at the same time. SQLite has one writer and needs none.

Each node locks the companies of its group of writes in one statement and in one order, and the order of events after
them, so that two nodes don't wait for each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection

from sqlalchemy import Connection, func, select, text

from holdfast.store.connection import companies_of_group

_EVENTS = 0x686F6C66
"""Number of the advisory lock on the order of events."""
_COMPANIES = 0x686F6C63
"""First number of the advisory locks on companies."""
_EVENTS_LOCKED = "holdfast.events-locked"
_COMPANIES_LOCKED = "holdfast.companies-locked"
_LOCK_EVENTS = select(func.pg_advisory_xact_lock(_EVENTS))
_HOLDERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND classid = :kind AND objsubid = 2 "
    "AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_LOCK_COMPANIES = text(
    "SELECT pg_advisory_xact_lock(:kind, company) "
    "FROM (SELECT unnest(CAST(:companies AS INTEGER[])) AS company ORDER BY 1) AS sorted"
)


def lock_company(connection: Connection, company: str) -> None:
    """Serialise transactions that number messages or operations of a company, or change the heads of its queue.

    Held to the end of the transaction, so that the numbers of a company follow the order of commits.
    """
    if connection.dialect.name != "postgresql":
        return
    transaction = connection.get_transaction()
    of, locked = connection.info.get(_COMPANIES_LOCKED, (None, frozenset()))
    if of is not transaction:
        locked = frozenset()
    if company not in locked:
        wanted = {company} if locked else {company, *companies_of_group(connection)}
        connection.execute(_LOCK_COMPANIES, {"kind": _COMPANIES, "companies": lock_numbers(wanted)})
        connection.info[_COMPANIES_LOCKED] = transaction, locked | wanted


def lock_numbers(companies: Collection[str]) -> list[int]:
    """Two companies with the same number share a lock, so they only wait for each other."""
    return sorted({zlib.crc32(company.encode()) - 2**31 for company in companies})


def company_lock_holders(connection: Connection) -> frozenset[str]:
    """The transactions of all nodes that hold the lock of a company at this moment."""
    return frozenset(connection.scalars(_HOLDERS, {"kind": _COMPANIES}))


def lock_event_order(connection: Connection) -> None:
    """Serialise transactions that write events or webhook deliveries, of all nodes, to the end of the transaction.

    Call as late in the transaction as possible: every node waits for this lock.
    """
    if connection.dialect.name != "postgresql":
        return
    transaction = connection.get_transaction()
    if connection.info.get(_EVENTS_LOCKED) is not transaction:
        connection.execute(_LOCK_EVENTS)
        connection.info[_EVENTS_LOCKED] = transaction
