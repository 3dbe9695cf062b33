"""An outbound message as people and programs see it, read from its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, case, false, literal, or_, select

from holdfast.delivery.message import MessageState
from holdfast.delivery.recipient import NOT_PERSONS
from holdfast.delivery.stores import Message
from holdfast.store.admission import WAS_MET
from holdfast.store.tables import chats, outbox

NOT_SHOWN = {
    *("content", "idempotency_key", "request_hash", "made", "next_at", "lane"),
    *("refusals", "retry_count", "crash_score", "target", "members"),
}
SHOWN = [column for column in outbox.c if column.name not in NOT_SHOWN]
_KNOWN = (
    select(literal(1))
    .where(
        chats.c.company_id == outbox.c.company_id,
        chats.c.chat == outbox.c.chat,
        WAS_MET,
    )
    .limit(1)
    .scalar_subquery()
)
"""A limit instead of EXISTS, for which PostgreSQL might read all chats into a hash table."""
IS_TO_NEW_CONTACT = case(
    (outbox.c.state != MessageState.QUEUED.value, false()),
    (or_(*(outbox.c.chat.endswith(server) for server in NOT_PERSONS)), false()),
    else_=_KNOWN.is_(None),
).label("is_to_new_contact")
READ = (*SHOWN, IS_TO_NEW_CONTACT)
"""The columns of a message as people and programs see it."""


def message_of(row: RowMapping | Mapping[Any, Any]) -> Message:
    """The row may have more columns than a message has."""
    values = {str(name): value for name, value in row.items() if name not in NOT_SHOWN}
    return Message(company=values.pop("company_id"), state=MessageState(values.pop("state")), **values)
