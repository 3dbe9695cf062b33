"""Receipts of the members of a group, and of those who see a status: who received, read and played each message.

A message to a group counts as delivered with its first receipt, and as read or played only when every member that it
was sent to has read or played it, as WhatsApp's own apps show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select

from holdfast.delivery.events import RECEIPT
from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.recipient import reaches_several
from holdfast.delivery.stores import MemberReceipt, MessageChange
from holdfast.store.aliases import canonical
from holdfast.store.connection import Insert, Prepared
from holdfast.store.events import is_listed, record
from holdfast.store.tables import member_receipts

MAX_MEMBERS = 1_024
"""The largest group on WhatsApp."""
_M = member_receipts.c
_CHANGES = {
    StatusUpdate.DELIVERED: ("delivered_at",),
    StatusUpdate.READ: ("delivered_at", "read_at"),
    StatusUpdate.PLAYED: ("delivered_at", "read_at", "played_at"),
}
"""The times that a receipt implies."""
_TIMES = ("delivered_at", "read_at", "played_at")


def _upsert(insert: Callable[[Table], Any]) -> Insert:
    row: Insert = insert(member_receipts)
    first = {name: func.coalesce(_M[name], row.excluded[name]) for name in _TIMES}
    return row.on_conflict_do_update(index_elements=["company_id", "message_id", "member"], set_=first)


_UPSERT = Prepared(_upsert)
_OF_MESSAGE = (_M.company_id == bindparam("company"), _M.message_id == bindparam("message"))


def _count(name: str) -> Prepared:
    return Prepared(lambda _: select(func.count(_M[name])).where(*_OF_MESSAGE))


_COUNT = {name: _count(name) for name in (*_TIMES, "member")}
_KNOWN = Prepared(lambda _: select(*_M[_TIMES]).where(*_OF_MESSAGE, _M.member == bindparam("name")))


def note_receipt(connection: Connection, row: Mapping[str, Any], change: MessageChange) -> MessageChange:
    """Store the receipt of one member; returns the change that it makes to the message as a whole.

    row: the message's row in the outbox.
    """
    if change.member is None or change.update not in _CHANGES or not reaches_several(str(row["chat"])):
        return change
    company, message_id = str(row["company_id"]), str(row["id"])
    member = canonical(connection, company, change.member)
    key = {"company": company, "message": message_id}
    known = _KNOWN.rows(connection, {**key, "name": member})
    names = _CHANGES[change.update]
    if not known and _COUNT["member"].scalar(connection, key) >= MAX_MEMBERS:
        return change
    if not known or known[0][_TIMES.index(names[-1])] is None:
        times = {name: change.at if name in names else None for name in _TIMES}
        _UPSERT.rows(connection, {"company_id": company, "message_id": message_id, "member": member, **times})
        _report(connection, row, member, change)
    return _as_a_whole(connection, row, key, change)


def _as_a_whole(
    connection: Connection, row: Mapping[str, Any], key: Mapping[str, str], change: MessageChange
) -> MessageChange:
    members = row["members"]
    for update in (StatusUpdate.PLAYED, StatusUpdate.READ):
        if change.update is StatusUpdate.READ and update is StatusUpdate.PLAYED:
            continue
        if members and _COUNT[_CHANGES[update][-1]].scalar(connection, key) >= members:
            return replace(change, update=update)
    return replace(change, update=StatusUpdate.DELIVERED)


def _report(connection: Connection, row: Mapping[str, Any], member: str, change: MessageChange) -> None:
    """A message has up to 1,024 receipts, so they become events only for endpoints that request them."""
    company = str(row["company_id"])
    if is_listed(connection, company, RECEIPT):
        body = {
            "companyId": company,
            "messageId": row["id"],
            "whatsappId": row["whatsapp_id"],
            "chat": row["chat"],
            "member": member,
            "receipt": change.update.value,
            "at": change.at,
        }
        record(connection, company, RECEIPT, body, chat=str(row["chat"]), at=change.at)


def receipts_of(connection: Connection, company: str, message_id: str) -> list[MemberReceipt]:
    """The receipts of a message, in the order of the members' ids."""
    key = (_M.company_id == company, _M.message_id == message_id)
    columns = _M["member", "delivered_at", "read_at", "played_at"]
    rows = connection.execute(select(*columns).where(*key).order_by(_M.member).limit(MAX_MEMBERS))
    return [MemberReceipt(**row) for row in rows.mappings()]
