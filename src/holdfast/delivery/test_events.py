"""Events in the form that receivers get."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.ascii_json import ascii_json
from holdfast.delivery.events import ACCEPTED, DEFAULT_TYPES, PRESENCE, RECEIPT, TYPES, Event, event_id
from holdfast.delivery.message import MessageState

TEXTS = st.text(max_size=20)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=4))
def test_a_payload_is_one_line_whatever_its_content(type_: str, data: dict[str, object]) -> None:
    """Line breaks in the data are escaped, so the payload is one line of an event stream."""
    body = ascii_json(data)
    event = Event(seq=1, id="evt_1", company="c", type=type_, chat="", at="2026-01-01T00:00:00.000Z", body=body)
    assert json.loads(event.payload) == {"type": type_, "timestamp": event.at, "data": data}
    assert event.payload.isascii()
    assert "\n" not in event.payload


def test_an_event_written_again_has_the_same_id_and_no_other_has() -> None:
    """So a receiver can tell a repetition from a new event."""
    company, type_, at, body = "962302", "message.sent", "2026-01-01T00:00:00.000Z", "{}"
    same = [event_id(company, type_, at, body) for _ in range(2)]
    others = [
        event_id("x", type_, at, body),
        event_id(company, "x", at, body),
        event_id(company, type_, "x", body),
        event_id(company, type_, at, "x"),
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 5


def test_the_id_of_an_event_begins_with_its_time() -> None:
    """So that the index of ids grows at its end."""
    assert event_id("962302", "message.sent", "2026-11-22T15:06:36.012Z", "{}").startswith("evt_20261122150636")


def test_every_state_of_a_message_has_an_event_type() -> None:
    """Handing a message to the engine creates no event. What the caller got in a response, and what may come in great
    numbers, is only for those who subscribe to it."""
    states = set(MessageState) - {MessageState.QUEUED, MessageState.SENDING}
    assert {f"message.{state}" for state in states} <= DEFAULT_TYPES
    assert set(TYPES) - DEFAULT_TYPES == {ACCEPTED, PRESENCE, RECEIPT}
