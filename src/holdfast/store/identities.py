"""Learns who is who: people as rows, and chats that turn out to be one.

Everything here comes from WhatsApp's server by way of the engine, cleaned and bounded by `session.untrusted`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select, update

from holdfast.session.contacts import HIDDEN, PERSON, Identity
from holdfast.session.engine import InboundMessage, Undecryptable
from holdfast.store import chat_merge
from holdfast.store.aliases import alias_of, canonical, jid_in
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Prepared, insert
from holdfast.store.tables import contacts

_C = contacts.c
_NAMES = ("lid", "username", "push_name", "saved_name", "business_name")
_UNIQUE = ("lid", "username")
_READ = Prepared(
    lambda _: select(*_C[_NAMES]).where(_C.company_id == bindparam("company"), _C.jid == bindparam("name"))
)
_MAX_MAPPINGS = 500
"""Mappings of one commit that are learned with it. A phone's history may bring many more; `canonical` finds those."""


def learn(connection: Connection, company: str, identity: Identity, *, now: str) -> str:
    """Store what WhatsApp reported about a person; returns the canonical id. Costs two reads when nothing is new."""
    jid = _joined(connection, company, identity, now=now)
    given = {name: value for name in _NAMES if (value := getattr(identity, name)) is not None}
    if jid.endswith(HIDDEN):
        given["lid"] = jid
    found = _READ.rows(connection, {"company": company, "name": jid})
    known = dict(zip(_NAMES, found[0], strict=True)) if found else None
    if known is None or any(known[name] != value for name, value in given.items()):
        _store(connection, company, jid, given, now=now)
    return jid


def _joined(connection: Connection, company: str, identity: Identity, *, now: str) -> str:
    """The canonical id, after everything that the identity says about names of one person."""
    if identity.jid.endswith(HIDDEN):
        return canonical(connection, company, identity.jid)
    if (other := alias_of(connection, company, identity.jid)) is not None:
        chat_merge.join(connection, company, alias=other, chat=identity.jid, now=now)
    if identity.lid is not None:
        chat_merge.join(connection, company, alias=identity.lid, chat=identity.jid, now=now)
    return identity.jid


def _store(connection: Connection, company: str, jid: str, names: Mapping[str, str], *, now: str) -> None:
    """Insert or update. A hidden id and a username belong to one person: whoever had them before loses them."""
    lock_company(connection, company)
    for name in _UNIQUE:
        if name in names:
            others = (_C.company_id == company, _C[name] == names[name], _C.jid != jid)
            connection.execute(update(contacts).where(*others).values({name: None}))
    number = jid.removesuffix(PERSON) if jid.endswith(PERSON) else None
    row = insert(connection, contacts).values(company_id=company, jid=jid, number=number, updated_at=now, **names)
    changed = {**names, "updated_at": now}
    connection.execute(row.on_conflict_do_update(index_elements=["company_id", "jid"], set_=changed))


def learn_sender(connection: Connection, company: str, message: InboundMessage | Undecryptable, *, now: str) -> str:
    """Learn from the envelope of an inbound message; returns the canonical id of its sender."""
    sender = message.sender
    is_own = isinstance(message, InboundMessage) and message.from_me
    if is_own or not sender.endswith((PERSON, HIDDEN)):
        return sender
    lid = message.sender_lid if isinstance(message, InboundMessage) else None
    identity = Identity(jid=sender, lid=lid, push_name=message.push_name)
    return learn(connection, company, identity, now=now)


def learn_keys(connection: Connection, company: str, keys: Mapping[str, Mapping[str, str | None]], *, now: str) -> None:
    """Learn from the keys that an engine stores: hidden ids with their numbers, and WhatsApp's spellings of numbers."""
    for id_, value in list(keys.get("lid-mapping", {}).items())[: 2 * _MAX_MAPPINGS]:
        if id_.endswith("_reverse") and value is not None and (jid := jid_in(value)) is not None:
            lid = f"{id_.removesuffix('_reverse')}{HIDDEN}"
            learn(connection, company, Identity(jid=jid, lid=lid), now=now)
    for id_, value in keys.get("number-spelling", {}).items():
        if value is not None and (jid := jid_in(value)) is not None:
            learn_spelling(connection, company, f"{id_}{PERSON}", jid, now=now)


def learn_spelling(connection: Connection, company: str, number: str, answered: str, *, now: str) -> None:
    """WhatsApp answered a number with its own spelling of it."""
    learn(connection, company, Identity(jid=answered), now=now)
    chat_merge.join(connection, company, alias=number, chat=answered, now=now)
