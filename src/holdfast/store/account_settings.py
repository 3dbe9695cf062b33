"""The account's settings as rows: chats, contacts, labels, stars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, case, delete, func, select, update

from holdfast.base.clock import iso
from holdfast.delivery.chats import MARKED_UNREAD
from holdfast.delivery.labels import Label, StoredMessage
from holdfast.session.account_changes import (
    FOREVER_S,
    AnyAccountChange,
    ChatChanged,
    ChatRead,
    ContactSaved,
    LabelChanged,
    Labelled,
    PersonNamed,
    Starred,
)
from holdfast.session.contacts import HIDDEN, PERSON, Identity
from holdfast.store.aliases import canonical
from holdfast.store.chat_reading import read_elsewhere
from holdfast.store.connection import Insert, Prepared, insert
from holdfast.store.database import Database
from holdfast.store.identities import learn
from holdfast.store.tables import chats, contacts, inbox, labelled, labels, starred

FOREVER = "9999-12-31T23:59:59.999Z"
"""Stored in place of a time that never comes."""
_CHATS_AT_ONCE = 500


def _timer(insert: Callable[[Table], Any]) -> Insert:
    row: Insert = insert(chats)
    names = ("disappearing_s", "disappearing_set_at")
    return row.on_conflict_do_update(
        index_elements=["company_id", "chat"],
        set_={name: row.excluded[name] for name in names},
        where=func.coalesce(chats.c.disappearing_set_at, "") <= row.excluded.disappearing_set_at,
    )


_SET_TIMER = Prepared(_timer)
_LABEL = Prepared(
    lambda insert: (row := insert(labels)).on_conflict_do_update(
        index_elements=["company_id", "id"], set_={"name": row.excluded.name, "color": row.excluded.color}
    )
)
_ATTACH = Prepared(lambda insert: insert(labelled).on_conflict_do_nothing())
_STAR = Prepared(lambda insert: insert(starred).on_conflict_do_nothing())


def apply_changes(connection: Connection, company: str, changes: Sequence[AnyAccountChange], *, now: str) -> None:
    """Apply changes of the account's settings, in order."""
    for change in changes:
        match change:
            case ChatChanged():
                _change_chat(connection, company, change)
                set_timer(connection, company, change, now=now)
            case ChatRead():
                read_elsewhere(connection, company, change.chat, change.whatsapp_ids)
            case LabelChanged():
                _change_label(connection, company, change)
            case Labelled():
                chat = canonical(connection, company, change.chat)
                row = {"company_id": company, "label_id": change.label, "chat": chat}
                _toggle(connection, labelled, _ATTACH, row | {"whatsapp_id": change.whatsapp_id or ""}, on=change.on)
            case Starred():
                chat = canonical(connection, company, change.chat)
                row = {"company_id": company, "chat": chat, "whatsapp_id": change.whatsapp_id}
                _toggle(connection, starred, _STAR, row, on=change.on, starred_at=now)
            case PersonNamed():
                if change.chat.endswith((PERSON, HIDDEN)):
                    learn(connection, company, Identity(jid=change.chat, push_name=change.push_name), now=now)
            case ContactSaved():
                _save_contact(connection, company, change, now)


def _change_chat(connection: Connection, company: str, change: ChatChanged) -> None:
    values: dict[str, Any] = {}
    if change.archived is not None:
        values["is_archived"] = change.archived
    if change.muted_until_s is not None:
        values["muted_until"] = _time(change.muted_until_s)
    if change.pinned_at_s is not None:
        values["pinned_at"] = _time(change.pinned_at_s)
    changed = values
    if change.unread is True:
        values = values | {"unread": MARKED_UNREAD}
        changed = values | {"unread": case((chats.c.unread == 0, MARKED_UNREAD), else_=chats.c.unread)}
    elif change.unread is False:
        read_seq = case((chats.c.last_is_sent, chats.c.read_seq), else_=chats.c.last_seq)
        changed = values | {"unread": 0, "read_seq": case((chats.c.last_seq.is_(None), 0), else_=read_seq)}
    if not changed:
        return
    chat = canonical(connection, company, change.chat)
    row = insert(connection, chats).values(company_id=company, chat=chat, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["company_id", "chat"], set_=changed))


def set_timer(connection: Connection, company: str, change: ChatChanged, *, now: str) -> None:
    """Set the chat's timer of disappearing messages, unless a later setting is stored."""
    if change.disappearing_s is None:
        return
    set_at = now if change.timer_set_at_s is None else min(iso(datetime.fromtimestamp(change.timer_set_at_s, UTC)), now)
    chat = canonical(connection, company, change.chat)
    timer = {"disappearing_s": change.disappearing_s or None, "disappearing_set_at": set_at}
    _SET_TIMER.rows(connection, {"company_id": company, "chat": chat, **timer})


def _save_contact(connection: Connection, company: str, change: ContactSaved, now: str) -> None:
    if not change.chat.endswith((PERSON, HIDDEN)):
        return
    identity = Identity(jid=change.chat, lid=change.lid, username=change.username, saved_name=change.saved_name or None)
    jid = learn(connection, company, identity, now=now)
    if not change.saved_name:
        mine = (contacts.c.company_id == company, contacts.c.jid == jid)
        connection.execute(update(contacts).where(*mine).values(saved_name=None, updated_at=now))


def _change_label(connection: Connection, company: str, change: LabelChanged) -> None:
    if change.name is not None:
        row = {"company_id": company, "id": change.label, "name": change.name, "color": change.color}
        _LABEL.rows(connection, row)
        return
    connection.execute(delete(labels).where(labels.c.company_id == company, labels.c.id == change.label))
    connection.execute(delete(labelled).where(labelled.c.company_id == company, labelled.c.label_id == change.label))


def _toggle(
    connection: Connection, table: Any, add: Prepared, row: dict[str, Any], *, on: bool, **more: object
) -> None:
    if on:
        add.rows(connection, row | more)
    else:
        connection.execute(delete(table).where(*(table.c[name] == value for name, value in row.items())))


def _time(seconds: int) -> str | None:
    if seconds == FOREVER_S:
        return FOREVER
    return iso(datetime.fromtimestamp(seconds, UTC)) if seconds else None


_LABELS_OF = Prepared(
    lambda _: select(labelled.c.chat, labelled.c.label_id).where(
        labelled.c.company_id == bindparam("company"),
        labelled.c.chat.in_(bindparam("chats", expanding=True)),
        labelled.c.whatsapp_id == "",
    )
)


class AccountSettingRows:
    """Implements `holdfast.delivery.labels.Labels`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def labels_of(self, company: str, chats: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return await self._database.read(lambda connection: labels_of(connection, company, chats))

    async def labels(self, company: str) -> list[Label]:
        mine = labels.c.company_id == company
        statement = select(*labels.c["id", "name", "color"]).where(mine).order_by(labels.c.id)

        def work(connection: Connection) -> list[Label]:
            return [Label(id=row.id, name=row.name, color=row.color) for row in connection.execute(statement)]

        return await self._database.read(work)

    async def oldest_in(self, company: str, chat: str) -> StoredMessage | None:
        columns = inbox.c["whatsapp_id", "from_me", "sent_at"]

        def work(connection: Connection) -> StoredMessage | None:
            mine = (inbox.c.company_id == company, inbox.c.chat == canonical(connection, company, chat))
            first = select(*columns).where(*mine).order_by(inbox.c.sent_at, inbox.c.seq).limit(1)
            row = connection.execute(first).first()
            if row is None:
                return None
            at_s = int(datetime.fromisoformat(row.sent_at).timestamp())
            return StoredMessage(id=row.whatsapp_id, from_me=row.from_me, at_s=at_s)

        return await self._database.read(work)

    async def chats_with(self, company: str, label: str, *, after: str, limit: int) -> list[str]:
        mine = select(labelled.c.chat).where(
            labelled.c.company_id == company,
            labelled.c.label_id == label,
            labelled.c.chat > after,
            labelled.c.whatsapp_id == "",
        )

        def work(connection: Connection) -> list[str]:
            return list(connection.scalars(mine.order_by(labelled.c.chat).limit(limit)))

        return await self._database.read(work)


def labels_of(connection: Connection, company: str, chats: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The label ids of each of these chats that has labels."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(chats), _CHATS_AT_ONCE):
        wanted = {"company": company, "chats": list(chats[start : start + _CHATS_AT_ONCE])}
        for chat, label in connection.execute(_LABELS_OF.on(connection), wanted):
            found.setdefault(chat, []).append(label)
    return {chat: tuple(sorted(ids)) for chat, ids in found.items()}
