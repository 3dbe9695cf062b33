"""Random histories of single messages, outbound and inbound: the row is compared with a model that knows only the
reported updates, in any order.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.base.clock import iso
from holdfast.base.errors import Conflict
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.events import COMPLETED, RECEIVED
from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.stores import Accepted, Deferral, Draft, Message, MessageChange
from holdfast.session.engine import Commit, Decrypted, InboundMessage, Undecryptable
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.inbox import InboxRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.sessions import SessionRows
from tests.contract.rows import take
from tests.databases import migrated
from tests.doubles.fake_clock import FakeClock
from tests.gateway_harness import COMPANY

T = TypeVar("T")

ARRIVALS = (StatusUpdate.ACKED, StatusUpdate.DELIVERED, StatusUpdate.READ, StatusUpdate.PLAYED)
STATES = ("sent", "delivered", "read", "played")
LOCK = "reach-out-lock"
PEOPLE = [f"96279000000{number}@s.whatsapp.net" for number in range(3)]
FEW = st.integers(0, 3)
LIVES = settings(max_examples=20, stateful_step_count=25, deadline=None)


class Life(RuleBasedStateMachine):
    """Rows in a SQLite database of its own, which is reopened when Holdfast restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = FakeClock()
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "holdfast.db").write_bytes(migrated())
        self.open()
        self.run(
            SessionRows(self.database).save(Record(company=COMPANY, state=State.CONNECTED, since="", created_at=""))
        )

    def open(self) -> None:
        self.database = Database(self.folder / "holdfast.db")
        self.outbox = OutboxRows(self.database, clock=self.clock)
        self.engine = EngineRows(self.database, clock=self.clock, randomness=SystemRandomSource())
        self.inbox = InboxRows(self.database)
        self.events = EventRows(self.database)

    def run(self, asked: Coroutine[object, object, T]) -> T:
        return self.loop.run(asked)

    def teardown(self) -> None:
        self.database.close()
        self.loop.close()
        shutil.rmtree(self.folder)

    @property
    def now(self) -> str:
        return iso(self.clock.now())

    @rule(seconds=st.sampled_from([1, 30]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance_to(self.clock.monotonic() + seconds)

    @rule()
    def holdfast_restarts(self) -> None:
        self.database.close()
        self.open()

    def event_types(self) -> dict[str, list[str]]:
        """The types of the events of each message, by its id."""
        types: dict[str, list[str]] = {}
        for event in self.run(self.events.after(0, companies=[COMPANY], limit=1000)):
            types.setdefault(json.loads(event.body)["id"], []).append(event.type)
        return types


@dataclass(slots=True)
class Out:
    """The model of one outbound message."""

    first: Message
    key: str | None
    begun: int
    update: set[StatusUpdate] = field(default_factory=set)
    refused: int = 0
    held: bool = False
    rests_until: str = ""
    end: str | None = None
    """Cancelled or expired."""

    @property
    def state(self) -> str:
        """In whatever order updates are reported, an arrival outranks everything else; the expiry of a message that was
        never sent is final.
        """
        if self.end is not None:
            return self.end
        arrivals = [state for update, state in zip(ARRIVALS, STATES, strict=True) if update in self.update]
        if arrivals:
            return arrivals[-1]
        if StatusUpdate.GIVEN_UP in self.update:
            return "failed"
        return "sending" if self.begun else "queued"

    @property
    def is_open(self) -> bool:
        return self.state in {"queued", "sending"}

    @property
    def was_certainly_not_sent(self) -> bool:
        """It is certainly not in flight: every attempt, if there was one, was refused."""
        return self.is_open and self.refused == self.begun

    def is_delayed(self, now: str) -> bool:
        return self.rests_until > now

    def has_expired(self, now: str) -> bool:
        return self.first.expires_at is not None and self.first.expires_at <= now


class OutboundLife(Life):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Out] = []
        self.known: set[str] = set()

    def chosen(self, number: int) -> Out:
        return self.messages[-1 - number % len(self.messages)]

    @rule(key=st.sampled_from([None, None, "k1", "k2"]), begin=st.booleans(), expires_s=st.sampled_from([None, 20, 60]))
    def it_is_accepted(self, key: str | None, begin: bool, expires_s: int | None) -> None:
        number = len(self.messages)
        expires_at = None if expires_s is None else iso(self.clock.now() + timedelta(seconds=expires_s))
        draft = Draft(
            id=f"msg_{number}",
            whatsapp_id=f"3EB0{number}",
            company=COMPANY,
            recipient="1",
            chat=PEOPLE[number % 3],
            content={"text": "x"},
            idempotency_key=key,
            request_hash="h",
            expires_at=expires_at,
        )
        accepted = self.run(self.outbox.accept(draft, begin=begin))
        before = [each for each in self.messages if key is not None and each.key == key]
        if before:
            self.it_was_accepted_before(accepted, before[0])
        else:
            waits = any(each.is_open and each.first.chat == draft.chat for each in self.messages)
            begins = begin and not waits and draft.chat in self.known
            assert (accepted.is_new, accepted.has_begun, accepted.message.state) == (True, begins, "queued")
            self.messages.append(Out(first=accepted.message, key=key, begun=int(begins)))

    def it_was_accepted_before(self, accepted: Accepted, first: Out) -> None:
        assert (accepted.is_new, accepted.has_begun) == (False, False)
        assert (accepted.message.id, accepted.message.state) == (first.first.id, first.state)

    def is_head(self, message: Out) -> bool:
        chat = [each for each in self.messages if each.first.chat == message.first.chat and each.is_open]
        return chat[0] is message

    @rule(room=st.integers(1, 4))
    def due_messages_are_taken(self, room: int) -> None:
        """The first open message of each chat that is due; one that expired only when its outcome must be settled."""
        taken = self.run(take(self.outbox, total=room))
        may = [each for each in self.messages if each.is_open and self.is_head(each) and not each.is_delayed(self.now)]
        due = [each for each in may if not (each.was_certainly_not_sent and each.has_expired(self.now))]
        assert {each.id for each in taken} <= {each.first.id for each in due}
        assert len(taken) >= min(len(due), room - (len(may) - len(due)))
        chosen = {each.first.id: each for each in due}
        for outgoing in taken:
            message = chosen[outgoing.id]
            message.begun += 1
            message.held = False
            assert outgoing.attempts == message.begun

    @precondition(lambda self: self.messages)
    @rule(number=FEW, update=st.sampled_from([*ARRIVALS, StatusUpdate.GIVEN_UP]))
    def whatsapp_reports(self, number: int, update: StatusUpdate) -> None:
        message = self.chosen(number)
        before = message.state
        heads = [each for each in self.messages if each.is_open and self.is_head(each)]
        if message.end == "cancelled" and update in ARRIVALS:
            message.end = None
        if message.end is None:
            message.update.add(update)
        change = MessageChange(whatsapp_id=message.first.whatsapp_id, update=update, at=self.now, makes_known=True)
        changed = self.run(self.outbox.apply_updates(COMPANY, [change]))
        assert [each.state for each in changed] == ([message.state] if message.state != before else [])
        message.held &= message.is_open
        if changed and update in ARRIVALS:
            self.known.add(message.first.chat)
            for head in heads:
                if head.held and head.first.chat == message.first.chat:
                    head.rests_until = self.now

    @precondition(lambda self: any(each.state == "sending" for each in self.messages))
    @rule(number=FEW, seconds=st.integers(0, 30), held=st.booleans())
    def whatsapp_refuses_for_now(self, number: int, seconds: int, held: bool) -> None:
        in_flight = [each for each in self.messages if each.state == "sending" and each.refused < each.begun]
        if not in_flight:
            return
        message = in_flight[number % len(in_flight)]
        until = iso(self.clock.now() + timedelta(seconds=seconds))
        deferral = Deferral(
            whatsapp_id=message.first.whatsapp_id,
            at=self.now,
            next_at=until,
            code="ack-463",
            message="why",
            held_code=LOCK if held else None,
        )
        self.run(self.outbox.apply_updates(COMPANY, [deferral]))
        message.refused += 1
        message.held |= held
        message.rests_until = until

    @rule()
    def the_lock_ends(self) -> None:
        """The messages that it held are due at once."""
        self.run(self.outbox.reschedule_held(COMPANY, code=LOCK, until=None))
        for each in self.messages:
            if each.held and each.is_open:
                each.rests_until = self.now

    @precondition(lambda self: self.messages)
    @rule(number=FEW)
    def somebody_cancels(self, number: int) -> None:
        message = self.chosen(number)
        if message.was_certainly_not_sent:
            assert self.run(self.outbox.cancel(message.first.id)).state == "cancelled"
            message.end, message.held = "cancelled", False
            return
        with pytest.raises(Conflict, match=f"the message is {message.state}"):
            self.run(self.outbox.cancel(message.first.id))
        if message.is_open:
            assert self.run(self.outbox.cancel(message.first.id, force=True)).state == "cancelled"
            message.end, message.held = "cancelled", False

    @rule()
    def due_messages_expire(self) -> None:
        due = [each for each in self.messages if each.was_certainly_not_sent and each.has_expired(self.now)]
        expired = self.run(self.outbox.expire(COMPANY, at=self.now))
        assert {each.id for each in expired} == {each.first.id for each in due}
        for each in due:
            each.end, each.held = "expired", False

    @invariant()
    def rows_agree_with_the_model(self) -> None:
        rows = self.run(self.outbox.messages(COMPANY, state=None, after=0, limit=100))
        assert [row.id for row in rows] == [each.first.id for each in self.messages]
        for row, each in zip(rows, self.messages, strict=True):
            assert (row.state, row.attempts, row.held_code is not None) == (each.state, each.begun, each.held)
            times = [row.sent_at, row.delivered_at, row.read_at, row.played_at]
            reached = STATES.index(row.state) + 1 if row.state in STATES else 0
            assert [at is not None for at in times] == [n < reached for n in range(4)]
            known = [at for at in times if at is not None]
            assert known == sorted(known)

    @invariant()
    def open_messages_are_found(self) -> None:
        stayed = [each.first.expires_at for each in self.messages if each.was_certainly_not_sent]
        assert self.run(self.outbox.next_expiry(COMPANY)) == min((at for at in stayed if at is not None), default=None)

    @invariant()
    def each_state_is_an_event_once_and_in_order(self) -> None:
        """A failure may be followed by the arrival that proves it wrong."""
        order = ["message.accepted", "message.failed", "message.cancelled", *(f"message.{state}" for state in STATES)]
        order += ["message.expired"]
        events = self.event_types()
        for each in self.messages:
            places = [order.index(type_) for type_ in events[each.first.id]]
            assert places == sorted(set(places))
            ended = order[places[-1]].removeprefix("message.")
            assert ended == (each.state if not each.is_open else "accepted")


Key = tuple[str, str, str]
"""Chat, sender, WhatsApp id."""


class InboundLife(Life):
    """Commits of an engine: each has a step of the ratchet and what it decrypted."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: dict[Key, list[str]] = {}
        """Events of each row, in order; a row with a text has exactly one event that contains it."""
        self.readable: set[Key] = set()
        self.ratchet = 0

    @staticmethod
    def key(number: int, person: int, group: bool) -> Key:
        return "120363000000000001@g.us" if group else PEOPLE[person], PEOPLE[person], f"3A{number}"

    def commit(self, decrypted: list[Decrypted], unread: list[Undecryptable]) -> list[InboundMessage]:
        self.ratchet += 1
        commit = Commit(
            link=1, seq=1, keys={"session": {"a": str(self.ratchet)}}, decrypted=decrypted, undecryptable=unread
        )
        return list(self.run(self.engine.commit(COMPANY, commit)))

    def decrypted(self, key: Key, copy: int, *, type_: str | None = "text") -> Decrypted:
        chat, sender, whatsapp_id = key
        values = {"whatsapp_id": whatsapp_id, "chat": chat, "sender": sender, "type": type_, "text": f"text of {key}"}
        message = InboundMessage(**values)  # type: ignore[arg-type]  # its fields
        return Decrypted(ciphertext_sha256=f"{key} {copy}", plaintext="aGVsbG8=", message=message)

    keys = st.builds(key, FEW, st.integers(0, 2), st.booleans())

    @rule(keys=st.lists(keys, min_size=1, max_size=3), copy=st.integers(0, 1))
    def messages_arrive(self, keys: list[Key], copy: int) -> None:
        """New messages, the same ones again with the same ciphertext or another, and formerly undecryptable ones."""
        new = [key for key in dict.fromkeys(keys) if key not in self.readable]
        handed_on = self.commit([self.decrypted(key, copy) for key in keys], [])
        assert [(each.chat, each.sender, each.whatsapp_id) for each in handed_on] == new
        for key in new:
            self.reported[key] = [*self.reported[key], COMPLETED] if key in self.reported else [RECEIVED]
        self.readable |= set(new)
        for key in keys:
            assert self.run(self.engine.plaintext(COMPANY, f"{key} {copy}")) == b"hello"

    @rule(key=keys)
    def an_undecryptable_message_arrives(self, key: Key) -> None:
        chat, sender, whatsapp_id = key
        assert self.commit([], [Undecryptable(whatsapp_id=whatsapp_id, chat=chat, sender=sender)]) == []
        self.reported.setdefault(key, [RECEIVED])

    @rule(key=keys)
    def a_commit_fails(self, key: Key) -> None:
        """The ratchet step, the plaintext and the row are stored together or not at all."""
        with pytest.raises(Exception, match="NOT NULL"):
            self.commit([self.decrypted(key, 2), self.decrypted(("x", "x", "x"), 2, type_=None)], [])
        self.ratchet -= 1
        assert self.run(self.engine.plaintext(COMPANY, f"{key} 2")) is None

    @invariant()
    def each_message_has_one_row(self) -> None:
        rows = self.run(self.inbox.received(COMPANY, after=0, limit=100))
        assert {(row.chat, row.sender, row.whatsapp_id) for row in rows} == set(self.reported)
        assert len(rows) == len(self.reported)
        events = self.event_types()
        assert set(events) == {row.id for row in rows}
        for row in rows:
            key = (row.chat, row.sender, row.whatsapp_id)
            assert row.text == (f"text of {key}" if key in self.readable else None)
            assert (row.completed_at is not None) == (COMPLETED in self.reported[key])
            assert events[row.id] == self.reported[key]

    @invariant()
    def the_ratchet_is_the_committed_one(self) -> None:
        found = self.run(self.engine.keys(COMPANY, "session", ["a"]))
        assert found == ({"a": str(self.ratchet)} if self.ratchet else {})


TestOutboundLife = OutboundLife.TestCase
TestOutboundLife.settings = LIVES
TestInboundLife = InboundLife.TestCase
TestInboundLife.settings = LIVES
