"""Reactions, edits and deletions, which change what is shown of other messages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, RowMapping, func, select

from holdfast.delivery.chats import FOLDED, Change, SentEntry, TimelineMessage
from holdfast.delivery.content import text_of
from holdfast.store.connection import among
from holdfast.store.inbox import RECEIVED_SIZE, sender_name, senders_of
from holdfast.store.tables import inbox, outbox

SENT_SIZE: ColumnElement[int] = func.length(outbox.c.content)
"""The number of characters of an outbound message."""
_I, _O = inbox.c, outbox.c

MessageKey = tuple[str, str]
"""Chat and WhatsApp id of a message."""


def message_key(message: TimelineMessage) -> MessageKey:
    shown = message.message if isinstance(message, SentEntry) else message
    return shown.chat, shown.whatsapp_id


_Newest = dict[tuple[Any, ...], tuple[int, int]]
"""The newest changes, by chat and WhatsApp id of the message and what else they differ in: `seq`, and characters."""
NewestChanges = tuple[_Newest, _Newest]
"""Those that were sent, and those that arrived."""


def changes_of(
    connection: Connection, company: str, messages: Sequence[TimelineMessage], newest: NewestChanges
) -> dict[MessageKey, list[Change]]:
    """The reactions, edits and deletions of these messages, by the message."""
    wanted = {message_key(each) for each in messages}
    sent, arrived = (
        [seq for (chat, target, *_), (seq, _) in each.items() if (chat, target) in wanted] for each in newest
    )
    found: dict[MessageKey, list[Change]] = {}
    for key, change in (*_sent_changes(connection, sent), *_arrived_changes(connection, company, arrived)):
        found.setdefault(key, []).append(change)
    return found


def newest_changes(connection: Connection, company: str, keys: Collection[MessageKey]) -> NewestChanges:
    if not keys:
        return {}, {}
    return (
        _newest(connection, _O, company, keys, SENT_SIZE, [_O.kind]),
        _newest(connection, _I, company, keys, RECEIVED_SIZE, [_I.type, _I.sender, _I.from_me]),
    )


def _newest(
    connection: Connection,
    table: Any,
    company: str,
    keys: Collection[MessageKey],
    size: ColumnElement[int],
    by: Sequence[Column[Any]],
) -> _Newest:
    """Only the last edit counts, and anybody may edit a message thousands of times. So no texts are read here."""
    chats_, ids = {chat for chat, _ in keys}, {id_ for _, id_ in keys}
    mine = (table.company_id == company, among(connection, table.chat, chats_), among(connection, table.target, ids))
    newest: _Newest = {}
    for seq, chars, *key in connection.execute(select(table.seq, size, table.chat, table.target, *by).where(*mine)):
        if (key[0], key[1]) in keys:
            newest[tuple(key)] = max((seq, chars), newest.get(tuple(key), (0, 0)))
    return newest


def _sent_changes(connection: Connection, numbers: Sequence[int]) -> Iterable[tuple[MessageKey, Change]]:
    columns = outbox.c["chat", "target", "kind", "content", "accepted_at"]
    rows = connection.execute(select(*columns).where(among(connection, _O.seq, numbers))) if numbers else ()
    for row in rows:
        body = json.loads(row.content).get(row.kind, {})
        shown_text = body.get("emoji") if row.kind == "reaction" else text_of(body)
        yield (
            (row.chat, row.target),
            Change(
                target=row.target,
                type=row.kind,
                sender=None,
                sender_name=None,
                from_me=True,
                at=row.accepted_at,
                text=shown_text,
            ),
        )


def _arrived_changes(
    connection: Connection, company: str, numbers: Sequence[int]
) -> Iterable[tuple[MessageKey, Change]]:
    if not numbers:
        return
    columns = inbox.c["chat", "target", "type", "content", "text", "sender", "push_name", "from_me", "stored_at"]
    statement = select(*columns).where(among(connection, _I.seq, numbers), _I.type.in_(FOLDED))
    rows = connection.execute(statement).mappings().all()
    senders = senders_of(connection, company, rows)
    for row in rows:
        yield (row["chat"], row["target"]), _change(row, sender_name(row, senders))


def _change(row: RowMapping, name: str | None) -> Change:
    content = {} if row["content"] is None else json.loads(row["content"])
    shown_text = content.get("reaction", {}).get("emoji") if row["type"] == "reaction" else row["text"]
    return Change(
        target=row["target"],
        type=row["type"],
        sender=row["sender"],
        sender_name=name,
        from_me=row["from_me"],
        at=row["stored_at"],
        text=shown_text,
    )


def sizes_of_changes(newest: NewestChanges) -> Counter[MessageKey]:
    """The number of characters of the changes of each message."""
    sizes: Counter[MessageKey] = Counter()
    for of_direction in newest:
        for (chat, target, *_), (_, chars) in of_direction.items():
            sizes[chat, target] += chars
    return sizes
