"""Fills the overview of chats from outbox and inbox, when a database of an older version is migrated.

It reads the newest message of each chat through an index, so the time depends on the number of chats, not of messages.
"""

from __future__ import annotations

import json
import logging

from sqlalchemy import Column, Connection, Table, select, tuple_, update

from holdfast.delivery.chats import FOLDED, QUIET
from holdfast.store.chat_updates import note_stored, target_of
from holdfast.store.tables import inbox, outbox

log = logging.getLogger(__name__)

_AT_ONCE = 500
_LOGGED_EVERY = 100_000


def fill_in_parts(connection: Connection) -> None:
    """Fill the overview in short transactions. When it is interrupted, the next call starts again and changes nothing
    that is filled already."""
    for table, kind, at in ((outbox, outbox.c.kind, outbox.c.accepted_at), (inbox, inbox.c.type, inbox.c.sent_at)):
        _fill_last(connection, table, kind, at)
    _fill_targets(connection)


def _fill_last(connection: Connection, table: Table, kind: Column[str], at: Column[str]) -> None:
    columns = table.c
    done, company, chat = 0, "", ""
    while True:
        place = tuple_(columns.company_id, columns.chat)
        following = select(columns.company_id, columns.chat).where(place > tuple_(company, chat))
        found = connection.execute(following.order_by(columns.company_id, columns.chat).limit(1)).first()
        if found is None:
            break
        company, chat = found
        mine = (columns.company_id == company, columns.chat == chat, kind.not_in(QUIET))
        last = connection.execute(select(columns.seq, at).where(*mine).order_by(columns.seq.desc()).limit(1))
        if (row := last.first()) is not None:
            note_stored(connection, company, chat, seq=row[0], at=row[1], is_sent=table is outbox)
        done += 1
        if done % _AT_ONCE == 0:
            connection.commit()
        if done % _LOGGED_EVERY == 0:
            log.info("Filling the overview of chats: %d chats of the %s", done, table.name)
    connection.commit()


def _fill_targets(connection: Connection) -> None:
    """Note which messages the reactions, edits and deletions of the outbox refer to."""
    after = 0
    columns = outbox.c["seq", "kind", "content"]
    while True:
        page = select(*columns).where(outbox.c.seq > after, outbox.c.kind.in_(FOLDED)).order_by(outbox.c.seq)
        rows = connection.execute(page.limit(_AT_ONCE)).all()
        for seq, kind, content in rows:
            changed = update(outbox).where(outbox.c.seq == seq)
            connection.execute(changed.values(target=target_of(kind, json.loads(content))))
        connection.commit()
        if not rows:
            return
        after = rows[-1].seq
