"""Hostile inbound messages: both databases store whatever a stranger puts into one, and inbox and events show it."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.session.engine import Commit, Decrypted, InboundMessage, Undecryptable
from holdfast.session.untrusted import LIST_ITEMS, TEXT_CHARS
from tests.contract.rows import COMPANY, Store, decrypted, draft, inbound

NUL, HALF = "AB\0CD", "AB\ud800CD"
LONG = "".join(chr(0x21 + (index * index) % 90) for index in range(9000))
"""Hard to compress, as PostgreSQL compresses what it puts into an index row."""


def _commit(message: InboundMessage, number: int = 1) -> Commit:
    return Commit(link=1, seq=1, decrypted=[decrypted(number, message)])


HOSTILE = [NUL, HALF, LONG, "\0", "\n\x1b[2J", "<script>", "é" * 5000]
FIELDS = ["whatsapp_id", "chat", "sender", "sender_lid", "text", "push_name", "target", "media_keys", "message_secret"]


@pytest.mark.parametrize("field", FIELDS)
async def test_every_string_of_a_message_may_be_hostile(store: Store, field: str) -> None:
    """NUL, a lone surrogate, 9,000 characters: the message is stored, shown in the inbox, and reported as an event."""
    for number, text in enumerate(HOSTILE):
        message = inbound(number, **{field: text})
        assert len(await store.engine.commit(COMPANY, _commit(message, number))) == 1
    received = await store.inbox.received(COMPANY, after=0, limit=99)
    assert len(received) == len(HOSTILE)
    for event in await store.events.after(0, companies=None, limit=99):
        json.loads(event.payload)


@pytest.mark.parametrize(
    "content",
    [
        {"mentions": [NUL, HALF, LONG] * 20_000},
        {"replyTo": {"whatsappId": NUL, "sender": LONG}},
        {"reaction": {"emoji": HALF}},
        {NUL: NUL, HALF: 10**400, "deep": [[[[[[[[[[[[[[1]]]]]]]]]]]]]]},
        {"location": {"latitude": float("nan"), "longitude": float("inf")}},
    ],
)
async def test_content_and_media_may_be_hostile(store: Store, content: dict[str, object]) -> None:
    """Lists are truncated, nesting is limited, and values that JSON can't represent become null."""
    message = inbound(content=content, media={"mimetype": NUL, "filename": LONG})
    await store.engine.commit(COMPANY, _commit(message))
    [received] = await store.inbox.received(COMPANY, after=0, limit=9)
    assert received.content is not None
    json.dumps(received.content, allow_nan=False).encode()
    assert len(received.content.get("mentions", [])) <= LIST_ITEMS  # type: ignore[arg-type]  # a list, if it is there


async def test_an_undecryptable_message_may_be_hostile(store: Store) -> None:
    """Its id, chat, sender and name are hostile; it has nothing else."""
    for text in HOSTILE:
        item = Undecryptable(whatsapp_id=text, chat=text, sender=text, push_name=text, sent_at_s=10**15)
        await store.engine.commit(COMPANY, Commit(link=1, seq=1, undecryptable=[item]))
    assert len(await store.inbox.received(COMPANY, after=0, limit=99)) == len(HOSTILE)


@pytest.mark.parametrize("sent_at_s", [10**12, -(10**12), 2**62, 253_402_300_800])
async def test_a_time_beyond_the_calendar_is_the_nearest_one_in_it(store: Store, sent_at_s: int) -> None:
    """The years 1970 to 9999."""
    await store.engine.commit(COMPANY, _commit(inbound(sent_at_s=sent_at_s)))
    [received] = await store.inbox.received(COMPANY, after=0, limit=9)
    assert received.sent_at in {"1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z"}


async def test_a_long_text_is_truncated_with_a_note(store: Store) -> None:
    """The inbox and the event have 65,536 characters of it; its plaintext isn't stored at all."""
    text = "x" * 1_000_000
    item = Decrypted(ciphertext_sha256="ab" * 32, plaintext="AAAA" * 300_000, message=inbound(text=text))
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[item]))
    [received] = await store.inbox.received(COMPANY, after=0, limit=9)
    assert received.text is not None
    assert len(received.text) == TEXT_CHARS
    assert received.text.endswith("… [cut: 1000000 characters, Holdfast stores 65536]")
    [event] = await store.events.after(0, companies=None, limit=9)
    assert len(event.body) < TEXT_CHARS + 1000
    assert await store.engine.plaintext(COMPANY, "ab" * 32) == b"\x01"


async def test_ids_that_differ_only_at_their_end_stay_two_messages(store: Store) -> None:
    """Also when both are too long to be stored in full; the same long id twice is one message."""
    for number, id_ in enumerate((LONG + "a", LONG + "b", LONG + "a")):
        await store.engine.commit(COMPANY, _commit(inbound(whatsapp_id=id_), number))
    assert len(await store.inbox.received(COMPANY, after=0, limit=9)) == 2


async def test_a_group_may_have_a_hostile_subject(store: Store) -> None:
    """Its admins choose it."""
    for text in HOSTILE:
        await store.engine.commit(COMPANY, Commit(link=1, seq=1, groups={text: text}))


async def test_keys_with_hostile_ids_are_found(store: Store) -> None:
    """Sender keys and addresses are stored under names that their senders chose."""
    ids = [NUL, HALF, LONG, "plain"]
    keys: dict[str, dict[str, str | None]] = {"sender-key": {id_: f"value {n}" for n, id_ in enumerate(ids)}}
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, keys=keys))
    found = await store.engine.keys(COMPANY, "sender-key", ids)
    assert found == {id_: f"value {n}" for n, id_ in enumerate(ids)}
    await store.engine.commit(COMPANY, Commit(link=1, seq=2, keys={"sender-key": {LONG: None}}))
    assert LONG not in await store.engine.keys(COMPANY, "sender-key", ids)


async def test_nothing_is_found_under_hostile_ids_of_our_own_messages(store: Store) -> None:
    """A receipt or retry receipt may name any id: it is unknown, not an error."""
    await store.outbox.accept(draft())
    for id_ in (NUL, HALF, LONG):
        assert await store.outbox.sent_content(COMPANY, id_, chat=id_) == (None, None)


_ANY = st.text(st.characters(), max_size=300)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_ANY, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    message=st.builds(
        InboundMessage,
        whatsapp_id=_ANY,
        chat=_ANY,
        sender=_ANY,
        type=st.just("text"),
        text=st.none() | _ANY,
        sent_at_s=st.integers(),
        push_name=st.none() | _ANY,
        content=st.dictionaries(_ANY, _JSON, max_size=4),
        target=st.none() | _ANY,
        media=st.none() | st.dictionaries(_ANY, _JSON, max_size=4),
        media_keys=st.none() | _ANY,
        message_secret=st.none() | _ANY,
    ),
)
async def test_any_message_is_stored(store: Store, message: InboundMessage) -> None:
    """Any characters, any JSON, any number: the commit succeeds and the inbox can be read."""
    await store.engine.commit(COMPANY, _commit(message))
    for received in await store.inbox.received(COMPANY, after=0, limit=999):
        json.dumps(received.content).encode()
