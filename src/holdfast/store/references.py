"""Finds the messages that others refer to: by replies, reactions, edits, deletions, and repeated requests."""

from __future__ import annotations

import json

from sqlalchemy import Column, ColumnElement, Connection, Table, select

from holdfast.delivery.content import Referred, text_of
from holdfast.delivery.message import MessageState
from holdfast.store.aliases import canonical
from holdfast.store.database import Database
from holdfast.store.tables import contacts, inbox, outbox, sessions

_OURS = "msg_"
"""Prefix of Holdfast's own message ids; WhatsApp's never have it."""


class ReferenceRows:
    """Implements `holdfast.delivery.media_stores.References`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, company: str, message_id: str, *, chat: str | None) -> Referred | None:
        if chat is None and not message_id.startswith(_OURS):
            return None

        def work(connection: Connection) -> Referred | None:
            name = None if chat is None else canonical(connection, company, chat)
            return _sent(connection, company, message_id, name) or _find_inbound(connection, company, message_id, name)

        return await self._database.read(work)

    async def canonical(self, company: str, chat: str) -> str:
        return await self._database.read(lambda connection: canonical(connection, company, chat))

    async def saved_contacts(self, company: str, *, limit: int) -> list[str]:
        saved = contacts.c.company_id == company, contacts.c.saved_name.is_not(None)
        statement = select(contacts.c.jid).where(*saved).order_by(contacts.c.jid).limit(limit)
        return await self._database.read(lambda connection: list(connection.scalars(statement)))

    async def replayed(self, company: str, key: str) -> tuple[str, str | None] | None:
        statement = select(outbox.c.id, outbox.c.request_hash).where(
            outbox.c.company_id == company, outbox.c.idempotency_key == key
        )

        def work(connection: Connection) -> tuple[str, str | None] | None:
            row = connection.execute(statement).first()
            return None if row is None else (row.id, row.request_hash)

        return await self._database.read(work)


def _which(table: Table, company: str, message_id: str, chat: str | None) -> ColumnElement[bool]:
    if message_id.startswith(_OURS):
        return (table.c.id == message_id) & (table.c.company_id == company)
    named: Column[str] = table.c.whatsapp_id
    return (table.c.company_id == company) & (table.c.chat == chat) & (named == message_id)


def _sent(connection: Connection, company: str, message_id: str, chat: str | None) -> Referred | None:
    columns = outbox.c["whatsapp_id", "chat", "kind", "content", "state", "sent_at"]
    statement = select(*columns, sessions.c.jid).join(sessions, sessions.c.company_id == outbox.c.company_id)
    row = connection.execute(statement.where(_which(outbox, company, message_id, chat))).first()
    if row is None:
        return None
    return Referred(
        whatsapp_id=row.whatsapp_id,
        chat=canonical(connection, company, row.chat),
        from_me=True,
        sender=_person(row.jid),
        kind=row.kind,
        text=text_of(json.loads(row.content)),
        state=MessageState(row.state),
        sent_at=row.sent_at,
    )


def _find_inbound(connection: Connection, company: str, message_id: str, chat: str | None) -> Referred | None:
    """Find an inbound message. Senders choose WhatsApp ids, so two messages of a chat may share one: take the later."""
    columns = inbox.c["seq", "whatsapp_id", "chat", "from_me", "sender", "type", "text", "sent_at"]
    found = connection.execute(select(*columns).where(_which(inbox, company, message_id, chat))).all()
    if not found:
        return None
    row = max(found, key=lambda each: int(each.seq))
    return Referred(
        whatsapp_id=row.whatsapp_id,
        chat=canonical(connection, company, row.chat),
        from_me=row.from_me,
        sender=_person(row.sender),
        kind=row.type,
        text=row.text,
        state=None,
        sent_at=row.sent_at,
    )


def _person(jid: str | None) -> str | None:
    """Return a person's JID without the device number."""
    if jid is None:
        return None
    user, _, server = jid.partition("@")
    return f"{user.split(':')[0]}@{server}"
