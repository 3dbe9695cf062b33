"""No statement of a running gateway reads a table that grows from end to end, or sorts it: EXPLAIN says so.

A workload calls every method of every store on a database that is large enough for the planner, each statement is
recorded with its values, and the database explains each one. A new method must be added to the workload.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct
from sqlalchemy import URL, Connection

from holdfast.backup.rows import count_on
from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.calls import REJECTED, RINGING, Call
from holdfast.delivery.chats import ChatCursor
from holdfast.delivery.content import StoredMedia
from holdfast.delivery.message import MessageState, StatusUpdate
from holdfast.delivery.rate_limits import REACH_OUT_LOCK, Allowance
from holdfast.delivery.retention import RetainedRows
from holdfast.delivery.stores import BULK, Deferral, Draft, MessageChange
from holdfast.delivery.webhooks import Attempt
from holdfast.session.account_changes import (
    ChatChanged,
    ChatRead,
    ContactSaved,
    LabelChanged,
    Labelled,
    PersonNamed,
    Starred,
)
from holdfast.session.contacts import Identity
from holdfast.session.engine import (
    CallSignal,
    Commit,
    CreatedMessage,
    Decrypted,
    GroupChange,
    InboundMessage,
    Undecryptable,
)
from holdfast.session.operation_states import OperationDraft, OperationState
from holdfast.session.state import State
from holdfast.session.stores import NodeDescription, Transition
from holdfast.store.account_settings import AccountSettingRows
from holdfast.store.accounts import AccountRows
from holdfast.store.calls import CallRows
from holdfast.store.chat_rows import ChatRows
from holdfast.store.contacts import ContactRows
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.leases import LeaseRows
from holdfast.store.lookup import LookupRows
from holdfast.store.media import MediaRows
from holdfast.store.operations import OperationRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.references import ReferenceRows
from holdfast.store.retention import RetentionRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.sessions import SessionRows
from holdfast.store.shared_secrets import note
from holdfast.store.timeline import TimelineRows
from holdfast.store.webhooks import WebhookRows
from tests import filling
from tests.contract.rows import Statement, record
from tests.doubles.fake_clock import FakeClock

ROWS, COMPANIES = 10_000, 100
FILLING = filling.Filling(companies=COMPANIES, total=ROWS, largest=0.1)
GROWING = {
    "outbox", "operations", "inbox", "events", "webhook_deliveries", "turns", "media", "media_chunks", "decrypted",
    "chats", "contacts", "chat_aliases", "outbox_search", "inbox_search", "labelled", "starred",
}  # fmt: skip
PARTIAL = {
    "outbox_open",
    "operations_open",
    "outbox_head",
    "outbox_due",
    "outbox_interactive",
    "outbox_expiry",
    "chat_aliases_unmoved",
    "webhook_deliveries_pending",
    "webhook_deliveries_heads",
    "webhook_deliveries_failed",
    "webhook_deliveries_all_failed",
    "webhook_deliveries_retried",
    "webhook_deliveries_all_retried",
    "webhook_deliveries_old",
}
"""Indexes of open work: to read one of them completely, or to sort it, does not depend on the size of the history."""
COMPANY, CHAT = filling.company(7), "962790000700@s.whatsapp.net"
NOW = filling.FIRST + timedelta(days=filling.DAYS)
STEP = ClockStep(by_s=-3600.0, suspended_s=0.0, after=NOW, at=NOW)


class Called:
    """A store that records which of its methods are called."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.missing = {name for name, each in inspect.getmembers(type(store), inspect.iscoroutinefunction)}
        self.missing -= {name for name in self.missing if name.startswith("_")}

    def __getattr__(self, name: str) -> Any:
        self.missing.discard(name)
        return getattr(self._store, name)


def fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    filling.add_endpoint(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(ROWS))
    count_on(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE")


async def workload(database: Database) -> set[str]:
    """Calls every method of every store; returns those that it missed."""
    clock, randomness = FakeClock(), SystemRandomSource()
    stores = [
        Called(each)
        for each in (
            OutboxRows(database, clock=clock), InboxRows(database),
            LookupRows(database, SearchIndexer(database, clock=clock)),
            FigureRows(database),
            ReferenceRows(database), EventRows(database), WebhookRows(database), TimelineRows(database),
            MediaRows(database, clock=clock), EngineRows(database, clock=clock, randomness=randomness),
            AccountRows(database), SessionRows(database), RetentionRows(database), ChatRows(database),
            OperationRows(database, clock=clock), ContactRows(database, clock=clock), AccountSettingRows(database),
            CallRows(database, clock=clock),
        )
    ]  # fmt: skip
    outbox, inbox, lookup, figures, references, events, webhooks, timeline, media, engine, *others = stores
    accounts, sessions, retention, chats, operations, contacts, settings, calls = others
    await _messages(outbox, inbox, lookup, figures, references)
    await _webhooks(webhooks)
    await _engine(engine, accounts, sessions, timeline)
    await _calls(engine, calls)
    await _media(media)
    await _operations(operations)
    await _contacts(contacts, outbox)
    await contacts.catch_up()
    await database.write(lambda connection: note(connection, "contacts-backfill", '{"before_seq": 40}'))
    await contacts.catch_up()
    await settings.labels_of(COMPANY, [CHAT])
    await settings.labels(COMPANY)
    await settings.oldest_in(COMPANY, CHAT)
    await settings.chats_with(COMPANY, "3", after="", limit=100)
    for companies in (None, [COMPANY], [COMPANY, filling.company(8)]):
        await events.after(ROWS // 2, companies=companies, limit=100)
    await events.add(COMPANY, "presence.updated", {}, chat=CHAT, at=iso(NOW))
    await events.first_since(_ago(1))
    await events.newest()
    await events.pruned()
    await events.prune(before=_ago(80), now=_ago(0))
    for kept in RetainedRows:
        await retention.remove_batch(kept, before=_ago(80), now=_ago(0), after=0)
        await retention.remove_batch(kept, before=_ago(60), now=_ago(0), after=ROWS // 10)
    await retention.reclaim_space()
    await _chats(chats)
    if database.is_shared:
        stores.append(await _leases(database))
    return {f"{type(store._store).__name__}.{name}" for store in stores for name in store.missing}


async def _operations(operations: Called) -> None:
    for number in range(2):
        made = OperationDraft(
            id=f"op_{number}", company=COMPANY, kind="block", target=CHAT, arguments={"jid": CHAT, "blocked": True},
            request_hash="h", idempotency_key=f"operation {number}",
        )  # fmt: skip
        accepted = await operations.accept(made, max_open=1000)
        await operations.accept(made, max_open=1000)
        await operations.repeated(COMPANY, idempotency_key=made.idempotency_key or "", request_hash=made.request_hash)
    await operations.cancel("op_0")
    running = replace(accepted.operation, state=OperationState.RUNNING)
    await operations.save(running, before=OperationState.QUEUED)
    await operations.follow_clock(COMPANY, STEP)
    await operations.find("op_1")
    await operations.open(COMPANY, now=_ago(0), paused=("block",), limit=200)
    for state in (None, OperationState.QUEUED, OperationState.SUCCEEDED):
        await operations.operations(COMPANY, state=state, after=0, limit=101)
    await operations.newest(COMPANY, limit=30)


async def _queue(outbox: Called) -> None:
    await outbox.accept(_draft("msg_bulk", "bulk", priority=BULK, expires_at=iso(NOW)))
    await outbox.accept(_draft("msg_behind", "behind"))
    limits = Allowance(total=9, bulk=9, new=9, approached=9, more_at=None)
    taken = await outbox.take(COMPANY, limits, exclude=["other"])
    deferrals = [
        Deferral(
            whatsapp_id=each.whatsapp_id, at=iso(NOW), next_at=iso(NOW), code="ack-463", message="why",
            held_code=REACH_OUT_LOCK, crash_score=4,
        )
        for each in taken.messages
    ]  # fmt: skip
    await outbox.apply_updates(COMPANY, deferrals)
    await outbox.reschedule_held(COMPANY, code=REACH_OUT_LOCK, until=None)
    await outbox.make_due(COMPANY)
    await outbox.move_expiries(COMPANY, STEP)
    await outbox.take(COMPANY, limits, exclude=[], alone=True)
    settled = MessageChange(whatsapp_id="bulk", update=StatusUpdate.ACKED, at=iso(NOW))
    await outbox.take_made_due(COMPANY, limits, exclude=[], updates=[settled])
    await outbox.next_expiry(COMPANY)
    await outbox.expire(COMPANY, at=_ago(80))


async def _messages(outbox: Called, inbox: Called, lookup: Called, figures: Called, references: Called) -> None:
    await outbox.accept(_draft("msg_new", "new", key="k"))
    with pytest.raises(Conflict):
        await outbox.accept(_draft("msg_newer", "newer", key="k", request_hash="other"))
    changes = [
        MessageChange(whatsapp_id="new", update=update, at=iso(NOW), makes_known=True)
        for update in (StatusUpdate.ACKED, StatusUpdate.READ)
    ]
    await outbox.apply_updates(COMPANY, changes)
    await outbox.apply_updates(COMPANY, [replace(changes[0], whatsapp_id=f"nobody{n}") for n in range(100)])
    await outbox.accept(_draft("msg_other", "other"))
    await outbox.cancel("msg_other")
    await _queue(outbox)
    await outbox.sent_content(COMPANY, "new", chat=CHAT)
    found = await outbox.message("msg_new")
    await outbox.receipts(found)
    for state in (None, *MessageState):
        for chat in (None, CHAT):
            await outbox.messages(COMPANY, state=state, after=0, limit=100, chat=chat)
        for words in ("", "nothing like it", "962790000700", "ready"):
            await lookup.sent_messages(COMPANY, words=words, state=state, before=ROWS, limit=50)
    for words in ("", "nothing like it", "962790000700", "ready"):
        await lookup.sent_messages(COMPANY, words=words, state=None, before=None, limit=50)
        await lookup.inbound(COMPANY, words=words, before=None, limit=50)
        await lookup.inbound(COMPANY, words=words, before=ROWS, limit=50)
    await lookup.sent_message(COMPANY, found.id)
    for chat in (None, CHAT):
        await inbox.received(COMPANY, after=0, limit=100, chat=chat)
    await inbox.find("in_000000000007")
    await figures.backlogs()
    await figures.backlogs(COMPANY)
    await figures.tally(COMPANY, since=_ago(1), until=iso(NOW))
    await lookup.tallies(since=_ago(1), until=iso(NOW))
    await references.find(COMPANY, "3A7", chat=CHAT)
    await references.find(COMPANY, found.id, chat=None)
    await references.replayed(COMPANY, "k")
    await references.canonical(COMPANY, CHAT)
    await references.saved_contacts(COMPANY, limit=1000)


def _draft(
    id_: str,
    whatsapp_id: str,
    *,
    key: str | None = None,
    request_hash: str = "h",
    priority: int = 0,
    expires_at: str | None = None,
) -> Draft:
    return Draft(
        id=id_, whatsapp_id=whatsapp_id, company=COMPANY, recipient="962790000700", chat=CHAT,
        content={"text": "hello"}, idempotency_key=key, request_hash=request_hash, priority=priority,
        expires_at=expires_at,
    )  # fmt: skip


async def _webhooks(webhooks: Called) -> None:
    companies = [filling.company(n) for n in range(COMPANIES)]
    await webhooks.set_default("https://example.com/hook", "secret")
    due = await webhooks.find_due(companies, now=NOW, limit=32, known=(), busy=())
    await webhooks.event(due.heads[0].seq)
    await webhooks.settle(due.heads[0], Attempt(status=200), now=NOW, jitter=0.5)
    await webhooks.settle(due.heads[1], Attempt(status=500), now=NOW, jitter=0.5)
    (endpoint,) = await webhooks.endpoints()
    await webhooks.endpoint(COMPANY)
    await webhooks.put(COMPANY, lambda _: None)
    await webhooks.resume(endpoint.id)
    await webhooks.counts()
    for some in (None, [COMPANY], [COMPANY, filling.company(8)]):
        for after in (0, ROWS // 2):
            await webhooks.failed(some, after=after, limit=100)
    await webhooks.company_of("evt_7")
    await webhooks.replay("evt_7")
    await webhooks.replay_all([COMPANY], since=None)
    await webhooks.replay_all([COMPANY], since=_ago(1))
    await webhooks.follow_clock([COMPANY], STEP)
    await webhooks.retry_from_future([COMPANY], now=NOW)
    await webhooks.give_up_old(before=_ago(80), at=iso(NOW))


async def _engine(engine: Called, accounts: Called, sessions: Called, timeline: Called) -> None:
    message = InboundMessage(whatsapp_id="3Anew", chat=CHAT, sender=CHAT, type="text", text="hello", sent_at_s=1)
    commit = Commit(
        link=1, seq=1, credentials="{}", keys={"session": {"a": "1", "b": None}},
        decrypted=[Decrypted(ciphertext_sha256="ab", plaintext="aGVsbG8=", message=message)],
        undecryptable=[Undecryptable(whatsapp_id="3Aother", chat=CHAT, sender=CHAT)],
        made=[CreatedMessage(whatsapp_id="new", made="aGVsbG8=")],
        changes=[
            ChatChanged(chat=CHAT, archived=True, unread=True),
            ContactSaved(chat=CHAT, saved_name="Salma"),
            ContactSaved(chat=CHAT),
            PersonNamed(chat=CHAT, push_name="Salma"),
            LabelChanged(label="3", name="VIP"),
            Labelled(label="3", chat=CHAT, on=True),
            Labelled(label="3", chat=CHAT, on=False),
            LabelChanged(label="3"),
            ChatRead(chat=CHAT, whatsapp_ids=["3Anew"]),
            Starred(chat=CHAT, whatsapp_id="3A", on=True),
            Starred(chat=CHAT, whatsapp_id="3A", on=False),
        ],
    )  # fmt: skip
    await engine.commit(COMPANY, commit)
    await engine.commit(COMPANY, Commit(link=1, seq=2, history=[message, replace_struct(message, from_me=True)]))
    await engine.credentials(COMPANY)
    await engine.is_paired(COMPANY)
    await engine.keys(COMPANY, "session", ["a", "b"])
    await engine.answered_message(COMPANY, "new", chat=CHAT)
    await engine.plaintext(COMPANY, "ab")
    await engine.quarantine(COMPANY, reason="logged-out")
    await engine.forget_plaintexts(before=_ago(89))
    await accounts.account(COMPANY, since=_ago(1))
    await accounts.set_lock(COMPANY, code=REACH_OUT_LOCK, until=iso(NOW))
    await accounts.set_tight(COMPANY, until=iso(NOW))
    await accounts.set_pacing(COMPANY, {"perMinute": 1})
    await accounts.set_tenant_pacing(COMPANY, {"burst": 1})
    await sessions.all()
    await sessions.find(COMPANY)
    await sessions.create(record(COMPANY))
    await sessions.save(record(COMPANY))
    await sessions.set_connection(COMPANY, {"device_name": "Ubuntu"})
    await sessions.set_label(COMPANY, "Layla's Flowers")
    await sessions.labels()
    transition = Transition(
        company=COMPANY, at=iso(NOW), before=State.CONNECTED, after=State.RECONNECTING, event="LinkClosed", reason=None,
        code=None, attempts=1, next_attempt_at=None, lasted_s=1.0,
    )  # fmt: skip
    await timeline.add(transition)
    await timeline.last(COMPANY, since=_ago(7), limit=100)
    await timeline.seen_alive(iso(NOW))


async def _calls(engine: Called, calls: Called) -> None:
    offer = CallSignal(call_id="C1", kind="offer", caller=CHAT, creator=CHAT)
    change = GroupChange(notice_id="n1", group=CHAT, kind="subject", value="Tulips", actor=CHAT)
    await engine.commit(COMPANY, Commit(link=1, seq=1, calls=[offer], group_changes=[change]))
    missed = CallSignal(call_id="C1", kind="missed", caller=CHAT, creator=CHAT)
    await engine.commit(COMPANY, Commit(link=1, seq=2, calls=[missed]))
    await calls.find(COMPANY, "msg_7")
    await calls.end(COMPANY, Call(whatsapp_id="C1", chat=CHAT, creator=CHAT, state=RINGING), outcome=REJECTED)


async def _chats(chats: Called) -> None:
    for after in (None, ChatCursor(last_at=_ago(1), chat=CHAT)):
        for unread in (False, True):
            for words in ("", "nothing like it"):
                await chats.overview(COMPANY, after=after, limit=50, unread=unread, words=words)
    await chats.chat(COMPANY, CHAT)
    await chats.names(COMPANY, [CHAT, "120363012345678901@g.us"])
    await chats.unread(COMPANY, CHAT)
    await chats.set_unread(COMPANY, CHAT)
    await chats.set_read(COMPANY, CHAT, up_to=ROWS // 2)
    page = await chats.timeline(COMPANY, CHAT, limit=20)
    await chats.timeline(COMPANY, CHAT, before=page.older, limit=20)
    await chats.timeline(COMPANY, CHAT, after=page.newer, limit=20)


async def _contacts(contacts: Called, outbox: Called) -> None:
    hidden = "5550001@lid"
    await outbox.accept(replace(_draft("msg_lid", "lid"), chat=hidden))
    await outbox.accept(replace(_draft("msg_pn", "pn"), chat=CHAT))
    for jid in (hidden, CHAT):
        await contacts.learn(COMPANY, [Identity(jid=jid, lid=hidden, username="rami", push_name="Rami")])
    for number in ("5511987654321", "551187654321"):
        await outbox.accept(replace(_draft(f"msg_{number}", number), chat=f"{number}@s.whatsapp.net"))
    pair = ("5511987654321@s.whatsapp.net", "551187654321@s.whatsapp.net")
    await contacts.learn_spellings(COMPANY, [pair])
    await contacts.canonical(COMPANY, hidden)
    await contacts.find(COMPANY, hidden)
    await contacts.by_username(COMPANY, "rami")
    for words in ("", "nothing like it"):
        await contacts.contacts(COMPANY, after="9", limit=50, words=words)


async def _media(media: Called) -> None:
    stored = StoredMedia(
        id="med_new", company=COMPANY, mimetype="image/png", filename=None, size_bytes=1, sha256="0"
    )  # fmt: skip
    await media.begin(stored)
    await media.add(stored.id, 0, b"p")
    await media.finish(stored)
    await media.find(stored.id)
    await media.take(COMPANY, stored.id)
    await media.piece(stored.id, 0)
    await media.copy(stored.id, Path("/dev/null"))
    await media.inbound("in_000000000007")
    await media.keep("in_000000000007", stored.id)
    await media.links_revoked_at("in_000000000007")
    await media.revoke_links(COMPANY, at=iso(NOW))
    await media.discard(stored.id)
    await media.sweep(unused_since=_ago(89), settled_since=_ago(7))


async def _leases(database: Database) -> Called:
    node = NodeDescription(name="one")
    rows = LeaseRows(database, node=node, randomness=SystemRandomSource(), ttl_s=6)
    leases = Called(rows)
    await leases.reserve(for_s=1)
    assert (await leases.renew(limit=COMPANIES)).waiting
    await leases.claim(COMPANY)
    await leases.owner(COMPANY)
    await leases.writes_done(COMPANY)
    to, *_ = await leases.nodes()
    await leases.transfer(COMPANY, to)
    rows.abandon()
    await leases.renew(limit=COMPANIES)
    await leases.drain(drains=True)
    await leases.release(reserve_s=1)
    return leases


def _ago(days: float) -> str:
    before: datetime = NOW - timedelta(days=days)
    return iso(before)


async def test_no_statement_reads_or_sorts_a_growing_table(place: Path | URL, recorded: list[Statement]) -> None:
    """Each statement is explained with the values that the gateway passed: bound values hide a partial index from a
    planner.
    """
    database = Database(place)
    await database.write(fill)
    recorded.clear()
    missed = await workload(database)
    statements = dict(recorded)
    judge = _sqlite_faults if isinstance(place, Path) else _postgres_faults

    def explain(connection: Connection) -> list[str]:
        return [fault for sql, values in statements.items() for fault in judge(connection, sql, values)]

    # SQLite has no statistics of a database that was opened empty, and those of a start later on: both must do.
    faults = await database.write(explain)
    await database.write(lambda connection: connection.exec_driver_sql("ANALYZE").close())
    faults += await database.write(explain)
    database.close()
    assert not missed, "methods that the workload must call"
    assert len(statements) > 100
    assert not faults, "\n\n".join(faults)


_EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


def _sqlite_faults(connection: Connection, sql: str, values: Any) -> list[str]:
    if not sql.lstrip().startswith(_EXPLAINED):
        return []
    driver = connection.connection.driver_connection
    assert driver is not None
    lines = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    accesses = [line.split() for line in lines if line.split()[0] in {"SCAN", "SEARCH"} and line.split()[1] in GROWING]
    whole = [words for words in accesses if words[0] == "SCAN" and words[-1] not in PARTIAL and not _is_match(words)]
    sorts = any("TEMP B-TREE" in line for line in lines) and any(not PARTIAL & set(words) for words in accesses)
    return [f"{sql}\n{lines}"] if whole or sorts else []


def _is_match(words: list[str]) -> bool:
    """FTS5 calls everything a scan; the last word says whether it looks up tokens (M) or a row (=)."""
    return "VIRTUAL" in words and bool({"M", "="} & set(words[-1]))


def _postgres_faults(connection: Connection, sql: str, values: Any) -> list[str]:
    if not sql.lstrip().startswith(_EXPLAINED):
        return []
    (plans,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", values).one()
    nodes = list(_nodes(plans[0]["Plan"]))
    faults = [node for node in nodes if _is_fault(node)]
    return [f"{sql}\n{faults}"] if faults else []


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_fault(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Seq Scan":
        return node["Relation Name"] in GROWING
    if node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
        is_whole = "Index Cond" not in node and node["Index Name"] not in PARTIAL
        return is_whole and node["Plan Rows"] >= ROWS / 10 and node.get("Relation Name") in GROWING
    return node["Node Type"] in {"Sort", "Hash"} and node["Plan Rows"] >= ROWS / 10


def test_the_checks_of_plans_find_bad_plans(place: Path | URL) -> None:
    """A scan, a sort, and a partial index that bound values hide are found; the same queries with their index pass."""
    database = Database(place)
    judge, mark = (_sqlite_faults, "?") if isinstance(place, Path) else (_postgres_faults, "%s")
    engine = database._opened.writing
    with engine.begin() as connection:
        fill(connection)
        good = f"SELECT seq FROM outbox WHERE company_id = {mark} ORDER BY seq"
        scan = f"SELECT seq FROM outbox WHERE error = {mark}"
        sort = f"SELECT seq FROM outbox WHERE company_id < {mark} ORDER BY chat"
        assert not judge(connection, good, (COMPANY,))
        if mark == "?":
            assert judge(connection, "SELECT rowid FROM outbox_search WHERE words = ?", ("x",))
        assert judge(connection, scan, ("x",))
        assert judge(connection, sort, ("company9999",))
    database.close()
