"""What is due when: literal records, literal times."""

from __future__ import annotations

import math
from dataclasses import replace

from holdfast.live.encoding import LIFETIME_S
from holdfast.live.entries import ACTIVITY_S, RENEW_S, Entries, EntryChange
from holdfast.session.state import State
from holdfast.session.stores import Record

RECORD = Record(company="962302", state=State.CONNECTED, since="t0", created_at="t0", last_activity="t0")
ACTIVE = replace(RECORD, last_activity="t1")
LOST = replace(ACTIVE, state=State.RECONNECTING, since="t1")


def written() -> Entries:
    """Entries with RECORD put and written at 100 s."""
    entries = Entries()
    entries.put(RECORD, now=100)
    entries.wrote(EntryChange("962302", RECORD), now=100)
    return entries


def test_a_new_record_is_due_at_once() -> None:
    """The record that was put first is written first."""
    entries = Entries()
    assert entries.put(RECORD, now=100)
    assert entries.is_due("962302", now=100)
    assert entries.due(now=100) == [EntryChange("962302", RECORD)]
    assert entries.written == []


def test_a_change_of_state_is_due_at_once() -> None:
    """Every change of the connection is written immediately."""
    entries = written()
    assert entries.put(LOST, now=101)
    assert entries.due(now=101) == [EntryChange("962302", LOST)]


def test_activity_alone_is_written_every_few_seconds_only() -> None:
    """A busy session costs Redis one write in five seconds."""
    entries = written()
    assert not entries.put(ACTIVE, now=101)
    assert entries.next_due == 100 + ACTIVITY_S
    assert entries.due(now=104.9) == []
    assert entries.put(ACTIVE, now=105)
    assert entries.due(now=105) == [EntryChange("962302", ACTIVE)]


def test_a_quiet_record_is_renewed_long_before_its_lifetime_ends() -> None:
    """Two renewals may fail and the record still lives."""
    entries = written()
    assert not entries.put(RECORD, now=101)
    assert entries.next_due == 100 + RENEW_S
    assert RENEW_S * 3 <= LIFETIME_S
    assert entries.due(now=100 + RENEW_S) == [EntryChange("962302", RECORD)]


def test_a_record_stored_during_a_write_stays_due() -> None:
    """The latest record is written, also if it was put while an earlier one was being written."""
    entries = Entries()
    entries.put(RECORD, now=100)
    (change,) = entries.due(now=100)
    entries.put(LOST, now=100)
    entries.wrote(change, now=100.1)
    assert entries.due(now=100.1) == [EntryChange("962302", LOST)]


def test_activity_during_a_write_can_wait() -> None:
    """Only differences from the written record make it due."""
    entries = Entries()
    entries.put(RECORD, now=100)
    (change,) = entries.due(now=100)
    entries.put(ACTIVE, now=100)
    entries.wrote(change, now=100.1)
    assert entries.due(now=100.1) == []
    assert entries.next_due == 100.1 + ACTIVITY_S


def test_a_removal_is_due_until_it_was_carried_out() -> None:
    """A removed session leaves no record in Redis."""
    entries = written()
    entries.remove("962302")
    assert entries.record("962302") is None
    assert entries.due(now=101) == [EntryChange("962302", None)]
    entries.wrote(EntryChange("962302", None), now=101)
    assert entries.due(now=math.inf) == []
    assert entries.next_due == math.inf


def test_a_session_created_again_during_its_removal_is_written() -> None:
    """If a session is removed and created again at once, its record is written."""
    entries = written()
    entries.remove("962302")
    entries.put(LOST, now=101)
    entries.wrote(EntryChange("962302", None), now=101)
    assert entries.due(now=101) == [EntryChange("962302", LOST)]


def test_a_released_record_is_never_due_again() -> None:
    """The process that runs the session writes its record, also if a write of ours was in progress."""
    entries = written()
    entries.release("962302")
    entries.wrote(EntryChange("962302", RECORD), now=101)
    entries.rewrite_all()
    assert entries.record("962302") is None
    assert entries.due(now=math.inf) == []


def test_records_lost_by_redis_are_due_at_once() -> None:
    """Only lost records are rewritten, and `written` counts only records that must exist."""
    entries = written()
    other = replace(RECORD, company="962303")
    entries.put(other, now=100)
    entries.wrote(EntryChange("962303", other), now=100)
    assert entries.written == ["962302", "962303"]
    entries.rewrite(["962302", "unknown"])
    assert entries.due(now=101) == [EntryChange("962302", RECORD)]
    assert entries.written == ["962303"]
    entries.rewrite_all()
    assert entries.due(now=101) == [EntryChange("962302", RECORD), EntryChange("962303", other)]
