"""Merges the chats of one person's names, once WhatsApp says that they belong to one person.

What decides about later messages changes in one transaction with the alias: the queue of open messages, whether the
contact is known, and pending webhook deliveries. Two queues become one in the order of acceptance (`seq`), so a crash
leaves either both or the merged one. The history is moved in parts; `moved_at` is null until none is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, literal, select, update

from holdfast.session.contacts import HIDDEN, PERSON
from holdfast.store import outbox_queue as queue
from holdfast.store import search_index
from holdfast.store.admission import KnownChat
from holdfast.store.aliases import alias_of, canonical, is_used, other_spelling
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Prepared, insert
from holdfast.store.events import write_recorded
from holdfast.store.tables import (
    IS_HEAD,
    IS_OPEN,
    IS_PENDING,
    IS_UNMOVED,
    chat_aliases,
    chats,
    contacts,
    inbox,
    labelled,
    outbox,
    starred,
    webhook_deliveries,
)

MOVED_AT_ONCE = 100
"""Rows of history that one transaction moves."""

_A, _D, _O = chat_aliases.c, webhook_deliveries.c, outbox.c
_OPEN_HEAD = Prepared(
    lambda _: select(_O.seq).where(_O.company_id == bindparam("company"), _O.chat == bindparam("name"), IS_HEAD)
)


def admit(connection: Connection, company: str, known: KnownChat, *, now: str) -> str:
    """Return the canonical id of the chat that a message is accepted for.

    The second spelling of a number becomes another name of the first one that was used, so that both stand in one
    queue before WhatsApp was asked. Call after `lock_company`.
    """
    jid = known.chat
    if not jid.endswith((PERSON, HIDDEN)):
        return jid
    if known.canonical is not None:
        return known.canonical
    other = other_spelling(jid)
    if other is None and known.mapping is None:
        return jid
    chat = canonical(connection, company, jid)
    if chat != jid:
        join(connection, company, alias=jid, chat=chat, now=now)
    elif other is not None and _is_free(connection, company, other):
        _name(connection, company, alias=other, chat=jid, moved_at=now)
    return chat


def _is_free(connection: Connection, company: str, jid: str) -> bool:
    return alias_of(connection, company, jid) is None and not is_used(connection, company, jid)


def join(connection: Connection, company: str, *, alias: str, chat: str, now: str) -> None:
    """WhatsApp says that `alias` is another name of the person whose canonical id is `chat`."""
    if alias == chat or (before := alias_of(connection, company, alias)) == chat:
        return
    lock_company(connection, company)
    if (other := alias_of(connection, company, chat)) is not None:
        # The other spelling was used first: now WhatsApp says which one is canonical.
        _unname(connection, company, chat)
        if other != alias:
            join(connection, company, alias=other, chat=chat, now=now)
    if alias.endswith(HIDDEN):
        _forget_former_ids(connection, company, alias=alias, chat=chat)
    if before is None:
        repointed = update(chat_aliases).where(_A.company_id == company, _A.chat == alias)
        connection.execute(repointed.values(chat=chat))
        _move_open(connection, company, alias, chat, now=now)
    is_moved = before is not None or move_history(connection, company, alias, chat)
    _name(connection, company, alias=alias, chat=chat, moved_at=now if is_moved else None)


def _forget_former_ids(connection: Connection, company: str, *, alias: str, chat: str) -> None:
    """The number belongs to another hidden id now: the account that had it before is somebody else."""
    former = select(_A.alias).where(_A.company_id == company, _A.chat == chat, _A.alias != alias)
    for name in connection.scalars(former).all():
        if name.endswith(HIDDEN):
            _unname(connection, company, name)


def _name(connection: Connection, company: str, *, alias: str, chat: str, moved_at: str | None) -> None:
    row = insert(connection, chat_aliases).values(company_id=company, alias=alias, chat=chat, moved_at=moved_at)
    changed = {"chat": chat, "moved_at": moved_at}
    connection.execute(row.on_conflict_do_update(index_elements=["company_id", "alias"], set_=changed))


def _unname(connection: Connection, company: str, alias: str) -> None:
    connection.execute(delete(chat_aliases).where(_A.company_id == company, _A.alias == alias))


def _move_open(connection: Connection, company: str, alias: str, chat: str, *, now: str) -> None:
    _move_known(connection, company, alias, chat)
    _move_contact(connection, company, alias, chat)
    _move_marks(connection, company, alias, chat)
    _move_queue(connection, company, alias, chat, now=now)
    _move_deliveries(connection, company, alias, chat)


def _move_known(connection: Connection, company: str, alias: str, chat: str) -> None:
    """Merge two rows into one: the earlier first contact, the later last message, and the unread messages of both."""
    both = (chats.c.company_id == company, chats.c.chat.in_([alias, chat]))
    rows = connection.execute(select(chats).where(*both)).mappings().all()
    if all(row["chat"] == chat for row in rows):
        return
    newest = max(rows, key=lambda row: (row["last_at"] or "", row["chat"] == chat))
    timed = max(rows, key=lambda row: (row["disappearing_set_at"] or "", row["disappearing_s"] or 0))
    merged = {
        **newest,
        **{name: _earliest(rows, name) for name in ("first_sent_at", "first_received_at", "pinned_at")},
        **{name: timed[name] for name in ("disappearing_s", "disappearing_set_at")},
        "muted_until": max(row["muted_until"] or "" for row in rows) or None,
        "is_archived": all(row["is_archived"] for row in rows),
        "unread": sum(max(row["unread"], 0) for row in rows) or min(row["unread"] for row in rows),
        "read_seq": max(row["read_seq"] for row in rows),
    }
    connection.execute(delete(chats).where(*both))
    connection.execute(insert(connection, chats).values({**merged, "chat": chat}))


def _earliest(rows: Sequence[RowMapping], name: str) -> str | None:
    return min((row[name] for row in rows if row[name] is not None), default=None)


def _move_contact(connection: Connection, company: str, alias: str, chat: str) -> None:
    """Fill what is not known under the canonical id with what was known under the other one."""
    names = ("number", "lid", "username", "push_name", "saved_name", "business_name")
    both = (contacts.c.company_id == company, contacts.c.jid.in_([alias, chat]))
    rows = {row["jid"]: row for row in connection.execute(select(contacts).where(*both)).mappings()}
    if alias not in rows:
        return
    old, kept = rows[alias], rows.get(chat)
    merged = {name: old[name] if kept is None or kept[name] is None else kept[name] for name in names}
    merged["number"] = chat.removesuffix(PERSON) if chat.endswith(PERSON) else None
    connection.execute(delete(contacts).where(*both))
    connection.execute(
        insert(connection, contacts).values(company_id=company, jid=chat, updated_at=old["updated_at"], **merged)
    )


def _move_marks(connection: Connection, company: str, alias: str, chat: str) -> None:
    """Move labels and stars to the merged chat."""
    for table, names in ((labelled, ("label_id", "whatsapp_id")), (starred, ("whatsapp_id", "starred_at"))):
        mine = (table.c.company_id == company, table.c.chat == alias)
        rows = connection.execute(select(*table.c[names]).where(*mine)).mappings().all()
        if rows:
            moved = [{"company_id": company, "chat": chat, **row} for row in rows]
            connection.execute(insert(connection, table).on_conflict_do_nothing(), moved)
            connection.execute(delete(table).where(*mine))


def _move_queue(connection: Connection, company: str, alias: str, chat: str, *, now: str) -> None:
    """Merge two queues: the older of the two heads is the head, and messages follow in the order of acceptance. A
    message that is no longer the head keeps its state: when it is in flight, its ack still counts.
    """
    heads = [_OPEN_HEAD.scalar(connection, {"company": company, "name": name}) for name in (alias, chat)]
    if heads[0] is None:
        return
    if heads[1] is not None:
        later = update(outbox).where(_O.seq == max(heads))
        connection.execute(later.values(next_at=None, lane=None, held_code=None, held_until=None))
    moved = update(outbox).where(_O.company_id == company, _O.chat == alias, IS_OPEN)
    connection.execute(moved.values(chat=chat))
    queue.chats_became_one(connection, company, chat, now=now)


def _move_deliveries(connection: Connection, company: str, alias: str, chat: str) -> None:
    """Only the first pending delivery of a chat, its head, has a due time."""
    write_recorded(connection)  # those of this transaction are moved, too
    pending = (_D.company_id == company, IS_PENDING)
    moved = update(webhook_deliveries).where(*pending, _D.chat == alias)
    if not connection.execute(moved.values(chat=chat)).rowcount:
        return
    heads = select(_D.event_seq, _D.next_at).where(*pending, _D.chat == chat, _D.next_at.is_not(None))
    due = connection.execute(heads.order_by(_D.event_seq)).all()
    connection.execute(
        update(webhook_deliveries).where(_D.event_seq.in_([seq for seq, _ in due[1:]])).values(next_at=None)
    )


def move_history(connection: Connection, company: str, alias: str, chat: str) -> bool:
    """Move a part of what is stored under another name; returns whether nothing is left."""
    settled = select(_O.seq).where(_O.company_id == company, _O.chat == alias).limit(MOVED_AT_ONCE)
    numbers = connection.scalars(settled).all()
    if numbers:
        connection.execute(update(outbox).where(_O.seq.in_(numbers)).values(chat=chat))
    mine = (inbox.c.company_id == company, inbox.c.chat == alias)
    rows = connection.execute(select(inbox).where(*mine).order_by(inbox.c.seq).limit(MOVED_AT_ONCE)).mappings().all()
    for row in rows:
        _move_received(connection, dict(row), alias, chat)
    return max(len(numbers), len(rows)) < MOVED_AT_ONCE


def _move_received(connection: Connection, row: dict[str, Any], alias: str, chat: str) -> None:
    """Move an inbound message. One that WhatsApp repeated under the canonical id is already there."""
    table = inbox.c
    sender = chat if row["sender"] == alias else row["sender"]
    same = (table.company_id == row["company_id"], table.chat == chat, table.whatsapp_id == row["whatsapp_id"])
    if connection.scalar(select(literal(1)).where(*same, table.sender == sender)) is not None:
        connection.execute(delete(inbox).where(table.seq == row["seq"]))
        return
    connection.execute(update(inbox).where(table.seq == row["seq"]).values(chat=chat, sender=sender))
    search_index.replace(connection, inbox, {**row, "chat": chat, "sender": sender})


def move_rest(connection: Connection, *, now: str) -> bool:
    """Move a part of the history of one chat that is still under another name; returns whether there was any."""
    unmoved = select(chat_aliases).where(IS_UNMOVED).limit(1)
    row = connection.execute(unmoved).mappings().first()
    if row is None:
        return False
    company, alias = row["company_id"], row["alias"]
    if move_history(connection, company, alias, row["chat"]):
        connection.execute(update(chat_aliases).where(_A.company_id == company, _A.alias == alias).values(moved_at=now))
    return True
