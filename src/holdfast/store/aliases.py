"""Recognises the ids of one chat: a person has a phone number, in one or two spellings, and a hidden id (LID).

The engine stores the mappings among its keys: `lid-mapping` has a LID's phone number under `LID_reverse`,
`number-spelling` has WhatsApp's own spelling under the number that a message was addressed to.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from holdfast.store.tables import signal_keys

_PERSON, _HIDDEN = "@s.whatsapp.net", "@lid"


def is_same_chat(connection: Connection, company: str, *, asked: str, named: str) -> bool:
    """Whether the chat that WhatsApp `named` is the one that a message was addressed to (`asked`).

    Ids without a stored mapping are two chats.
    """
    if asked == named:
        return True
    people = (_PERSON, _HIDDEN)
    if not asked.endswith(people) or not named.endswith(people):
        return False
    return _canonical(connection, company, asked) == _canonical(connection, company, named)


def _canonical(connection: Connection, company: str, jid: str) -> str:
    """Return the phone number in WhatsApp's spelling when it is known, else the id unchanged."""
    if jid.endswith(_HIDDEN):
        number = _stored(connection, company, "lid-mapping", f"{jid.removesuffix(_HIDDEN)}_reverse")
        return jid if number is None else f"{number}{_PERSON}"
    number = _stored(connection, company, "number-spelling", jid.removesuffix(_PERSON))
    return jid if number is None else f"{number}{_PERSON}"


def _stored(connection: Connection, company: str, type_: str, id_: str) -> str | None:
    table = signal_keys.c
    mine = (table.company_id == company, table.type == type_, table.id == id_)
    value = connection.scalar(select(table.value).where(*mine))
    number = None if value is None else json.loads(value)
    return number if isinstance(number, str) else None
