"""The queue in the outbox: which message of each chat is next, and when it is due.

Only the first open message of a chat, its head, has `next_at` and `lane`; a unique index allows one head per chat. An
index finds the due messages, however many wait behind them, and a chat that waits for a retry delays no other chat.
The transaction that settles a head also makes the next message of its chat the head. On PostgreSQL a lock for each
company serialises these transactions (`store.company_locks`): two nodes that accept for one chat create only one head.

A lane is `3 * kind + contact`: kinds are interactive, bulk and suspect, contacts those of `rate_limits.ContactStatus`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, text, update

from holdfast.base.ascii_json import ascii_json
from holdfast.delivery.chats import QUIET
from holdfast.delivery.message import OPEN
from holdfast.delivery.rate_limits import Allowance, ContactStatus
from holdfast.delivery.recipient import NOT_PERSONS
from holdfast.delivery.stores import BULK, Outgoing, Taken, disappearing
from holdfast.store.admission import WAS_MET, KnownChat
from holdfast.store.connection import Prepared
from holdfast.store.tables import IS_HEAD, IS_OPEN, outbox
from holdfast.store.tables import chats as known_chats

INTERACTIVE_KIND, BULK_KIND, SUSPECT_KIND = 0, 1, 2
_CONTACTS = len(ContactStatus)
_SUSPECTS = SUSPECT_KIND * _CONTACTS
_LANES = range(_SUSPECTS + ContactStatus.APPROACHED + 1)
_O = outbox.c

NOT_LEFT = _O.refusals == _O.attempts
"""WhatsApp or the engine refused every attempt so far, so the message was certainly not sent."""
_MAY_LEAVE = _O.expires_at.is_(None) | (_O.expires_at > bindparam("now")) | ~NOT_LEFT
"""Not expired, or its outcome is unknown: then it must still be sent again to settle it."""

_CHAT = (_O.company_id == bindparam("company"), _O.chat == bindparam("name"))
_IS_KNOWN = Prepared(
    lambda _: select(known_chats.c.chat).where(
        known_chats.c.company_id == bindparam("company"), known_chats.c.chat == bindparam("name"), WAS_MET
    )
)
_FOLLOWING = Prepared(
    lambda _: (
        select(_O.seq, _O.priority, _O.attempts)
        .where(*_CHAT, IS_OPEN, _O.seq > bindparam("after"))
        .order_by(_O.seq)
        .limit(1)
    )
)
_INTERACTIVE_WAITS = Prepared(lambda _: select(_O.seq).where(*_CHAT, text("priority = 0"), IS_OPEN).limit(1))
_MAKE_HEAD = Prepared(lambda _: update(outbox).where(_O.seq == bindparam("changed")))
_MOVE_TO_INTERACTIVE = Prepared(
    lambda _: (
        update(outbox)
        .where(*_CHAT, IS_HEAD, _O.lane >= BULK_KIND * _CONTACTS, _O.lane < _SUSPECTS)
        .values(lane=_O.lane - _CONTACTS)
    )
)
_MAKE_KNOWN = Prepared(
    lambda _: (
        update(outbox)
        .where(*_CHAT, IS_HEAD, _O.lane % _CONTACTS != ContactStatus.KNOWN.value)
        .values(
            lane=_O.lane - _O.lane % _CONTACTS,
            next_at=text("CASE WHEN held_code IS NULL THEN next_at ELSE :at END"),
            held_until=None,
        )
    )
)
_BEGIN = (
    update(outbox)
    .where(_O.seq.in_(bindparam("taken", expanding=True)), _O.state.in_(OPEN), _MAY_LEAVE)
    .values(
        state="sending",
        attempts=_O.attempts + 1,
        held_code=None,
        held_until=None,
        lane=text(f"CASE WHEN lane % {_CONTACTS} = {ContactStatus.NEW.value} THEN lane - 1 ELSE lane END"),
    )
    .returning(
        *outbox.c["seq", "id", "whatsapp_id", "chat", "content", "attempts", "accepted_at", "priority", "made"],
        *outbox.c["retry_code", "retry_count", "crash_score"],
    )
)
_TIMERS = Prepared(
    lambda _: select(known_chats.c.chat, known_chats.c.disappearing_s).where(
        known_chats.c.company_id == bindparam("company"), known_chats.c.chat.in_(bindparam("chats", expanding=True))
    )
)
_SET_CONTENT = Prepared(lambda _: update(outbox).where(_O.seq == bindparam("begun")))
_DUE = text(
    " UNION ALL ".join(
        "SELECT * FROM (SELECT seq, whatsapp_id, lane, priority, next_at FROM outbox WHERE company_id = :company "
        f"AND lane = {lane} AND next_at IS NOT NULL AND next_at <= :now ORDER BY next_at, seq LIMIT :limit_{lane}"
        f") AS lane_{lane}"
        for lane in _LANES
    )
)
_NEXT = text(
    "SELECT MIN(next_at) FROM ("
    + " UNION ALL ".join(
        f"SELECT MIN(next_at) AS next_at FROM outbox WHERE company_id = :company AND lane = {lane} "
        "AND next_at IS NOT NULL AND next_at > :now"
        for lane in _LANES
    )
    + ") AS times"
)
_OPEN_ONES = select(_O.whatsapp_id).where(_O.company_id == bindparam("company"), IS_OPEN).limit(bindparam("limit"))


def place(connection: Connection, company: str, known: KnownChat, *, priority: int, now: str) -> dict[str, Any]:
    """The queue position of a message that is being accepted: `next_at` and `lane`, both None behind others."""
    if known.head_lane is None:
        kind = BULK_KIND if priority >= BULK else INTERACTIVE_KIND
        return {"next_at": now, "lane": kind * _CONTACTS + known.contact}
    if priority < BULK and BULK_KIND * _CONTACTS <= known.head_lane < _SUSPECTS:
        _MOVE_TO_INTERACTIVE.rows(connection, {"company": company, "name": known.chat})
    return {"next_at": None, "lane": None}


def suspect_lane(lane: int) -> int:
    """The lane of a message once it is suspected of ending links."""
    return _SUSPECTS + min(lane % _CONTACTS, ContactStatus.APPROACHED)


def advance_chat(connection: Connection, row: Mapping[str, Any], *, now: str) -> bool:
    """The next open message of the chat becomes its head; False if there is none.

    row: the head as it was before it was settled and lost its `next_at`.
    """
    where = {"company": row["company_id"], "name": row["chat"]}
    found = _FOLLOWING.rows(connection, {**where, "after": row["seq"]})
    if not found:
        return False
    seq, priority, attempts = found[0]
    kind = BULK_KIND if priority >= BULK else INTERACTIVE_KIND
    was_hastened = row["priority"] < BULK or row["lane"] < BULK_KIND * _CONTACTS
    if kind == BULK_KIND and was_hastened and _INTERACTIVE_WAITS.rows(connection, where):
        kind = INTERACTIVE_KIND
    contact = _contact(connection, row["company_id"], row["chat"], is_new=attempts == 0)
    _MAKE_HEAD.rows(connection, {"changed": seq, "next_at": now, "lane": kind * _CONTACTS + contact})
    return True


def chat_became_known(connection: Connection, company: str, chat: str, *, now: str) -> None:
    """Locks and the daily limit no longer apply to this chat."""
    _MAKE_KNOWN.rows(connection, {"company": company, "name": chat, "at": now})


def chats_became_one(connection: Connection, company: str, chat: str, *, now: str) -> None:
    """The queues of two names of one person were merged under `chat`: its head may be known and more urgent now."""
    where = {"company": company, "name": chat}
    if _INTERACTIVE_WAITS.rows(connection, where):
        _MOVE_TO_INTERACTIVE.rows(connection, where)
    if _IS_KNOWN.rows(connection, where):
        chat_became_known(connection, company, chat, now=now)


def take_due(
    connection: Connection, company: str, allowance: Allowance, *, exclude: Collection[str], alone: bool, now: str
) -> Taken:
    """See `delivery.stores.Outbox.take`."""
    quotas = _quotas(allowance)
    limits = {f"limit_{lane}": quota + len(exclude) if quota else 0 for lane, quota in quotas.items()}
    rows = [
        row for row in connection.execute(_DUE, {"company": company, "now": now, **limits}) if row[1] not in exclude
    ]
    chosen = _choose(rows, allowance, may_take_suspect=allowance.suspects and not exclude, alone=alone)
    messages: list[Outgoing] = []
    if chosen:
        begun = connection.execute(_BEGIN, {"taken": list(chosen), "now": now}).mappings()
        found = {row["seq"]: _outgoing(dict(row), chosen) for row in begun}
        messages = _timed(connection, company, [found[seq] for seq in chosen if seq in found])
    taken_now = {message.whatsapp_id for message in messages}
    waiting = connection.scalars(_OPEN_ONES, {"company": company, "limit": len(exclude) + len(messages) + 1})
    has_more = any(id_ not in exclude and id_ not in taken_now for id_ in waiting)
    return Taken(
        messages=messages,
        has_more=has_more,
        is_limited=_is_limited(messages, allowance),
        next_at=connection.scalar(_NEXT, {"company": company, "now": now}) if has_more else None,
        suspect_waits=any(lane >= _SUSPECTS and id_ not in taken_now for _, id_, lane, _, _ in rows),
    )


def _timed(connection: Connection, company: str, messages: list[Outgoing]) -> list[Outgoing]:
    """The messages with the current timers of their chats. A message that may have been sent keeps its timer."""
    first = {message.chat for message in messages if message.attempts == 1}
    if not first:
        return messages
    rows = connection.execute(_TIMERS.on(connection), {"company": company, "chats": list(first)})
    timers = {row.chat: row.disappearing_s for row in rows}
    return [_with_timer(connection, message, timers.get(message.chat)) for message in messages]


def _with_timer(connection: Connection, message: Outgoing, timer_s: int | None) -> Outgoing:
    content = disappearing(message.content, timer_s)
    if message.attempts > 1 or content == message.content or QUIET & content.keys():
        return message
    _SET_CONTENT.rows(connection, {"begun": message.seq, "content": ascii_json(content)})
    return replace(message, content=content)


def _is_limited(messages: Collection[Outgoing], allowance: Allowance) -> bool:
    """Whether a limit may have left out messages that are due."""
    bulk = sum(message.is_bulk for message in messages)
    new = sum(message.contact is ContactStatus.NEW for message in messages)
    return len(messages) >= allowance.total or 0 < allowance.bulk <= bulk or 0 < allowance.new <= new


def _quotas(allowance: Allowance) -> dict[int, int]:
    """The largest number of messages to query for each lane."""
    quotas = {}
    for lane in _LANES:
        kind, contact = divmod(lane, _CONTACTS)
        of_contact = (allowance.total, allowance.approached, allowance.new)[contact]
        of_kind = (allowance.total, allowance.bulk, 1)[kind]
        quotas[lane] = min(of_contact, of_kind, allowance.total)
    return quotas


def _choose(
    rows: Collection[Any], allowance: Allowance, *, may_take_suspect: bool, alone: bool
) -> dict[int, ContactStatus]:
    """The numbers of the messages to send, with the contact status of each recipient: within the limits, and a suspect
    alone.
    """
    left = {"total": allowance.total, "bulk": allowance.bulk, "new": allowance.new}
    chosen: dict[int, ContactStatus] = {}
    suspects = sorted((next_at, seq, lane) for seq, _, lane, _, next_at in rows if lane >= _SUSPECTS)
    for seq, _, lane, priority, _ in sorted(rows, key=lambda row: row[2]):
        kind, contact = lane // _CONTACTS, ContactStatus(lane % _CONTACTS)
        if kind == SUSPECT_KIND:
            continue
        needed = ["total", *(["bulk"] if kind == BULK_KIND else []), *(["new"] if contact is ContactStatus.NEW else [])]
        if alone or any(left[name] <= 0 for name in needed):
            continue
        # A bulk message in an interactive lane, moved there for one behind it, still counts as bulk.
        for name in {*needed, "bulk"} if priority >= BULK else needed:
            left[name] -= 1
        chosen[seq] = contact
    if chosen or not may_take_suspect:
        return chosen
    return {seq: ContactStatus(lane % _CONTACTS) for _, seq, lane in suspects[:1]}


def _contact(connection: Connection, company: str, chat: str, *, is_new: bool) -> ContactStatus:
    if chat.endswith(NOT_PERSONS) or _IS_KNOWN.rows(connection, {"company": company, "name": chat}):
        return ContactStatus.KNOWN
    return ContactStatus.NEW if is_new else ContactStatus.APPROACHED


def _outgoing(row: dict[str, Any], chosen: Mapping[int, ContactStatus]) -> Outgoing:
    row["content"] = json.loads(row["content"])
    return Outgoing(is_bulk=row.pop("priority") >= BULK, contact=chosen[row["seq"]], **row)


def reschedule_held(connection: Connection, company: str, *, code: str, until: str | None, now: str) -> None:
    """See `delivery.stores.Outbox.reschedule_held`."""
    held = update(outbox).where(_O.company_id == company, _O.lane.in_(_LANES), IS_HEAD, _O.held_code == code)
    connection.execute(held.values(next_at=until or now, held_until=until))


def make_due(connection: Connection, company: str, *, now: str) -> None:
    """See `delivery.stores.Outbox.make_due`."""
    resting = update(outbox).where(_O.company_id == company, _O.lane.in_(_LANES), IS_HEAD, _O.next_at > now)
    connection.execute(resting.values(next_at=now))


def approached_chats(connection: Connection, company: str) -> list[str]:
    """Chats of unknown contacts to which a first message is to be sent again."""
    lanes = [lane for lane in _LANES if lane % _CONTACTS == ContactStatus.APPROACHED]
    statement = select(_O.chat).where(_O.company_id == company, _O.lane.in_(lanes), IS_HEAD)
    return list(connection.scalars(statement))
