"""The full-text index of messages: it is written and removed together with them, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, text

from holdfast.backup.backup_dir import Opener
from holdfast.backup.clearing import clear_in_parts
from holdfast.backup.creating import BackupMaker, BackupOrigin
from holdfast.backup.restoring import Restorer
from holdfast.base.clock import SystemClock, iso
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.message import MessageState, StatusUpdate
from holdfast.delivery.retention import RetainedRows
from holdfast.delivery.stores import Draft, MessageChange
from holdfast.session.engine import Commit, Decrypted, InboundMessage, Undecryptable
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.lookup import LookupRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.retention import RetentionRows
from holdfast.store.search_indexer import MAX_AT_ONCE, RETRY_S, SearchIndexer
from holdfast.store.sessions import SessionRows
from tests import filling
from tests.contract.rows import record
from tests.doubles.fake_clock import FakeClock

COMPANY, OTHER = "962302", "962303"
CHAT = "962790000001@s.whatsapp.net"
CLOCK = FakeClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    database: Database
    indexer: SearchIndexer
    lookup: LookupRows

    async def send(self, n: int, content: dict[str, object], *, company: str = COMPANY) -> None:
        draft = Draft(
            id=f"msg_{company}_{n}", whatsapp_id=f"3EB0{company}{n}", company=company, recipient="962790000001",
            chat=CHAT, content=content, idempotency_key=None, request_hash="h",
        )  # fmt: skip
        await OutboxRows(self.database, clock=CLOCK).accept(draft)

    async def receive(self, id_: str, said: str | None, *, name: str = "Rania") -> None:
        """Without a text the message is undecryptable."""
        rows = EngineRows(self.database, clock=CLOCK, randomness=SystemRandomSource())
        if said is None:
            unread = Undecryptable(whatsapp_id=id_, chat=CHAT, sender=CHAT, push_name=name)
            commit = Commit(link=1, seq=1, undecryptable=[unread])
        else:
            message = InboundMessage(
                whatsapp_id=id_, chat=CHAT, sender=CHAT, type="text", text=said, sent_at_s=1, push_name=name
            )
            decrypted = Decrypted(ciphertext_sha256=id_, plaintext="aGVsbG8=", message=message)
            commit = Commit(link=1, seq=1, decrypted=[decrypted])
        await rows.commit(COMPANY, commit)

    async def sent(self, words: str, *, state: MessageState | None = None, company: str = COMPANY) -> list[str]:
        found = await self.lookup.sent_messages(company, words=words, state=state, before=None, limit=9)
        return [each.id.rpartition("_")[2] for each in found]

    async def received(self, words: str) -> list[str]:
        found = await self.lookup.inbound(COMPANY, words=words, before=None, limit=9)
        return [each.whatsapp_id for each in found]

    async def entries(self) -> int:
        """The number of indexed messages, after all are indexed."""
        await self.indexer.catch_up()

        def count(connection: Connection) -> int:
            each = (connection.scalar(text(f"SELECT COUNT(*) FROM {name}_search")) for name in ("outbox", "inbox"))
            return sum(each)

        return await self.database.read(count)


@pytest.fixture
async def store(place: Path | URL) -> AsyncIterator[Store]:
    database = Database(place)
    for company in (COMPANY, OTHER):
        await SessionRows(database).create(record(company))
    indexer = SearchIndexer(database, clock=CLOCK)
    yield Store(database=database, indexer=indexer, lookup=LookupRows(database, indexer))
    database.close()


async def test_a_message_is_found_as_soon_as_it_is_stored(store: Store) -> None:
    """By texts, captions, names of files and people; only by its own company, the newest first."""
    await store.send(1, {"text": "the order is ready"})
    await store.send(2, {"document": {"media": "med_1", "filename": "order.pdf", "caption": "فاتورة"}})
    await store.send(3, {"text": "the order of another"}, company=OTHER)
    await store.receive("3A1", "where is my order?")
    assert await store.sent("order") == ["2", "1"]
    assert await store.sent("الفاتورة") == ["2"]
    assert await store.sent("order", company=OTHER) == ["3"]
    assert await store.sent("order", state=MessageState.FAILED) == []
    assert await store.sent("order", state=MessageState.QUEUED) == ["2", "1"]
    assert await store.received("order") == await store.received("rania") == await store.received("3A1") == ["3A1"]


async def test_a_message_that_was_decrypted_later_is_found_by_its_text(store: Store) -> None:
    """Until then by its number; the index has it once."""
    await store.receive("3A1", None)
    assert (await store.received("hello"), await store.received("79000")) == ([], ["3A1"])
    await store.receive("3A1", "hello")
    assert await store.received("hello") == await store.received("79000") == ["3A1"]
    assert await store.entries() == 1


async def test_a_message_completed_before_it_was_indexed_is_found_by_its_text(store: Store) -> None:
    """No message that was stored before it is left out."""
    await store.receive("3A0", "hello")
    await store.receive("3A1", None)
    await store.receive("3A1", "hello")
    assert await store.received("hello") == ["3A1", "3A0"]
    assert await store.entries() == 2


async def test_many_messages_are_indexed_in_batches_and_a_failure_is_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count = 2 * MAX_AT_ONCE + 1
    for n in range(count):
        await store.send(n, {"text": "order"})
    with monkeypatch.context() as patched:
        patched.setattr(store.indexer, "_write", _full_disk)
        running = asyncio.create_task(store.indexer.run())
        while "could not be indexed" not in caplog.text:  # noqa: ASYNC110 – found out in another thread
            await asyncio.sleep(0.01)
    CLOCK.advance_to(CLOCK.monotonic() + RETRY_S)
    while await _indexed(store.database) < count:  # noqa: ASYNC110 – written in another thread
        await asyncio.sleep(0.01)
    running.cancel()


async def test_nothing_is_written_while_all_messages_are_indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty write would succeed on a full disk, and the gateway would report itself as ready."""
    await store.send(1, {"text": "order"})
    assert await store.entries() == 1
    monkeypatch.setattr(store.indexer, "_write", _full_disk)
    assert await store.sent("order") == ["1"]
    await store.send(2, {"text": "order"})
    assert await store.sent("order") == ["1"], "a search finds what was indexed before"
    assert not await store.indexer.try_to_catch_up()


async def _full_disk(_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


async def _indexed(database: Database) -> int:
    return await database.read(lambda connection: connection.scalar(text("SELECT COUNT(*) FROM outbox_search")) or 0)


HOSTILE = [
    "'", '"', "''", '"" OR ""', "*", "a*", "a OR b", "NOT a", "a NEAR b", "AND", "order:", "words:order", "^order",
    "-order",
    "(", ")", "a & b", "a | !b", ":*", "\\", "'; DROP TABLE outbox; --", "%", "_", "\x00", "a\x00b", "\ud800", "?!…",
    "\u200d", "👍", "👨‍👩‍👧‍👦", "🇯🇴", "فاتورة", "ﷺ", "Ω≈ç√", "ｏｒｄｅｒ", "1e309", "9" * 5000, "a" * 1_000_000,
    "a " * 500_000, "'" * 100_000, "İ", "ß", "\N{COMBINING ACUTE ACCENT}",
]  # fmt: skip


async def test_no_search_fails_whatever_is_typed(store: Store) -> None:
    """Operators of both databases, quotes, NUL and a megabyte of text have no special effect."""
    await store.send(1, {"text": "the order 👍 is ready"})
    await store.receive("3A1", "the order 👍 is ready")
    for asked in HOSTILE:
        for state in (None, MessageState.QUEUED, MessageState.READ):
            await store.sent(asked, state=state)
        await store.received(asked)
    assert await store.sent("👍") == await store.sent("ｏｒｄｅｒ") == ["1"]
    assert await store.sent("the OR nothing") == await store.sent("NOT a") == []


async def test_hostile_texts_are_indexed(store: Store) -> None:
    """A message may contain the same texts."""
    for n, said in enumerate(HOSTILE):
        await store.send(n, {"text": said})
        await store.receive(f"3A{n}", said.encode(errors="ignore").decode().replace("\0", ""))
    assert await store.entries() == 2 * len(HOSTILE)


async def test_a_search_in_one_state_finds_new_and_old_messages(store: Store) -> None:
    """Whether the message is among the newest of the state that are scanned, or only in the index."""
    newest, some = 1_800, filling.Filling(companies=1, total=1_800, largest=1.0)
    company = filling.company(0)

    def fill(connection: Connection) -> None:
        some.add_sessions(connection)
        some.add_messages(connection, range(1, newest + 1))
        connection.execute(text("UPDATE outbox SET state = 'cancelled', next_at = NULL, lane = NULL"))

    await store.database.write(fill)
    for n in (newest, 1_000, 2):
        number = f"{n:012}"
        assert await store.sent(f"msg_{number}", state=MessageState.CANCELLED, company=company) == [number]
        assert await store.sent(f"msg_{number}", state=MessageState.FAILED, company=company) == []
    assert len(await store.sent("ready", state=MessageState.CANCELLED, company=company)) == 9
    assert await store.sent("ready", state=MessageState.QUEUED, company=company) == []


async def test_no_write_has_to_empty_a_list_of_pending_index_entries(store: Store) -> None:
    """PostgreSQL's GIN indexes have such a list by default; SQLite's full-text index has none."""

    def options(connection: Connection) -> dict[str, list[str]]:
        if connection.dialect.name != "postgresql":
            return {}
        found = connection.execute(text("SELECT relname, reloptions FROM pg_class WHERE relname LIKE '%search_words'"))
        return {row.relname: row.reloptions for row in found}

    found = await store.database.read(options)
    assert all(each == ["fastupdate=off"] for each in found.values())
    assert len(found) == (2 if store.database.is_shared else 0)


async def test_removed_messages_are_removed_from_the_index(store: Store) -> None:
    """By retention, and when a company is cleared."""
    await store.send(1, {"text": "old order"})
    await store.send(2, {"text": "order of another"}, company=OTHER)
    await store.receive("3A1", "old order")
    change = MessageChange(whatsapp_id=f"3EB0{COMPANY}1", update=StatusUpdate.CANCELLED, at=iso(CLOCK.now()))
    await OutboxRows(store.database, clock=CLOCK).apply_updates(COMPANY, [change])
    assert await store.entries() == 3
    for kept in (RetainedRows.MESSAGES, RetainedRows.INBOX):
        await RetentionRows(store.database).remove_batch(kept, before="2100", now="2101", after=0)
    assert (await store.sent("order"), await store.sent("order", company=OTHER)) == ([], ["2"])
    assert await store.entries() == 1
    await clear_in_parts(store.database, OTHER, clock=SystemClock())
    assert await store.entries() == 0


async def test_a_restore_indexes_what_it_restores(store: Store, tmp_path: Path) -> None:
    """The index itself is in no backup."""
    await store.send(1, {"text": "the order is ready"})
    await store.receive("3A1", "the order is ready")
    maker = BackupMaker(store.database, tmp_path / "backups", origin=BackupOrigin(made_by="now", settings={}))
    made = await maker.make(kind="manual", now=CLOCK.now())
    await store.send(2, {"text": "a later order"})
    restorer = Restorer(store.database, maker, folder=tmp_path / "backups", opener=Opener(), clock=CLOCK)
    await restorer.restore(made.path, take_stale=["all"], progress=lambda _: None)
    assert (await store.sent("order"), await store.received("order")) == (["1"], ["3A1"])
    assert await store.entries() == 2
