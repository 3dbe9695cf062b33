"""Keeps the overview of chats, in the transaction of the message that changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, func

from holdfast.delivery.chats import FOLDED, QUIET
from holdfast.delivery.recipient import STATUS
from holdfast.store.connection import Insert, Prepared
from holdfast.store.tables import chats

_LAST = ("last_at", "last_seq", "last_is_sent")


def _upsert(insert: Callable[[Table], Any], changes: Callable[[Insert], dict[str, ColumnElement[Any]]]) -> Insert:
    """Build an upsert that keeps the newest message as the last one, and makes these changes."""
    row: Insert = insert(chats)
    is_newer = func.coalesce(chats.c.last_at, "") <= row.excluded.last_at
    last = {name: case((is_newer, row.excluded[name]), else_=chats.c[name]) for name in _LAST}
    return row.on_conflict_do_update(index_elements=["company_id", "chat"], set_={**last, **changes(row)})


def _counted(_: Insert) -> dict[str, ColumnElement[Any]]:
    return {"unread": case((chats.c.unread > 0, chats.c.unread), else_=0) + 1}


def _read_on_phone(row: Insert) -> dict[str, ColumnElement[Any]]:
    return {"unread": row.excluded.unread, "read_seq": row.excluded.read_seq}


_STORED = Prepared(lambda insert: _upsert(insert, lambda _: {}))
_COUNTED = Prepared(lambda insert: _upsert(insert, _counted))
_OWN = Prepared(lambda insert: _upsert(insert, _read_on_phone))


def is_shown(kind: str, chat: str) -> bool:
    """Whether a message of this kind appears in its chat."""
    return kind not in QUIET and chat != STATUS


def note_sent(connection: Connection, company: str, chat: str, *, kind: str, seq: int, at: str) -> None:
    """An outbound message was accepted."""
    if is_shown(kind, chat):
        row = {"company_id": company, "chat": chat, "last_at": at, "last_seq": seq, "last_is_sent": True}
        _STORED.rows(connection, row)


def note_received(connection: Connection, message: Mapping[str, Any], *, at: str, counts: bool = True) -> None:
    """An inbound message was stored: `message` is its row, `at` its time in the timeline.

    A message that the account's owner sent on the phone was written in an open chat, so everything before it was read.
    counts: whether it is unread; False for history.
    """
    if not is_shown(message["type"], message["chat"]):
        return
    row = {
        "company_id": message["company_id"],
        "chat": message["chat"],
        "last_at": at,
        "last_seq": message["seq"],
        "last_is_sent": False,
    }
    if not counts:
        _STORED.rows(connection, row)
    elif message["from_me"]:
        _OWN.rows(connection, {**row, "unread": 0, "read_seq": message["seq"]})
    else:
        _COUNTED.rows(connection, {**row, "unread": 1})


def note_stored(connection: Connection, company: str, chat: str, *, seq: int, at: str, is_sent: bool) -> None:
    """A message that an older version stored. Uses no column that is newer than the overview itself."""
    if chat != STATUS:
        row = {"company_id": company, "chat": chat, "last_at": at, "last_seq": seq, "last_is_sent": is_sent}
        _STORED.rows(connection, row)


def target_of(kind: str, content: dict[str, Any]) -> str | None:
    """WhatsApp id of the message that an outbound reaction, edit or deletion refers to."""
    body = content.get(kind)
    found = body.get("whatsappId") if kind in FOLDED and isinstance(body, dict) else None
    return found if isinstance(found, str) else None
