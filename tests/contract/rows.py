"""The stores whose contracts are tested, and sample rows for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from holdfast.delivery.events import Events
from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.rate_limits import Allowance
from holdfast.delivery.stores import Accounts, Deferral, Draft, Inbox, Message, MessageChange, Outbox, Outgoing
from holdfast.session.contacts import Contacts
from holdfast.session.engine import Decrypted, InboundMessage
from holdfast.session.state import State
from holdfast.session.stores import EngineStore, Record, Sessions
from holdfast.store.database import Database
from tests.doubles.fake_clock import FakeClock

Row = tuple[object, ...]
Statement = tuple[str, Any]
"""A statement's SQL and its values."""

COMPANY, OTHER = "962302", "962303"
T1, T2, T3 = (f"2026-01-01T00:00:0{second}.000Z" for second in (1, 2, 3))


@dataclass(slots=True)
class Store:
    rows: Callable[[str], list[Row]]
    """Rows in the database, as another program sees them."""
    clock: FakeClock
    sessions: Sessions
    engine: EngineStore
    outbox: Outbox
    inbox: Inbox
    accounts: Accounts
    events: Events
    contacts: Contacts
    database: Database


def record(company: str = COMPANY, state: State = State.CONNECTED) -> Record:
    return Record(company=company, state=state, since=T1, created_at=T1)


def draft(number: int = 1, *, company: str = COMPANY, key: str | None = None, request_hash: str = "h") -> Draft:
    return Draft(
        id=f"msg_{number}",
        whatsapp_id=f"3EB0{number:04}",
        company=company,
        recipient="962790000001",
        chat="962790000001@s.whatsapp.net",
        content={"text": f"message {number}"},
        idempotency_key=key,
        request_hash=request_hash,
    )


def allow(total: int = 20, **changes: int) -> Allowance:
    """Capacity for so many messages, and no limit of any kind unless `changes` has one."""
    limits = {"bulk": total, "new": total, "approached": total} | changes
    return Allowance(total=total, more_at=None, suspects=True, **limits)


async def take(
    outbox: Outbox, company: str = COMPANY, *, exclude: Collection[str] = (), **changes: int
) -> list[Outgoing]:
    """Take the messages that are due and allowed; they are committed as `sending`."""
    return list((await outbox.take(company, allow(**changes), exclude=exclude)).messages)


async def refuse(store: Store, message: Message, *, until: str, code: str = "ack-503", held: str | None = None) -> None:
    """WhatsApp refused the current attempt; the message waits until then."""
    deferral = Deferral(whatsapp_id=message.whatsapp_id, at=T1, next_at=until, code=code, message="why", held_code=held)
    await store.outbox.apply_updates(message.company, [deferral])


async def apply_updates(store: Store, message: Message, update: StatusUpdate, *, at: str = T1) -> list[Message]:
    return await store.outbox.apply_updates(
        message.company, [MessageChange(whatsapp_id=message.whatsapp_id, update=update, at=at)]
    )


def inbound(number: int = 1, **changes: object) -> InboundMessage:
    values: dict[str, object] = {
        "whatsapp_id": f"3A{number:04}",
        "chat": "962799999999@s.whatsapp.net",
        "sender": "962799999999@s.whatsapp.net",
        "type": "text",
        "text": f"text {number}",
        "sent_at_s": 1_767_225_600,
    }
    return InboundMessage(**(values | changes))  # type: ignore[arg-type]  # fields of InboundMessage


def decrypted(number: int = 1, message: InboundMessage | None = None) -> Decrypted:
    return Decrypted(ciphertext_sha256=f"{number:064x}", plaintext="aGVsbG8=", message=message)
