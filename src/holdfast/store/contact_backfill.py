"""Fills contacts from what older versions stored: mappings among the engine's keys, and names in the inbox.

It runs in small transactions while the gateway works. Its progress is stored in `notes`, so a restart continues.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, func, select

from holdfast.session.contacts import HIDDEN, PERSON, Identity
from holdfast.store.identities import learn, learn_keys
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import contacts, inbox, sessions, signal_keys

_NOTE = "contacts-backfill"
_KEYS_AT_ONCE = 10
_MESSAGES_AT_ONCE = 500
_MAX_STATEMENTS = 40
"""Approximate number of statements in one transaction. Other writes wait for them: on a server a millisecond each."""
_STATEMENTS_TO_LEARN = 5
"""Approximate number of statements that write the contact of one person."""
_KINDS = ("lid-mapping", "number-spelling")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Keys are read by company and kind, then the inbox from its newest row to its first."""

    company: str = ""
    kind: int = 0
    after: str = ""
    before_seq: int | None = None
    is_done: bool = False


def fill_part(connection: Connection, *, now: str) -> bool:
    """Read some rows; returns whether more are left."""
    stored = noted(connection, _NOTE)
    place = _Place() if stored is None else _Place(**json.loads(stored))
    if place.is_done:
        return False
    after = _fill_from_keys(connection, place, now=now) or _fill_from_inbox(connection, place, now=now)
    note(connection, _NOTE, json.dumps(asdict(after)))
    return not after.is_done


def _fill_from_keys(connection: Connection, place: _Place, *, now: str) -> _Place | None:
    """None when the keys of every company were read."""
    if place.before_seq is not None:
        return None
    if place.company:
        kind, k = _KINDS[place.kind], signal_keys.c
        mine = (k.company_id == place.company, k.type == kind, k.id > place.after)
        part = select(k.id, k.value).where(*mine).order_by(k.id).limit(_KEYS_AT_ONCE)
        values = {row.id: row.value for row in connection.execute(part)}
        learn_keys(connection, place.company, {kind: values}, now=now)
        if len(values) == _KEYS_AT_ONCE:
            return replace(place, after=max(values))
        if place.kind + 1 < len(_KINDS):
            return replace(place, kind=place.kind + 1, after="")
    s = sessions.c.company_id
    following = connection.scalar(select(s).where(s > place.company).order_by(s).limit(1))
    return None if following is None else _Place(company=following)


def _fill_from_inbox(connection: Connection, place: _Place, *, now: str) -> _Place:
    """Newest first, so that the first name that is found of somebody is the current one."""
    before = place.before_seq
    if before is None:
        before = (connection.scalar(select(func.max(inbox.c.seq))) or 0) + 1
    columns = inbox.c["seq", "company_id", "sender", "sender_lid", "push_name", "from_me"]
    page = select(*columns).where(inbox.c.seq < before).order_by(inbox.c.seq.desc()).limit(_MESSAGES_AT_ONCE)
    rows = connection.execute(page).all()
    named: dict[tuple[str, str], bool] = {}
    """By company and JID, whether the person's name is known."""
    statements = 0
    for row in rows:
        if row.from_me or not row.sender.endswith((PERSON, HIDDEN)):
            continue
        person = row.company_id, row.sender
        if person not in named:
            named[person] = _has_name(connection, *person)
            statements += 1
        if not named[person]:
            identity = Identity(jid=row.sender, lid=row.sender_lid, push_name=row.push_name)
            learn(connection, row.company_id, identity, now=now)
            named[person] = row.push_name is not None
            statements += _STATEMENTS_TO_LEARN
        if statements >= _MAX_STATEMENTS:
            return _Place(before_seq=row.seq)
    return _Place(before_seq=rows[-1].seq if rows else before, is_done=len(rows) < _MESSAGES_AT_ONCE)


def _has_name(connection: Connection, company: str, jid: str) -> bool:
    mine = (contacts.c.company_id == company, contacts.c.jid == jid)
    return connection.scalar(select(contacts.c.push_name).where(*mine)) is not None
