"""Chats as people see them, read from the overview, the outbox and the inbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, case, select, update

from holdfast.delivery.chats import (
    END,
    FOLDED,
    MARKED_UNREAD,
    MAX_UNREAD,
    Chat,
    ChatCursor,
    ChatsPage,
    Entry,
    Names,
    SentEntry,
    TimelineCursor,
    TimelineMessage,
    TimelinePage,
    TimelineSlice,
    fold,
    newer_page,
    older_page,
)
from holdfast.delivery.page import rows_in_page
from holdfast.delivery.stores import Received
from holdfast.session.contacts import HIDDEN, PERSON
from holdfast.store.aliases import canonical
from holdfast.store.chat_reading import read_up_to, unread_messages
from holdfast.store.connection import among
from holdfast.store.database import Database, announce
from holdfast.store.events import NewEvents
from holdfast.store.inbox import RECEIVED, RECEIVED_SIZE, received, subjects_of
from holdfast.store.message_changes import (
    SENT_SIZE,
    NewestChanges,
    changes_of,
    message_key,
    newest_changes,
    sizes_of_changes,
)
from holdfast.store.message_rows import READ, message_of
from holdfast.store.tables import IS_UNREAD, chat_aliases, chats, contacts, groups, inbox, outbox, sessions

_SENT = (*READ, outbox.c.content)
_SEARCHED_AT_ONCE = 1000
_MAX_SEARCHED = 5000
"""Chats whose names one page of a search compares, however many there are."""
_A, _C, _I, _O, _P = chat_aliases.c, chats.c, inbox.c, outbox.c, contacts.c


class ChatRows:
    """Implements `holdfast.delivery.chats.Chats`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def overview(
        self, company: str, *, after: ChatCursor | None, limit: int, unread: bool = False, words: str = ""
    ) -> ChatsPage:
        def work(connection: Connection) -> ChatsPage:
            if words:
                return _searched(connection, company, words, after=after, limit=limit, unread=unread)
            rows = _page(connection, company, after=after, limit=limit + 1, unread=unread)
            next_ = _place(rows[limit - 1]) if len(rows) > limit else None
            return ChatsPage(chats=_chats(connection, company, rows[:limit]), next=next_)

        return await self._database.read(work)

    async def chat(self, company: str, chat: str) -> Chat | None:
        def work(connection: Connection) -> Chat | None:
            mine = select(chats).where(_C.company_id == company, _C.chat == canonical(connection, company, chat))
            found = _chats(connection, company, connection.execute(mine).mappings().all())
            return found[0] if found else None

        return await self._database.read(work)

    async def names(self, company: str, jids: Sequence[str]) -> Mapping[str, Names]:
        return await self._database.read(lambda connection: names_of(connection, company, jids))

    async def timeline(
        self,
        company: str,
        chat: str,
        *,
        before: TimelineCursor | None = None,
        after: TimelineCursor | None = None,
        limit: int,
    ) -> TimelinePage:
        def work(connection: Connection) -> TimelinePage:
            name = canonical(connection, company, chat)
            found, newest = _slice(connection, company, name, before=before or END, after=after, limit=limit)
            changes, own = changes_of(connection, company, found.messages, newest), _own(connection, company)
            entries = [fold(each, changes.get(message_key(each), ()), own=own) for each in found.messages]
            return TimelinePage(entries=entries, older=found.older, newer=found.newer, has_newer=found.has_newer)

        return await self._database.read(work)

    async def unread(self, company: str, chat: str) -> list[Received]:
        def work(connection: Connection) -> list[Received]:
            name = canonical(connection, company, chat)
            after = connection.scalar(select(_C.read_seq).where(_C.company_id == company, _C.chat == name)) or 0
            statement = select(*RECEIVED).where(*unread_messages(company, name), _I.seq > after)
            newest = _received(connection, company, statement.order_by(_I.seq.desc()).limit(MAX_UNREAD))
            return newest[::-1]

        return await self._database.read(work)

    async def set_read(self, company: str, chat: str, *, up_to: int) -> None:
        def work(connection: Connection) -> None:
            read_up_to(connection, company, canonical(connection, company, chat), up_to)

        await self._database.write(work, company=company)

    async def set_unread(self, company: str, chat: str) -> bool:
        marked = case((_C.unread > 0, _C.unread), else_=MARKED_UNREAD)

        def work(connection: Connection) -> bool:
            mine = (_C.company_id == company, _C.chat == canonical(connection, company, chat))
            changed = connection.execute(update(chats).where(*mine).values(unread=marked)).rowcount
            announce(connection, NewEvents(company))
            return bool(changed)

        return await self._database.write(work, company=company)


# The overview.


def _page(
    connection: Connection, company: str, *, after: ChatCursor | None, limit: int, unread: bool
) -> Sequence[RowMapping]:
    return connection.execute(_older(select(chats), company, after, unread=unread).limit(limit)).mappings().all()


def _place(row: RowMapping) -> ChatCursor:
    return ChatCursor(chat=row["chat"], last_at=row["last_at"])


_NAMED = (
    select(
        _C.chat,
        _C.last_at,
        *contacts.c["saved_name", "push_name", "business_name", "username"],
        groups.c.subject,
    )
    .outerjoin(contacts, (_P.company_id == _C.company_id) & (_P.jid == _C.chat))
    .outerjoin(groups, (groups.c.company_id == _C.company_id) & (groups.c.jid == _C.chat))
)


def _older(statement: Select[Any], company: str, after: ChatCursor | None, *, unread: bool) -> Select[Any]:
    """The chats after a cursor, that with the newest message first."""
    statement = statement.where(_C.company_id == company)
    if unread:
        statement = statement.where(IS_UNREAD)
    if after is None:
        statement = statement.where(_C.last_at > "")
    else:
        is_older = (_C.last_at < after.last_at) | (_C.chat < after.chat)
        statement = statement.where(_C.last_at <= after.last_at, is_older)
    return statement.order_by(_C.last_at.desc(), _C.chat.desc())


def _searched(
    connection: Connection, company: str, words: str, *, after: ChatCursor | None, limit: int, unread: bool
) -> ChatsPage:
    """Compare in Python, because databases fold the case of few scripts only. Of each chat only the names are read."""
    wanted = words.casefold().lstrip("+@")
    found: list[ChatCursor] = []
    for _ in range(0, _MAX_SEARCHED, _SEARCHED_AT_ONCE):
        rows = connection.execute(_older(_NAMED, company, after, unread=unread).limit(_SEARCHED_AT_ONCE)).all()
        found += [
            ChatCursor(chat=chat, last_at=last_at)
            for chat, last_at, *names in rows
            if wanted in "\n".join(filter(None, (chat, *names))).casefold()
        ]
        is_end = len(rows) < _SEARCHED_AT_ONCE
        after = None if is_end else ChatCursor(chat=rows[-1][0], last_at=rows[-1][1])
        if is_end or len(found) > limit:
            break
    shown = found[:limit]
    names = [each.chat for each in shown]
    chosen = select(chats).where(_C.company_id == company, among(connection, _C.chat, names))
    by_chat = {row["chat"]: row for row in connection.execute(chosen).mappings()} if names else {}
    rows_shown = [by_chat[name] for name in names]
    return ChatsPage(chats=_chats(connection, company, rows_shown), next=shown[-1] if len(found) > limit else after)


def _chats(connection: Connection, company: str, rows: Sequence[RowMapping]) -> list[Chat]:
    names = names_of(connection, company, [row["chat"] for row in rows])
    last = _last_messages(connection, company, rows)
    return [
        Chat(
            chat=row["chat"],
            names=names[row["chat"]],
            last_at=row["last_at"],
            last=last.get((row["last_is_sent"], row["last_seq"])),
            unread=row["unread"],
            pinned_at=row["pinned_at"],
            is_archived=row["is_archived"],
            muted_until=row["muted_until"],
            disappearing_s=row["disappearing_s"] if row["chat"].endswith((PERSON, HIDDEN)) else None,
        )
        for row in rows
    ]


def _last_messages(
    connection: Connection, company: str, rows: Sequence[RowMapping]
) -> dict[tuple[bool, int | None], Entry]:
    sent = [row["last_seq"] for row in rows if row["last_is_sent"]]
    arrived = [row["last_seq"] for row in rows if not row["last_is_sent"] and row["last_seq"] is not None]
    found: list[tuple[bool, int, TimelineMessage]] = []
    if sent:
        of_outbox = _sent(connection, select(*_SENT).where(among(connection, _O.seq, sent)))
        found += [(True, each.message.seq, each) for each in of_outbox]
    if arrived:
        of_inbox = _received(connection, company, select(*RECEIVED).where(among(connection, _I.seq, arrived)))
        found += [(False, each.seq, each) for each in of_inbox]
    messages = [each for _, _, each in found]
    newest = newest_changes(connection, company, {message_key(each) for each in messages})
    changes = changes_of(connection, company, messages, newest)
    own = _own(connection, company)
    return {(is_sent, seq): fold(each, changes.get(message_key(each), ()), own=own) for is_sent, seq, each in found}


def names_of(connection: Connection, company: str, jids: Sequence[str]) -> Mapping[str, Names]:
    """What is known of the names of these chats or people, who may have any of their JIDs."""
    subjects = subjects_of(connection, company, jids)
    people = [jid for jid in jids if jid.endswith((PERSON, HIDDEN))]
    named = select(_A.alias, _A.chat).where(_A.company_id == company, among(connection, _A.alias, people))
    aliases = {row.alias: row.chat for row in connection.execute(named)} if people else {}
    wanted = list({aliases.get(jid, jid) for jid in people})
    mine = select(contacts).where(_P.company_id == company, among(connection, _P.jid, wanted))
    known = {row["jid"]: row for row in connection.execute(mine).mappings()} if wanted else {}
    canonical_of = {jid: aliases.get(jid, jid) for jid in jids}
    return {jid: _names(name, known.get(name), subjects.get(jid)) for jid, name in canonical_of.items()}


def _names(jid: str, contact: RowMapping | None, subject: str | None) -> Names:
    number = jid.removesuffix(PERSON) if jid.endswith(PERSON) else None
    if contact is None:
        return Names(subject=subject, number=number)
    return Names(
        saved=contact["saved_name"],
        push=contact["push_name"],
        business=contact["business_name"],
        username=contact["username"],
        number=number,
    )


# Timelines.


def _slice(
    connection: Connection,
    company: str,
    chat: str,
    *,
    before: TimelineCursor,
    after: TimelineCursor | None,
    limit: int,
) -> tuple[TimelineSlice, NewestChanges]:
    """One page, and the newest changes of its messages."""
    sent = select(*_SENT).where(_O.company_id == company, _O.chat == chat, _O.kind.not_in(FOLDED))
    came = select(*RECEIVED).where(_I.company_id == company, _I.chat == chat, _I.type.not_in(FOLDED))
    if after is None:
        sent = sent.where(_O.seq < before.sent).order_by(_O.seq.desc())
        is_older = (_I.sent_at < before.received_at) | (_I.seq < before.received)
        came = came.where(_I.sent_at <= before.received_at, is_older).order_by(_I.sent_at.desc(), _I.seq.desc())
    else:
        sent = sent.where(_O.seq >= after.sent).order_by(_O.seq)
        is_newer = (_I.sent_at > after.received_at) | (_I.seq >= after.received)
        came = came.where(_I.sent_at >= after.received_at, is_newer).order_by(_I.sent_at, _I.seq)
    sizes_sent, sizes_came = _sizes(connection, sent, SENT_SIZE, limit), _sizes(connection, came, RECEIVED_SIZE, limit)
    limit = _messages_in_page(sizes_sent, sizes_came, limit)
    mine = _sent(connection, sent.limit(limit + 1))
    theirs = _received(connection, company, came.limit(limit + 1))
    newest = newest_changes(connection, company, {*map(message_key, mine), *map(message_key, theirs)})
    changes = sizes_of_changes(newest)
    sizes_sent = [size + changes[message_key(each)] for each, size in zip(mine, sizes_sent, strict=False)]
    sizes_came = [size + changes[message_key(each)] for each, size in zip(theirs, sizes_came, strict=False)]
    limit = _messages_in_page(sizes_sent, sizes_came, limit)
    if after is None:
        return older_page(mine, theirs, before=before, limit=limit), newest
    return newer_page(mine, theirs, after=after, limit=limit), newest


def _sizes(connection: Connection, statement: Select[Any], size: ColumnElement[int], limit: int) -> Sequence[int]:
    return connection.scalars(statement.with_only_columns(size).limit(limit + 1)).all()


def _messages_in_page(sent: Sequence[int], came: Sequence[int], limit: int) -> int:
    """How many messages a page has, given the sizes of those of each direction; whichever come first, they fit."""
    sizes = [sum(each) for each in zip_longest(sent, came, fillvalue=0)][:limit]
    shown = rows_in_page(sizes, limit)
    return limit if shown == len(sizes) else shown


def _sent(connection: Connection, statement: Select[Any]) -> list[SentEntry]:
    rows = connection.execute(statement).mappings()
    return [SentEntry(message=message_of(row), content=json.loads(row["content"])) for row in rows]


def _received(connection: Connection, company: str, statement: Select[Any]) -> list[Received]:
    return received(connection, company, connection.execute(statement).mappings().all())


def _own(connection: Connection, company: str) -> str | None:
    found: str | None = connection.scalar(select(sessions.c.jid).where(sessions.c.company_id == company))
    user, _, server = (found or "").partition("@")
    return f"{user.partition(':')[0]}@{server}" if found else None
