"""Up to which message a chat is read, here or on another device of the account."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, func, select, update

from holdfast.delivery.chats import QUIET
from holdfast.store.aliases import canonical
from holdfast.store.database import announce
from holdfast.store.events import NewEvents
from holdfast.store.tables import chats, inbox

_MAX_COUNTED = 1000
"""Unread messages that are counted again after some were read."""
_C, _I = chats.c, inbox.c


def unread_messages(company: str, chat: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions for messages that count as unread, wherever the chat was read to."""
    return _I.company_id == company, _I.chat == chat, _I.from_me.is_(False), _I.type.not_in(QUIET)


def read_up_to(connection: Connection, company: str, chat: str, up_to: int) -> None:
    """The messages of a chat up to this `seq` are read. An older position changes nothing."""
    mine = (_C.company_id == company, _C.chat == chat)
    read_seq = max(up_to, connection.scalar(select(_C.read_seq).where(*mine)) or 0)
    later = select(_I.seq).where(*unread_messages(company, chat), _I.seq > read_seq).limit(_MAX_COUNTED).subquery()
    left = connection.scalar(select(func.count()).select_from(later)) or 0
    connection.execute(update(chats).where(*mine).values(unread=left, read_seq=read_seq))
    announce(connection, NewEvents(company))


def read_elsewhere(connection: Connection, company: str, chat: str, whatsapp_ids: Collection[str]) -> None:
    """The account's owner read these messages, and all before them, on another device."""
    name = canonical(connection, company, chat)
    named = (_I.company_id == company, _I.chat == name, _I.whatsapp_id.in_(list(whatsapp_ids)))
    last = connection.scalar(select(func.max(_I.seq)).where(*named))
    if last is not None:
        read_up_to(connection, company, name, last)
