"""The names of one chat: a person has a phone number, sometimes in two spellings, and a hidden id (LID).

`chat_aliases` has every name of a person that is not the canonical one. Only what WhatsApp's server asserts is stored
there, and the second spelling of a number until WhatsApp says which one it uses. `store.chat_merge` changes it.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, bindparam, select

from holdfast.delivery.spellings import second_spelling
from holdfast.session.contacts import HIDDEN, PERSON
from holdfast.store.connection import Prepared
from holdfast.store.tables import IS_HEAD, chat_aliases, chats, contacts, outbox, signal_keys

_CHAT = Prepared(
    lambda _: select(chat_aliases.c.chat).where(
        chat_aliases.c.company_id == bindparam("company"), chat_aliases.c.alias == bindparam("name")
    )
)
_USES = (
    Prepared(
        lambda _: select(chats.c.chat).where(
            chats.c.company_id == bindparam("company"), chats.c.chat == bindparam("name")
        )
    ),
    Prepared(
        lambda _: select(outbox.c.seq).where(
            outbox.c.company_id == bindparam("company"), outbox.c.chat == bindparam("name"), IS_HEAD
        )
    ),
    Prepared(
        lambda _: select(contacts.c.jid).where(
            contacts.c.company_id == bindparam("company"), contacts.c.jid == bindparam("name")
        )
    ),
)
_KEY = Prepared(
    lambda _: select(signal_keys.c.value).where(
        signal_keys.c.company_id == bindparam("company"),
        signal_keys.c.type == bindparam("kind"),
        signal_keys.c.id == bindparam("key"),
    )
)


def alias_of(connection: Connection, company: str, jid: str) -> str | None:
    """Return the canonical id for which `jid` is stored as an alias."""
    found: str | None = _CHAT.scalar(connection, {"company": company, "name": jid})
    return found


def canonical(connection: Connection, company: str, jid: str) -> str:
    """Return the canonical id of a chat. An id without another known name is its own."""
    if not jid.endswith((PERSON, HIDDEN)):
        return jid
    if (found := alias_of(connection, company, jid)) is not None:
        return found
    if (number := mapped_number(connection, company, jid)) is not None:
        return alias_of(connection, company, number) or number
    other = other_spelling(jid)
    if other is None or alias_of(connection, company, other) is not None:
        return jid
    # WhatsApp was not asked yet, so the spelling counts under which there is a chat already.
    return other if is_used(connection, company, other) and not is_used(connection, company, jid) else jid


def other_spelling(jid: str) -> str | None:
    """Return the JID of the same phone by the second spelling of its number."""
    other = second_spelling(jid.removesuffix(PERSON)) if jid.endswith(PERSON) else None
    return None if other is None else f"{other}{PERSON}"


def is_used(connection: Connection, company: str, jid: str) -> bool:
    """Whether there is a chat or a contact under exactly this id."""
    where = {"company": company, "name": jid}
    return any(each.rows(connection, where) for each in _USES)


def mapped_number(connection: Connection, company: str, jid: str) -> str | None:
    """Return the JID by number that the engine has stored for a hidden id, or for another spelling of a number.

    Older versions stored only this. The engine keeps the mapping of a hidden id whose number was given to another one;
    the mapping of the number itself shows that.
    """
    number = _number_in(connection, company, *mapping_key(jid))
    if number is None or not jid.endswith(HIDDEN):
        return number
    owner = _number_in(connection, company, "lid-mapping", number.removesuffix(PERSON))
    return number if owner in {None, f"{jid.removesuffix(HIDDEN)}{PERSON}"} else None


def mapping_key(jid: str) -> tuple[str, str]:
    """Kind and name of the engine's key that maps `jid` to a number."""
    if jid.endswith(HIDDEN):
        return "lid-mapping", f"{jid.removesuffix(HIDDEN)}_reverse"
    return "number-spelling", jid.removesuffix(PERSON)


def _number_in(connection: Connection, company: str, kind: str, key: str) -> str | None:
    value = _KEY.scalar(connection, {"company": company, "kind": kind, "key": key})
    return None if value is None else jid_in(value)


def jid_in(value: str) -> str | None:
    """Return the JID of the number in an engine's key."""
    try:
        number = json.loads(value)
    except ValueError:
        return None
    return f"{number}{PERSON}" if isinstance(number, str) and number.isascii() and number.isdigit() else None


def is_same_chat(connection: Connection, company: str, *, addressed: str, reported: str) -> bool:
    """Whether the chat that WhatsApp `reported` is the one that a message was `addressed` to."""
    return addressed == reported or canonical(connection, company, addressed) == canonical(
        connection, company, reported
    )
