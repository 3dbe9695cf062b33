"""Status updates of outbound messages: acks, receipts, refusals and retries, as changes of their rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select, update

from holdfast.delivery.message import OPEN, MessageState, StatusUpdate, advance, is_suspect
from holdfast.delivery.stores import Deferral, Message, MessageChange
from holdfast.store import outbox_queue as queue
from holdfast.store.aliases import is_same_chat
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Insert, Prepared
from holdfast.store.events import record_message
from holdfast.store.member_receipts import note_receipt
from holdfast.store.message_rows import SHOWN, message_of
from holdfast.store.tables import chats as known_chats
from holdfast.store.tables import outbox

_TIME_OF = {
    MessageState.SENT: ("sent_at",),
    MessageState.DELIVERED: ("sent_at", "delivered_at"),
    MessageState.READ: ("sent_at", "delivered_at", "read_at"),
    MessageState.PLAYED: ("sent_at", "delivered_at", "read_at", "played_at"),
}
"""The times that a state implies: a message that was read was delivered, whatever receipts were lost."""

_CHANGED = [*SHOWN, *outbox.c["lane", "next_at", "refusals", "retry_count", "members"]]
_CHANGED_NAMES = [column.name for column in _CHANGED]
_BY_WHATSAPP_ID = select(*_CHANGED).where(
    outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("id")
)
_TO_BE_CHANGED = Prepared(lambda _: _BY_WHATSAPP_ID.with_for_update())
"""Locked: no other process may change the row between the read and the update."""

_FEW_CHANGES = 20
"""As many messages may be in flight; more changes at once come from receipts."""
_IDS_AT_ONCE = 500
_CHANGE = Prepared(lambda _: update(outbox).where(outbox.c.seq == bindparam("changed")))
TIMES = _TIME_OF[MessageState.PLAYED]
_NO_HOLD = {"held_code": None, "held_until": None}
_NO_RETRY = {"retry_at": None, "retry_code": None, "retry_message": None}


def _first_time(insert: Callable[[Table], Any], name: str) -> Insert:
    row: Insert = insert(known_chats)
    first = func.coalesce(known_chats.c[name], row.excluded[name])
    return row.on_conflict_do_update(index_elements=["company_id", "chat"], set_={name: first})


_UPSERT_KNOWN = {
    "first_sent_at": Prepared(lambda insert: _first_time(insert, "first_sent_at")),
    "first_received_at": Prepared(lambda insert: _first_time(insert, "first_received_at")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a series of status updates changed."""

    messages: list[Message]
    """Messages whose state changed."""
    makes_due: bool
    """A settled message was followed by another one in its chat, which is due now."""


def apply_all(connection: Connection, company: str, changes: Sequence[MessageChange | Deferral]) -> Applied:
    """Apply status updates in order. Receipts may name countless messages that never were: those are found in bulk."""
    if len(changes) > _FEW_CHANGES:
        known = _known_ids(connection, company, {change.whatsapp_id for change in changes})
        changes = [change for change in changes if change.whatsapp_id in known]
    applied = [each for change in changes if (each := apply_one(connection, company, change)) is not None]
    return Applied(messages=[message for message, _ in applied], makes_due=any(makes_due for _, makes_due in applied))


def _known_ids(connection: Connection, company: str, ids: Collection[str]) -> set[str]:
    """Those of the WhatsApp ids that belong to messages of the company."""
    known, asked = set[str](), sorted(ids)
    for start in range(0, len(asked), _IDS_AT_ONCE):
        some = outbox.c.whatsapp_id.in_(asked[start : start + _IDS_AT_ONCE])
        known.update(connection.scalars(select(outbox.c.whatsapp_id).where(outbox.c.company_id == company, some)))
    return known


def apply_one(connection: Connection, company: str, change: MessageChange | Deferral) -> tuple[Message, bool] | None:
    """Apply one status update; None when the message is unknown or its state stays.

    Returns the message and whether the next one in its chat is due now.
    """
    lock_company(connection, company)
    found = _TO_BE_CHANGED.rows(connection, {"company": company, "id": change.whatsapp_id})
    if not found:
        return None
    row = dict(zip(_CHANGED_NAMES, found[0], strict=True))
    if isinstance(change, Deferral):
        _defer(connection, row, change)
        return None
    if change.chat is not None and not is_same_chat(connection, company, addressed=row["chat"], reported=change.chat):
        return None
    change = note_receipt(connection, row, change)
    before = MessageState(row["state"])
    after = advance(_for_advance(row, before, change), change.update)
    if after is before or (after is MessageState.CANCELLED and before not in OPEN):
        return None
    values: dict[str, Any] = {"state": after.value, **_NO_HOLD, **_NO_RETRY}
    values |= {name: row[name] for name in TIMES}
    values |= {name: change.at for name in _TIME_OF.get(after, ()) if row[name] is None}
    values |= {"error_code": change.error_code, "error": change.error, "members": change.members or row["members"]}
    was_head = before in OPEN and row["next_at"] is not None
    if was_head:
        values |= {"next_at": None, "lane": None}
    _CHANGE.rows(connection, {"changed": row["seq"], **values})
    if change.makes_known and after in _TIME_OF:
        know_chat(connection, company, row["chat"], first_sent_at=change.at)
    makes_due = was_head and queue.advance_chat(connection, row, now=change.at)
    message = message_of({**row, **values})
    record_message(connection, message, at=change.at)
    return message, makes_due


def _for_advance(row: Mapping[str, Any], before: MessageState, change: MessageChange) -> MessageState:
    """A message whose attempts were all refused was certainly not sent: it may still expire or be cancelled."""
    withdraws = change.update in {StatusUpdate.EXPIRED, StatusUpdate.CANCELLED}
    if before is MessageState.SENDING and withdraws and (change.is_forced or row["refusals"] == row["attempts"]):
        return MessageState.QUEUED
    return before


def _defer(connection: Connection, row: Mapping[str, Any], deferral: Deferral) -> None:
    """The head waits until `next_at`. A late report about any other message changes nothing."""
    if row["next_at"] is None or MessageState(row["state"]) not in OPEN:
        return
    values: dict[str, Any] = {"next_at": deferral.next_at or row["next_at"]}
    if deferral.code is not None:
        again = row["retry_code"] == deferral.code
        values |= {
            "refusals": row["refusals"] + 1,
            "retry_at": deferral.at,
            "retry_code": deferral.code,
            "retry_message": deferral.message,
            "retry_count": row["retry_count"] + 1 if again else 1,
        }
    if deferral.held_code is not None:
        values |= {"held_code": deferral.held_code, "held_until": deferral.next_at}
    if deferral.crash_score is not None:
        values["crash_score"] = deferral.crash_score
        if is_suspect(deferral.crash_score):
            # Behind the other suspects. Otherwise the one that ends links would always be first and starve them.
            values |= {"lane": queue.suspect_lane(row["lane"]), "next_at": deferral.at}
    _CHANGE.rows(connection, {"changed": row["seq"], **values})


def know_chat(connection: Connection, company: str, chat: str, **first: str) -> None:
    """Note when a chat was first written to (`first_sent_at`), or heard from (`first_received_at`)."""
    for name in first:
        row = {"company_id": company, "chat": chat, name: first[name]}
        _UPSERT_KNOWN[name].rows(connection, row)
        queue.chat_became_known(connection, company, chat, now=first[name])
