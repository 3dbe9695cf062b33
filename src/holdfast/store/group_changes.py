"""Changes of groups, as WhatsApp reports them: each becomes an event, and a new subject is stored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace
from sqlalchemy import Connection

from holdfast.base.clock import iso
from holdfast.delivery import chats
from holdfast.delivery.events import GROUP_UPDATED
from holdfast.session.contacts import Identity
from holdfast.session.engine import ChangedMember, GroupChange
from holdfast.session.untrusted import EMPTY_PLAINTEXT, bounded_name
from holdfast.store.aliases import canonical
from holdfast.store.chat_rows import names_of
from holdfast.store.connection import Insert, Prepared
from holdfast.store.events import record
from holdfast.store.identities import learn
from holdfast.store.inbox import subjects_of
from holdfast.store.tables import decrypted, groups

_MAX_LEARNED = 64
"""People of one change whose hidden ids are learned with it."""
Names = Mapping[str, str | None]


def _learned(row: Insert) -> Insert:
    newer = {name: row.excluded[name] for name in ("subject", "learned_at")}
    return row.on_conflict_do_update(index_elements=["company_id", "jid"], set_=newer)


_UPSERT_GROUP = Prepared(lambda insert: _learned(insert(groups)))
_INSERT_DECRYPTED = Prepared(
    lambda insert: insert(decrypted).on_conflict_do_nothing().returning(decrypted.c.ciphertext_sha256)
)


def learn_group(connection: Connection, company: str, jid: str, subject: str, *, at: str) -> None:
    """Store the subject of a group."""
    _UPSERT_GROUP.rows(connection, {"company_id": company, "jid": jid, "subject": subject, "learned_at": at})


def store_group_change(connection: Connection, company: str, change: GroupChange, *, at: str) -> None:
    """Store the event of a change once, however often WhatsApp delivers its notification."""
    if not _is_new(connection, company, change, at):
        return
    if change.kind == "subject" and isinstance(change.value, str):
        learn_group(connection, company, change.group, bounded_name(change.value), at=at)
    change = _by_canonical_ids(connection, company, change, at)
    jids = [member.jid for member in change.participants] + ([change.actor] if change.actor else [])
    names = {jid: _name(found) for jid, found in names_of(connection, company, jids).items()} if jids else {}
    body = {
        "companyId": company,
        "group": change.group,
        "subject": subjects_of(connection, company, {change.group}).get(change.group),
        "change": change.kind,
        "value": change.value,
        "actor": _actor(change, names),
        "participants": _participants(change.participants, names),
        "at": iso(datetime.fromtimestamp(change.at_s, UTC)) if change.at_s else at,
    }
    record(connection, company, GROUP_UPDATED, body, chat=change.group, at=at)


def _by_canonical_ids(connection: Connection, company: str, change: GroupChange, at: str) -> GroupChange:
    """People by the ids that their chats have."""
    actor = change.actor
    if actor is not None:
        identity = Identity(jid=actor, lid=change.actor_lid, push_name=change.actor_name)
        actor = learn(connection, company, identity, now=at)
    people = []
    for place, member in enumerate(change.participants):
        if place < _MAX_LEARNED and member.lid is not None:
            learn(connection, company, Identity(jid=member.jid, lid=member.lid), now=at)
        people.append(replace(member, jid=canonical(connection, company, member.jid)))
    return replace(change, actor=actor, participants=people)


def _is_new(connection: Connection, company: str, change: GroupChange, at: str) -> bool:
    """Notifications are remembered for as long as decrypted messages."""
    named = f"group change\n{change.group}\n{change.notice_id}"
    row = {
        "company_id": company,
        "ciphertext_sha256": hashlib.sha256(named.encode()).hexdigest(),
        "plaintext": base64.b64decode(EMPTY_PLAINTEXT),
        "stored_at": at,
    }
    return bool(_INSERT_DECRYPTED.rows(connection, row))


def _actor(change: GroupChange, names: Names) -> dict[str, object] | None:
    if change.actor is None:
        return None
    return {"jid": change.actor, "lid": change.actor_lid, "name": change.actor_name or names.get(change.actor)}


def _participants(members: Sequence[ChangedMember], names: Names) -> list[dict[str, object]]:
    return [
        {"jid": member.jid, "lid": member.lid, "name": names.get(member.jid), "role": member.role} for member in members
    ]


def _name(known: chats.Names) -> str | None:
    return known.saved or known.push or known.business or known.username
