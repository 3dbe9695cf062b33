"""Fills a database with messages and all that goes with them, so large that a planner no longer prefers a scan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert

from holdfast.base.clock import iso
from holdfast.store import search_index
from holdfast.store.tables import (
    chats,
    decrypted,
    events,
    inbox,
    media,
    media_chunks,
    outbox,
    sessions,
    transitions,
    webhook_deliveries,
    webhook_endpoints,
)

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 90
DAY = timedelta(days=1)
_BATCH = 2000
_TEXT = "Your order number {} is ready, please pick it up until tomorrow evening"
_STATES = ("read", "delivered", "sent", "delivered", "read", "read", "delivered", "failed", "expired", "cancelled")


def company(number: int) -> str:
    return f"company{number:04}"


def add_sessions(connection: Connection, *, companies: int) -> None:
    now = iso(FIRST)
    rows = [{"company_id": company(n), "state": "stopped", "since": now, "created_at": now} for n in range(companies)]
    connection.execute(insert(sessions), rows)


def add_messages(connection: Connection, numbers: Sequence[int], *, companies: int, total: int, largest: float) -> None:
    """Outbound and inbound messages with these numbers of `total`, spread evenly over `DAYS`.

    largest: the share of the first company.
    """
    for batch in _batches(numbers):
        for table, make in ((outbox, _sent), (inbox, _received)):
            rows = [make(n, companies, total, largest) for n in batch]
            connection.execute(insert(table), rows)
            search_index.add_all(connection, table, rows)


def add_events(connection: Connection, numbers: Sequence[int], *, companies: int, total: int, largest: float) -> None:
    """Events and their webhook deliveries; few of them failed or are still to be delivered."""
    for batch in _batches(numbers):
        rows = [_event(n, companies, total, largest) for n in batch]
        connection.execute(insert(events), [{name: row[name] for name in events.c.keys()} for row in rows])  # noqa: SIM118
        connection.execute(insert(webhook_deliveries), [_delivery(row) for row in rows])


def add_rest(connection: Connection, numbers: Sequence[int], *, companies: int, total: int, largest: float) -> None:
    """Chats, the history of sessions, media and decrypted messages."""
    for batch in _batches(numbers):
        rows = [(n, whose(n, companies, largest), _at(n, total)) for n in batch]
        _insert(connection, chats, (
            {"company_id": c, "chat": f"{_number(n)}@s.whatsapp.net", "first_sent_at": at} for n, c, at in rows
        ))  # fmt: skip
        _insert(connection, transitions, (
            {"company_id": c, "at": at, "before": "connected", "after": "reconnecting", "event": "LinkClosed",
             "attempts": 1, "lasted_s": 1.0} for n, c, at in rows
        ))  # fmt: skip
        _insert(connection, media, (
            {"id": f"med_{n}", "company_id": c, "mimetype": "image/png", "size_bytes": 1, "sha256": "0",
             "created_at": at, "is_whole": True} for n, c, at in rows
        ))  # fmt: skip
        _insert(connection, media_chunks, ({"media_id": f"med_{n}", "n": 0, "bytes": b"p"} for n, _, _ in rows))
        _insert(connection, decrypted, (
            {"company_id": c, "ciphertext_sha256": f"{n:064x}", "plaintext": b"p", "stored_at": at} for n, c, at in rows
        ))  # fmt: skip


def add_endpoint(connection: Connection) -> None:
    values = {"company_id": "", "id": "ep_all", "url": "https://example.com/", "secret": "s"}
    connection.execute(insert(webhook_endpoints).values(values))


def whose(n: int, companies: int, largest: float) -> str:
    return company(0) if n % 1000 < largest * 1000 else company(1 + n % (companies - 1))


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))


def _insert(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    connection.execute(insert(table), list(rows))


def _at(n: int, total: int) -> str:
    return iso(FIRST + timedelta(days=DAYS * n / total))


def _number(n: int) -> str:
    return f"96279{n:07}"


def _sent(n: int, companies: int, total: int, largest: float) -> dict[str, Any]:
    at = _at(n, total)
    is_open = n % 1000 == 500
    person = n // 10 % 10_000
    return {
        "seq": n + 1, "id": f"msg_{n:012}", "company_id": whose(n, companies, largest), "whatsapp_id": f"3EB0{n:016}",
        "chat": f"{_number(person)}@s.whatsapp.net", "recipient": _number(person), "kind": "text",
        "content": json.dumps({"text": _TEXT.format(n)}), "state": "queued" if is_open else _STATES[n % 10],
        "accepted_at": at, "sent_at": at, "attempts": 1,
        **({"next_at": at, "lane": 0} if is_open and n < 100_000 else {"next_at": None, "lane": None}),
    }  # fmt: skip


def _received(n: int, companies: int, total: int, largest: float) -> dict[str, Any]:
    at, jid = _at(n, total), f"{_number(n // 10 % 10_000)}@s.whatsapp.net"
    return {
        "seq": n + 1, "id": f"in_{n:012}", "company_id": whose(n, companies, largest), "chat": jid, "sender": jid,
        "whatsapp_id": f"3A{n:016}", "type": "text", "text": _TEXT.format(n), "from_me": False, "push_name": "Rami",
        "sent_at": at, "stored_at": at, "content": None, "media": None,
    }  # fmt: skip


def _event(n: int, companies: int, total: int, largest: float) -> dict[str, Any]:
    body = {"id": f"msg_{n}", "state": "sent"}
    return {
        "seq": n + 1, "id": f"evt_{n}", "company_id": whose(n, companies, largest), "type": "message.sent",
        "chat": f"{_number(n // 10 % 10_000)}@s.whatsapp.net", "at": _at(n, total), "body": json.dumps(body),
    }  # fmt: skip


def _delivery(event: dict[str, Any]) -> dict[str, Any]:
    n = event["seq"]
    state = {400: "failed", 500: "pending"}.get(n % 1000, "delivered")
    pending = {"next_at": event["at"], "attempts": 1} if state == "pending" else {"next_at": None, "attempts": 2}
    same = {name: event[name] for name in ("company_id", "chat", "at")}
    return {"event_seq": n, "state": state, "last_at": event["at"], **same, **pending}
