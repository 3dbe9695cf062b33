"""Inbound messages as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, func, select

from holdfast.delivery.chats import timeline_at
from holdfast.delivery.page import Page, rows_in_page
from holdfast.delivery.stores import Received
from holdfast.store import search_index
from holdfast.store.aliases import canonical
from holdfast.store.chat_updates import note_received
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Prepared
from holdfast.store.database import Database
from holdfast.store.events import record_received
from holdfast.store.tables import contacts, groups, inbox

RECEIVED = [column for column in inbox.c if column.name not in {"media_keys", "media_id", "message_secret"}]
"""The columns of an inbound message that people and programs see."""
RECEIVED_SIZE: ColumnElement[int] = func.coalesce(func.length(inbox.c.text), 0) + func.coalesce(
    func.length(inbox.c.content), 0
)
"""The number of characters of an inbound message."""
ADD_RECEIVED = Prepared(lambda insert: insert(inbox).on_conflict_do_nothing().returning(*RECEIVED))
"""Adds a row unless it is there; returns nothing then."""

StoredMessage = Mapping[str, Any] | RowMapping
"""A row with at least those columns."""
MediaUrl = Callable[[str], str | None]
"""Returns the URL of an inbound message's medium (by message id) that needs no API key."""


def no_media_url(inbox_id: str) -> str | None:
    """Used when media have no public URLs."""
    return None


class InboxRows:
    """Implements `holdfast.delivery.stores.Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def received(self, company: str, *, after: int, limit: int, chat: str | None = None) -> Page[Received]:
        statement = select(*RECEIVED).where(inbox.c.company_id == company, inbox.c.seq > after).order_by(inbox.c.seq)

        def work(connection: Connection) -> Page[Received]:
            mine = statement
            if chat is not None:
                mine = mine.where(inbox.c.chat == canonical(connection, company, chat))
            sizes = connection.scalars(mine.with_only_columns(RECEIVED_SIZE).limit(limit + 1)).all()
            shown = rows_in_page(sizes, limit)
            if not shown:
                return Page()
            rows = connection.execute(mine.limit(shown)).mappings().all()
            return Page(received(connection, company, rows), has_more=len(sizes) > shown)

        return await self._database.read(work)

    async def find(self, inbox_id: str) -> Received | None:
        statement = select(*RECEIVED).where(inbox.c.id == inbox_id)

        def work(connection: Connection) -> Received | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else received(connection, row["company_id"], [row])[0]

        return await self._database.read(work)


_SUBJECTS = Prepared(
    lambda _: select(groups.c.jid, groups.c.subject).where(
        groups.c.company_id == bindparam("company"), groups.c.jid.in_(bindparam("jids", expanding=True))
    )
)


def subjects_of(connection: Connection, company: str, chats: Collection[str]) -> dict[str, str]:
    """Return the known subjects of the groups among these chats."""
    jids = [chat for chat in chats if chat.endswith("@g.us")]
    if not jids:
        return {}
    found = connection.execute(_SUBJECTS.on(connection), {"company": company, "jids": jids})
    return {row.jid: row.subject for row in found}


_PEOPLE = Prepared(
    lambda _: select(*contacts.c["jid", "saved_name", "push_name", "business_name"]).where(
        contacts.c.company_id == bindparam("company"), contacts.c.jid.in_(bindparam("jids", expanding=True))
    )
)


def senders_of(connection: Connection, company: str, rows: Iterable[StoredMessage]) -> dict[str, Any]:
    """Return what is known of the names of the people who wrote these messages."""
    jids = {row["sender"] for row in rows if not row["from_me"]}
    if not jids:
        return {}
    people = connection.execute(_PEOPLE.on(connection), {"company": company, "jids": list(jids)})
    return {person.jid: person for person in people}


def sender_name(row: StoredMessage, senders: Mapping[str, Any]) -> str | None:
    """Return the name of a message's sender: as the phone has saved it, as the message has it, or as it is known from
    elsewhere."""
    person = senders.get(row["sender"])
    if person is None or row["from_me"]:
        names = [row["push_name"]]
    else:
        names = [person.saved_name, row["push_name"], person.push_name, person.business_name]
    return next((str(name) for name in names if name), None)


def received(connection: Connection, company: str, rows: Sequence[StoredMessage]) -> list[Received]:
    """Convert inbox rows of one company."""
    subjects = subjects_of(connection, company, {row["chat"] for row in rows})
    senders = senders_of(connection, company, rows)
    return [_received(row, subjects, senders) for row in rows]


def _received(row: StoredMessage, subjects: Mapping[str, str], senders: Mapping[str, Any]) -> Received:
    values = {str(name): value for name, value in row.items()} | {"sender_name": sender_name(row, senders)}
    for name in ("content", "media"):
        values[name] = None if values[name] is None else json.loads(values[name])
    company = values.pop("company_id")
    del values["push_name"]
    return Received(company=company, group_subject=subjects.get(values["chat"]), **values)


def store_received(
    connection: Connection,
    statement: Prepared,
    row: dict[str, Any],
    *,
    at: str,
    media_url: MediaUrl,
    event: str | None = None,
) -> bool:
    """Add or complete an inbox row, and store its event; returns whether anything changed.

    statement: an insert that returns `RECEIVED`. event: the type of the event; None: that of a message.
    """
    # Before the number is drawn: the order of a company's numbers is that of commits.
    lock_company(connection, row["company_id"])
    stored = connection.execute(statement.on(connection), row).mappings().first()
    if stored is None:
        return False
    if stored["completed_at"] is not None:
        search_index.replace(connection, inbox, stored)
    (found,) = received(connection, stored["company_id"], [stored])
    if found.completed_at is None:
        note_received(connection, dict(stored), at=timeline_at(found))
    record_received(connection, found, at=at, media_url=media_url(found.id), event=event)
    return True
