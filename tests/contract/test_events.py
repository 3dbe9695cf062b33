"""Events are stored with the change that they report, in an order in which no reader can miss one, on both
databases.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, select

from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.events import ACCEPTED, RECEIVED, SESSION, Event
from holdfast.delivery.message import MessageState, StatusUpdate
from holdfast.delivery.stores import Draft, MessageChange
from holdfast.delivery.webhooks import new_endpoint
from holdfast.session.engine import Commit, Decrypted, InboundMessage, Undecryptable
from holdfast.session.state import State
from holdfast.session.stores import Record, Transition
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows, record
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from holdfast.store.tables import webhook_deliveries
from holdfast.store.timeline import TimelineRows
from holdfast.store.webhooks import WebhookRows
from tests.databases import migrated
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess

COMPANY, OTHER = "962302", "962303"
CHAT = "962790000001@s.whatsapp.net"
T1, T2, T3 = (f"2026-01-0{day}T00:00:00.000Z" for day in (1, 2, 3))

Open = Callable[[], Database]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a database of this version; `again` opens the same one a second time, where that is possible."""
    place: Path | URL = tmp_path / "holdfast.db"
    if request.param == "sqlite":
        (tmp_path / "holdfast.db").write_bytes(migrated())
    else:
        server: PostgresProcess = request.getfixturevalue("postgres")
        place = parse(server.new_migrated())
    with contextlib.ExitStack() as opened:

        def again() -> Database:
            return opened.enter_context(contextlib.closing(Database(place)))

        yield again


@pytest.fixture
def database(open_database: Open) -> Database:
    return open_database()


@pytest.fixture
def events(database: Database) -> EventRows:
    return EventRows(database)


async def add(database: Database, number: int, *, company: str = COMPANY, at: str = T1) -> None:
    def work(connection: Connection) -> None:
        record(connection, company, SESSION, {"n": number}, chat=None, at=at)

    await database.write(work, company=company)


async def all_of(events: EventRows, *, after: int = 0) -> list[Event]:
    return await events.after(after, companies=None, limit=100)


def bodies(found: list[Event]) -> list[dict[str, object]]:
    return [json.loads(event.body) for event in found]


# The changes that they report.


async def test_each_state_of_a_message_is_an_event(database: Database, events: EventRows) -> None:
    """From its acceptance on, each once, in its chat, with the message as it was then."""
    await SessionRows(database).save(Record(company=COMPANY, state=State.CONNECTED, since=T1, created_at=T1))
    outbox = OutboxRows(database, clock=FakeClock())
    draft = Draft(
        id="msg_1",
        whatsapp_id="3EB01",
        company=COMPANY,
        recipient="962790000001",
        chat=CHAT,
        content={"text": "hello"},
        idempotency_key="k",
        request_hash="h",
    )
    for _ in range(2):
        await outbox.accept(draft)
    for update in (StatusUpdate.ACKED, StatusUpdate.ACKED, StatusUpdate.READ, StatusUpdate.DELIVERED):
        await outbox.apply_updates(COMPANY, [MessageChange(whatsapp_id="3EB01", update=update, at=T2)])
    found = await all_of(events)
    assert [event.type for event in found] == [ACCEPTED, "message.sent", "message.read"]
    assert {(event.company, event.chat) for event in found} == {(COMPANY, CHAT)}
    assert [body["state"] for body in bodies(found)] == [MessageState.QUEUED, MessageState.SENT, MessageState.READ]
    assert (found[1].at, bodies(found)[2]["sentAt"]) == (T2, T2)


async def test_an_inbound_message_is_reported_on_arrival_and_when_decrypted(
    database: Database, events: EventRows
) -> None:
    """Each once, with its text, however often the message arrives."""
    engine = EngineRows(database, clock=FakeClock(), randomness=SystemRandomSource())
    who = {"whatsapp_id": "3A1", "chat": CHAT, "sender": CHAT, "sent_at_s": 1_767_225_600}
    unread = Undecryptable(**who)  # type: ignore[arg-type]  # its fields
    message = InboundMessage(**who, type="text", text="hello")  # type: ignore[arg-type]  # its fields
    read = Decrypted(ciphertext_sha256="1", plaintext="", message=message)
    for seq, commit in enumerate(
        (
            Commit(link=1, seq=1, undecryptable=[unread]),
            Commit(link=1, seq=2, undecryptable=[unread]),
            Commit(link=1, seq=3, decrypted=[read]),
            Commit(link=1, seq=4, decrypted=[read], undecryptable=[unread]),
        )
    ):
        assert len(await engine.commit(COMPANY, commit)) == (seq == 2)
    first, second = await all_of(events)
    assert (first.type, second.type) == (RECEIVED, "message.completed")
    was, is_ = bodies([first, second])
    assert (was["type"], was["text"], is_["type"], is_["text"]) == ("undecryptable", None, "text", "hello")
    assert (was["id"], first.chat) == (is_["id"], second.chat)


LOSS = Transition(
    company=COMPANY,
    at=T1,
    before=State.CONNECTED,
    after=State.RECONNECTING,
    event="LinkClosed",
    reason="connection-closed",
    code=428,
    attempts=1,
    next_attempt_at=T2,
    lasted_s=3.0,
)


async def test_a_change_of_state_is_an_event_and_another_attempt_is_not(database: Database, events: EventRows) -> None:
    """The event has the reason as a sentence."""
    timeline = TimelineRows(database)
    await timeline.add(LOSS)
    await timeline.add(replace(LOSS, before=State.RECONNECTING, attempts=2))
    [event] = await all_of(events)
    [body] = bodies([event])
    assert (event.type, event.chat, event.at) == (SESSION, "", T1)
    assert (body["before"], body["state"], body["nextAttemptAt"]) == ("connected", "reconnecting", T2)
    reason = body["reason"]
    assert isinstance(reason, dict)
    assert reason["number"] == 428
    assert reason["message"]


async def test_a_reason_of_an_earlier_version_is_read_under_its_current_name(database: Database) -> None:
    """A requested reconnection is excluded from the uptime by its name."""
    timeline = TimelineRows(database)
    await timeline.add(replace(LOSS, reason="asked", code=None))
    [transition] = await timeline.last(LOSS.company, since=T1, limit=9)
    assert transition.reason == "reconnect-requested"


async def test_a_required_passkey_is_an_event(database: Database, events: EventRows) -> None:
    """The state stays `pairing`, and yet a person must act within minutes."""
    asked = replace(
        LOSS,
        before=State.PAIRING,
        after=State.PAIRING,
        event="PasskeyRequested",
        reason="passkey-required",
        code=None,
        next_attempt_at=None,
    )
    await TimelineRows(database).add(asked)
    [event] = await all_of(events)
    [body] = bodies([event])
    assert (event.type, body["before"], body["state"]) == (SESSION, "pairing", "pairing")
    reason = body["reason"]
    assert isinstance(reason, dict)
    assert (reason["code"], reason["action"]) == ("passkey-required", "sign-passkey")


async def test_a_change_that_fails_adds_no_event(database: Database, events: EventRows) -> None:
    """Event and change are one transaction."""

    def fails(connection: Connection) -> None:
        record(connection, COMPANY, SESSION, {}, chat=None, at=T1)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await database.write(fails)
    await add(database, 1)
    assert bodies(await all_of(events)) == [{"n": 1}]


# Reading.


async def test_events_are_read_in_order_in_parts_and_by_company(database: Database, events: EventRows) -> None:
    """A page has the events after the last one that was seen."""
    for number, company in enumerate((COMPANY, OTHER, COMPANY, OTHER)):
        await add(database, number, company=company)
    first, second = await events.after(0, companies=None, limit=2)
    assert bodies(await all_of(events, after=second.seq)) == [{"n": 2}, {"n": 3}]
    assert bodies(await events.after(first.seq, companies=[OTHER], limit=9)) == [{"n": 1}, {"n": 3}]
    assert await events.after(0, companies=[], limit=9) == []
    assert bodies(await events.after(0, companies=[OTHER, OTHER], limit=9)) == [{"n": 1}, {"n": 3}]
    assert await events.newest() == second.seq + 2


async def test_a_reader_of_an_event_loop_that_is_closed_stops_no_write(events: EventRows) -> None:
    """All writes go through one thread, which an error of a reader would end."""

    async def listen() -> AbstractContextManager[object]:
        reader = events.listening()
        reader.__enter__()
        return reader

    def run_and_close() -> AbstractContextManager[object]:
        loop = asyncio.new_event_loop()
        with contextlib.closing(loop):
            return loop.run_until_complete(listen())

    left = await asyncio.to_thread(run_and_close)
    for number in (1, 2):
        async with asyncio.timeout(5):
            await events.add(COMPANY, SESSION, {"number": number}, chat="", at="2026-11-22T12:00:00.000Z")
    assert len(await events.after(0, companies=None, limit=9)) == 2
    left.__exit__(None, None, None)


async def test_the_flag_is_set_when_new_events_can_be_read(database: Database, events: EventRows) -> None:
    """A write that adds no event does not set the flag."""
    with events.listening() as flag:
        await database.write(lambda connection: None)
        await asyncio.sleep(0)
        assert not flag.is_set()
        await add(database, 1)
        await flag.wait()
        assert len(await all_of(events)) == 1
    await add(database, 2)
    await asyncio.sleep(0)


async def test_an_event_wakes_the_readers_of_its_company_and_those_of_all(
    database: Database, events: EventRows
) -> None:
    """A reader of another company is not woken, because it would query the database in vain."""
    with (
        events.listening(companies=[COMPANY]) as own,
        events.listening(companies=[OTHER]) as foreign,
        events.listening() as every,
    ):
        await add(database, 1, company=COMPANY)
        await asyncio.gather(own.wait(), every.wait())
        assert not foreign.is_set()
        await add(database, 2, company=OTHER)
        await foreign.wait()


async def test_an_endpoint_gets_only_later_events(database: Database, events: EventRows) -> None:
    """Nothing from before its creation, also when neighbouring writes are in the same transaction."""
    await SessionRows(database).save(Record(company=COMPANY, state=State.CONNECTED, since=T1, created_at=T1))
    held = threading.Event()
    before = database.write(lambda _: held.wait(5))
    around = asyncio.gather(add(database, 1), _put_endpoint(database), add(database, 2))
    asyncio.get_running_loop().call_soon(held.set)
    await asyncio.gather(before, around)
    seqs = await database.read(lambda connection: connection.scalars(select(webhook_deliveries.c.event_seq)).all())
    assert bodies([event for event in await all_of(events) if event.seq in seqs]) == [{"n": 2}]


async def _put_endpoint(database: Database) -> None:
    url = "https://receiver.example/hook"
    await WebhookRows(database).put(COMPANY, lambda _: new_endpoint(COMPANY, url=url, secret=None))


@pytest.mark.slow
async def test_no_reader_misses_an_event_of_another_process(postgres: PostgresProcess) -> None:
    """A reader waits for a transaction that got a lower number: no event below the last number read is missing."""
    place = parse(postgres.new_migrated())
    with contextlib.closing(Database(place)) as one, contextlib.closing(Database(place)) as two:
        reader = EventRows(one)
        seen: list[int] = []

        async def read_on() -> None:
            while len(seen) < 120:
                seen.extend(
                    event.seq for event in await reader.after(seen[-1] if seen else 0, companies=None, limit=50)
                )

        async def write(database: Database) -> None:
            for number in range(60):
                await add(database, number)

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for work in (read_on(), write(one), write(two)):
                tasks.create_task(work)
        assert seen == [event.seq for event in await reader.after(0, companies=None, limit=200)]


# Pruning.


async def test_old_events_are_removed_and_readers_can_detect_it(database: Database, events: EventRows) -> None:
    """A reader that returns after a long time can detect that it missed some."""
    for number, at in enumerate((T1, T1, T2)):
        await add(database, number, at=at)
    assert await events.pruned() == 0
    await events.prune(before=T2, now=T3)
    [left] = await all_of(events)
    assert json.loads(left.body) == {"n": 2}
    assert await events.pruned() == left.seq - 1


async def test_an_event_has_the_same_payload_and_id_whenever_it_is_read(database: Database, events: EventRows) -> None:
    """It is one document with its type, its time and the object."""
    await add(database, 7)
    [event] = await all_of(events)
    assert json.loads(event.payload) == {"type": SESSION, "timestamp": T1, "data": {"n": 7}}
    assert event.id.startswith("evt_")
