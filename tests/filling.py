"""Fills a database with messages and everything that belongs to them, until it is so large that a planner avoids
scans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert

from holdfast.base.clock import iso
from holdfast.store import search_index
from holdfast.store.tables import (
    chat_aliases,
    chats,
    contacts,
    decrypted,
    events,
    inbox,
    labelled,
    media,
    media_chunks,
    operations,
    outbox,
    sessions,
    starred,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one table."""

    table: str
    names: tuple[str, ...]
    values: list[tuple[Any, ...]]

    @classmethod
    def of(cls, table: Table, rows: Sequence[dict[str, Any]]) -> Rows:
        return cls(table=table.name, names=tuple(rows[0]), values=[tuple(row.values()) for row in rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """Rows with numbers below `total`, spread evenly over the days."""

    companies: int
    total: int
    largest: float = 0.1
    """The share of the first company."""
    first: datetime = FIRST
    days: int = DAYS

    def add_sessions(self, connection: Connection) -> None:
        now = iso(self.first)
        same = {"state": "stopped", "since": now, "created_at": now}
        load(connection, Rows.of(sessions, [{"company_id": company(n), **same} for n in range(self.companies)]))

    def add_messages(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Outbound and inbound messages, indexed for search."""
        _add(connection, self.messages, numbers)

    def add_events(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Events and their webhook deliveries, of which a few have failed or are pending."""
        _add(connection, self.events, numbers)

    def add_rest(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Chats with their settings, operations, the history of sessions, media and decrypted messages."""
        _add(connection, self.rest, numbers)

    def messages(self, numbers: Sequence[int]) -> Iterator[Rows]:
        for table, make in ((outbox, self._sent), (inbox, self._received)):
            rows = [make(n) for n in numbers]
            yield Rows.of(table, rows)
            entries = [(row["seq"], " ".join(search_index.entry(table, row))) for row in rows]
            yield Rows(table=f"{table.name}_search", names=("rowid", "words"), values=entries)

    def events(self, numbers: Sequence[int]) -> Iterator[Rows]:
        rows = [self._event(n) for n in numbers]
        yield Rows.of(events, rows)
        yield Rows.of(webhook_deliveries, [_delivery(row) for row in rows])

    def rest(self, numbers: Sequence[int]) -> Iterator[Rows]:
        rows = [(n, self.whose(n), self._at(n)) for n in numbers]
        yield Rows.of(chats, [
            {"company_id": c, "chat": f"{_number(n)}@s.whatsapp.net", "first_sent_at": at, "last_at": at,
             "last_seq": n + 1, "last_is_sent": n % 2 == 0, "unread": int(n % 50 == 0)} for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(operations, [
            {"id": f"op_{n:012}", "company_id": c, "kind": "block", "target": f"{_number(n)}@s.whatsapp.net",
             "arguments": "{}", "state": "queued" if n % 1000 == 500 else "succeeded", "accepted_at": at,
             "settled_at": None if n % 1000 == 500 else at} for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(contacts, [
            {"company_id": c, "jid": f"{_number(n)}@s.whatsapp.net", "number": _number(n), "lid": f"{_lid(n)}@lid",
             "username": None, "push_name": "Rami", "updated_at": at} for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(chat_aliases, [
            {"company_id": c, "alias": f"{_lid(n)}@lid", "chat": f"{_number(n)}@s.whatsapp.net", "moved_at": at}
            for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(labelled, [
            {"company_id": c, "label_id": str(n % 20), "chat": f"{_number(n)}@s.whatsapp.net", "whatsapp_id": ""}
            for n, c, _ in rows
        ])  # fmt: skip
        yield Rows.of(starred, [
            {"company_id": c, "chat": f"{_number(n)}@s.whatsapp.net", "whatsapp_id": f"3A{n}", "starred_at": at}
            for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(transitions, [
            {"company_id": c, "at": at, "before": "connected", "after": "reconnecting", "event": "LinkClosed",
             "attempts": 1, "lasted_s": 1.0} for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(media, [
            {"id": f"med_{n}", "company_id": c, "mimetype": "image/png", "size_bytes": 1, "sha256": "0",
             "created_at": at, "is_whole": True} for n, c, at in rows
        ])  # fmt: skip
        yield Rows.of(media_chunks, [{"media_id": f"med_{n}", "n": 0, "bytes": b"p"} for n, _, _ in rows])
        yield Rows.of(decrypted, [
            {"company_id": c, "ciphertext_sha256": f"{n:064x}", "plaintext": b"p", "stored_at": at}
            for n, c, at in rows
        ])  # fmt: skip

    def whose(self, n: int) -> str:
        return company(0) if n % 1000 < self.largest * 1000 else company(1 + n % (self.companies - 1))

    def _at(self, n: int) -> str:
        return iso(self.first + timedelta(days=self.days * n / self.total))

    def _sent(self, n: int) -> dict[str, Any]:
        at = self._at(n)
        is_open = n % 1000 == 500
        person = n // 10 % 10_000
        return {
            "seq": n + 1, "id": f"msg_{n:012}", "company_id": self.whose(n), "whatsapp_id": f"3EB0{n:016}",
            "chat": f"{_number(person)}@s.whatsapp.net", "recipient": _number(person), "kind": "text",
            "content": json.dumps({"text": _TEXT.format(n)}), "state": "queued" if is_open else _STATES[n % 10],
            "accepted_at": at, "sent_at": at, "attempts": 1,
            **({"next_at": at, "lane": 0} if is_open and n < 100_000 else {"next_at": None, "lane": None}),
        }  # fmt: skip

    def _received(self, n: int) -> dict[str, Any]:
        at, jid = self._at(n), f"{_number(n // 10 % 10_000)}@s.whatsapp.net"
        return {
            "seq": n + 1, "id": f"in_{n:012}", "company_id": self.whose(n), "chat": jid, "sender": jid,
            "whatsapp_id": f"3A{n:016}", "type": "text", "text": _TEXT.format(n), "from_me": False,
            "push_name": "Rami", "sent_at": at, "stored_at": at, "content": None, "media": None,
        }  # fmt: skip

    def _event(self, n: int) -> dict[str, Any]:
        body = {"id": f"msg_{n}", "state": "sent"}
        return {
            "seq": n + 1, "id": f"evt_{n}", "company_id": self.whose(n), "type": "message.sent",
            "chat": f"{_number(n // 10 % 10_000)}@s.whatsapp.net", "at": self._at(n), "body": json.dumps(body),
        }  # fmt: skip


def add_endpoint(connection: Connection) -> None:
    values = {"company_id": "", "id": "ep_all", "url": "https://example.com/", "secret": "s"}
    connection.execute(insert(webhook_endpoints).values(values))


def batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))


def _add(connection: Connection, make: Callable[[Sequence[int]], Iterable[Rows]], numbers: Sequence[int]) -> None:
    for batch in batches(numbers):
        for rows in make(batch):
            load(connection, rows)


def load(connection: Connection, rows: Rows) -> None:
    """Load rows as fast as the database allows: bypasses SQLAlchemy, which needs longer for a row than SQLite."""
    driver: Any = connection.connection.driver_connection
    names = ", ".join(rows.names)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(rows.names))
        driver.executemany(f"INSERT INTO {rows.table} ({names}) VALUES ({marks})", rows.values)
        return
    names = names.replace("rowid", "seq")  # of a full-text index
    with driver.cursor() as cursor, cursor.copy(f"COPY {rows.table} ({names}) FROM STDIN") as copy:
        for row in rows.values:
            copy.write_row(row)


def _number(n: int) -> str:
    return f"96279{n:07}"


def _lid(n: int) -> str:
    return f"88{n:013}"


def _delivery(event: dict[str, Any]) -> dict[str, Any]:
    n = event["seq"]
    state = {400: "failed", 500: "pending"}.get(n % 1000, "delivered")
    pending = {"next_at": event["at"], "attempts": 1} if state == "pending" else {"next_at": None, "attempts": 2}
    same = {name: event[name] for name in ("company_id", "chat", "at")}
    return {"event_seq": n, "state": state, "last_at": event["at"], **same, **pending}
