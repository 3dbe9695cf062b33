"""The contracts of the session and delivery ports, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.message import MessageState, StatusUpdate
from holdfast.delivery.stores import MessageChange
from holdfast.session.engine import Commit
from holdfast.session.state import State
from holdfast.session.stores import Record
from tests.contract.rows import (
    COMPANY,
    OTHER,
    T1,
    T2,
    T3,
    Statement,
    Store,
    apply_updates,
    decrypted,
    draft,
    inbound,
    record,
    take,
)

CHAT = "962790000001@s.whatsapp.net"

# Sessions.


async def test_a_record_is_read_as_it_was_saved(store: Store) -> None:
    """Every field, by company; saving again changes everything except the creation time."""
    full = Record(
        company=COMPANY,
        state=State.PAUSED,
        since=T2,
        reason="temporarily-banned",
        code=402,
        attempts=3,
        resumes_at=T3,
        phone_number="962700000001",
        jid="962700000001:1@s.whatsapp.net",
        connected_at=T1,
        last_activity=T2,
        created_at=T1,
    )
    await store.sessions.save(replace(full, created_at=T3))
    assert await store.sessions.all() == [full, record(OTHER)]


async def test_a_reason_that_an_earlier_version_stored_has_its_current_name(store: Store) -> None:
    """A record and a transition are read with the names that API, logs and documents use now."""
    await store.sessions.save(replace(record(COMPANY), reason="waits-turn"))
    found = await store.sessions.find(COMPANY)
    assert found is not None
    assert found.reason == "connect-queued"


async def test_a_label_is_stored_independently_of_the_record(store: Store) -> None:
    """Saving the record again does not change it; None removes it; an unknown company gets none."""
    await store.sessions.set_label(COMPANY, "Bakery Irbid")
    await store.sessions.set_label("nobody", "Nobody's")
    await store.sessions.save(record(COMPANY))
    assert await store.sessions.labels() == {COMPANY: "Bakery Irbid"}
    await store.sessions.set_label(COMPANY, None)
    assert await store.sessions.labels() == {}


# Accepting.


async def test_accepting_returns_the_stored_message(store: Store) -> None:
    """Queued, never tried, with the time of its acceptance."""
    message = (await store.outbox.accept(draft())).message
    assert message == await store.outbox.message("msg_1")
    assert (message.state, message.attempts, message.recipient) == ("queued", 0, "962790000001")
    assert message.accepted_at == "2026-01-01T00:16:40.000Z"
    assert await store.outbox.message("msg_9") is None


async def test_the_same_key_and_body_give_the_first_message(store: Store) -> None:
    """In its current state, and without a second row."""
    first = (await store.outbox.accept(draft(1, key="k"))).message
    await apply_updates(store, first, StatusUpdate.ACKED)
    again = (await store.outbox.accept(draft(2, key="k"))).message
    assert (again.id, again.state) == ("msg_1", "sent")
    assert store.rows("SELECT count(*) FROM outbox") == [(1,)]


async def test_many_callers_with_one_key_at_once_get_one_message(store: Store) -> None:
    """The unique index decides, not the order of lookups in Python."""
    answers = await asyncio.gather(*(store.outbox.accept(draft(number, key="k")) for number in range(50)))
    assert len({answer.message.id for answer in answers}) == 1
    assert sum(answer.is_new for answer in answers) == 1


async def test_a_key_with_another_body_is_a_conflict_that_names_the_header(store: Store) -> None:
    """The first message stays unchanged."""
    first = (await store.outbox.accept(draft(1, key="k"))).message
    with pytest.raises(Conflict, match='Idempotency-Key "k" was used for another message') as refused:
        await store.outbox.accept(draft(2, key="k", request_hash="other"))
    assert refused.value.field == "Idempotency-Key"
    assert await store.outbox.message("msg_1") == first
    assert await store.outbox.message("msg_2") is None


async def test_keys_belong_to_a_company_and_may_be_left_out(store: Store) -> None:
    """Two companies may use the same key; messages without one are never the same."""
    drafts = [draft(1, key="k"), draft(2, key="k", company=OTHER), draft(3), draft(4)]
    assert [((await store.outbox.accept(each)).message).id for each in drafts] == ["msg_1", "msg_2", "msg_3", "msg_4"]


async def test_a_message_for_an_unknown_company_is_not_found(store: Store) -> None:
    """The error says how to create it."""
    with pytest.raises(NotFound, match='company "962399" is unknown: create it with PUT /v1/sessions/962399'):
        await store.outbox.accept(draft(company="962399"))


async def test_a_whatsapp_id_is_used_once_in_a_company(store: Store) -> None:
    """WhatsApp would take two messages with one id for one: the database refuses the second."""
    await store.outbox.accept(draft())
    with pytest.raises(Exception, match=r"UNIQUE .*outbox\.whatsapp_id|unique .*outbox_whatsapp_id"):
        await store.outbox.accept(replace(draft(2), whatsapp_id="3EB00001"))


# Sending.


async def test_the_state_sending_is_committed_before_the_engine_gets_a_message(store: Store) -> None:
    """The result has the content, and each attempt is counted."""
    message = (await store.outbox.accept(draft())).message
    for attempts in (1, 2):
        [outgoing] = await take(store.outbox)
        assert (outgoing.id, outgoing.content, outgoing.attempts) == (message.id, {"text": "message 1"}, attempts)
        assert store.rows("SELECT state, attempts FROM outbox") == [("sending", attempts)]


async def test_a_message_is_found_for_a_recipient_that_could_not_decrypt_it(store: Store) -> None:
    """By company, WhatsApp id, and its chat."""
    await store.outbox.accept(draft())
    assert await store.outbox.sent_content(COMPANY, "3EB00001", chat=CHAT) == ({"text": "message 1"}, None)
    assert await store.outbox.sent_content(OTHER, "3EB00001", chat=CHAT) == (None, None)
    assert await store.outbox.sent_content(COMPANY, "3EB00001", chat="962790000009@s.whatsapp.net") == (None, None)


GROUP = "120363012345678901@g.us"
ALIASES: dict[str, dict[str, str | None]] = {
    "lid-mapping": {"77_reverse": json.dumps("962790000001"), "88_reverse": json.dumps("962790000009")},
    "number-spelling": {"5511987654321": json.dumps("551187654321")},
}


@pytest.mark.parametrize(
    ("chat", "named", "is_same"),
    [
        (CHAT, CHAT, True),
        (CHAT, "77@lid", True),
        ("77@lid", CHAT, True),
        (CHAT, "88@lid", False),
        (CHAT, "99@lid", False),
        (CHAT, "962790000009@s.whatsapp.net", False),
        ("5511987654321@s.whatsapp.net", "551187654321@s.whatsapp.net", True),
        ("551187654321@s.whatsapp.net", "5511987654321@s.whatsapp.net", True),
        (GROUP, GROUP, True),
        (GROUP, CHAT, False),
        (CHAT, GROUP, False),
    ],
)
async def test_receipts_and_requests_count_only_from_the_chat_of_the_message(
    store: Store, chat: str, named: str, is_same: bool
) -> None:
    """By phone number, hidden id or other spelling of the number; a stranger's receipt changes nothing."""
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, keys=ALIASES))
    message = (await store.outbox.accept(replace(draft(), chat=chat))).message
    content, _ = await store.outbox.sent_content(COMPANY, message.whatsapp_id, chat=named)
    assert (content is not None) is is_same
    change = MessageChange(whatsapp_id=message.whatsapp_id, update=StatusUpdate.READ, at=T2, chat=named)
    assert [each.state for each in await store.outbox.apply_updates(COMPANY, [change])] == ["read"] * is_same


async def test_receipts_for_unknown_messages_are_looked_up_in_bulk(recorded: list[Statement], store: Store) -> None:
    """A stranger's receipt may name tens of thousands; our own messages among them get their state, in order."""
    messages = [(await store.outbox.accept(draft(n))).message for n in range(2)]
    named = [f"3EBNOBODY{n}" for n in range(3_000)]
    ids = [*named[:1_000], messages[0].whatsapp_id, *named[1_000:], messages[1].whatsapp_id]
    changes = [
        MessageChange(whatsapp_id=id_, update=update, at=T2, chat=CHAT)
        for update in (StatusUpdate.READ, StatusUpdate.DELIVERED)
        for id_ in ids
    ]
    del recorded[:]
    changed = await store.outbox.apply_updates(COMPANY, changes)
    assert [(each.id, each.state) for each in changed] == [(each.id, "read") for each in messages]
    assert len(recorded) < 50


# Status updates.


async def test_an_update_moves_a_message_forward_and_never_back(store: Store) -> None:
    """Each state has its time, set once; an older state changes nothing and makes no event."""
    message = (await store.outbox.accept(draft())).message
    assert [each.state for each in await apply_updates(store, message, StatusUpdate.ACKED, at=T1)] == ["sent"]
    assert [each.state for each in await apply_updates(store, message, StatusUpdate.DELIVERED, at=T2)] == ["delivered"]
    assert await apply_updates(store, message, StatusUpdate.ACKED, at=T3) == []
    assert await apply_updates(store, message, StatusUpdate.DELIVERED, at=T3) == []
    stands = await store.outbox.message("msg_1")
    assert stands is not None
    assert (stands.state, stands.sent_at, stands.delivered_at, stands.read_at) == ("delivered", T1, T2, None)


@pytest.mark.parametrize(
    ("update", "times"),
    [
        (StatusUpdate.ACKED, (T3, None, None, None)),
        (StatusUpdate.DELIVERED, (T3, T3, None, None)),
        (StatusUpdate.READ, (T3, T3, T3, None)),
        (StatusUpdate.PLAYED, (T3, T3, T3, T3)),
    ],
)
async def test_a_state_implies_the_times_of_those_before(
    store: Store, update: StatusUpdate, times: tuple[str | None, ...]
) -> None:
    """A message that was read was sent and delivered, whichever receipts were lost."""
    message = (await store.outbox.accept(draft())).message
    [stands] = await apply_updates(store, message, update, at=T3)
    assert (stands.sent_at, stands.delivered_at, stands.read_at, stands.played_at) == times
    assert stands == await store.outbox.message("msg_1")


async def test_a_failure_keeps_its_error_until_a_receipt_proves_the_arrival(store: Store) -> None:
    """After that the message shows no failure."""
    message = (await store.outbox.accept(draft())).message
    failure = MessageChange(
        whatsapp_id=message.whatsapp_id,
        update=StatusUpdate.GIVEN_UP,
        at=T1,
        error_code="ack-463",
        error="not to new contacts",
    )
    [failed] = await store.outbox.apply_updates(COMPANY, [failure])
    assert (failed.state, failed.error_code, failed.error) == ("failed", "ack-463", "not to new contacts")
    [arrived] = await apply_updates(store, message, StatusUpdate.DELIVERED)
    assert (arrived.state, arrived.error_code, arrived.error) == ("delivered", None, None)


async def test_updates_of_unknown_messages_and_other_companies_are_ignored(store: Store) -> None:
    """The known ones in the same batch are applied, in order."""
    message = (await store.outbox.accept(draft())).message
    ids = ["3EB09999", message.whatsapp_id, message.whatsapp_id]
    kinds = [StatusUpdate.ACKED, StatusUpdate.ACKED, StatusUpdate.READ]
    update = [MessageChange(whatsapp_id=id_, update=kind, at=T1) for id_, kind in zip(ids, kinds, strict=True)]
    assert await store.outbox.apply_updates(OTHER, update) == []
    assert [each.state for each in await store.outbox.apply_updates(COMPANY, update)] == ["sent", "read"]


# Cancelling and listing.


async def test_only_a_queued_message_can_be_cancelled(store: Store) -> None:
    """One that may have been sent can't; an unknown one is not found."""
    queued, sending = [(await store.outbox.accept(draft(number))).message for number in (1, 2)]
    assert (await store.outbox.cancel(queued.id)).state == "cancelled"
    assert [each.id for each in await take(store.outbox)] == [sending.id]
    for message, sentence in (
        (queued, "the message is cancelled: only a message that has not been sent can be cancelled"),
        (sending, "the message is sending: it may already have been sent; to cancel it anyway, use"),
    ):
        with pytest.raises(Conflict, match=sentence):
            await store.outbox.cancel(message.id)
    with pytest.raises(NotFound, match='message "msg_9" is unknown'):
        await store.outbox.cancel("msg_9")


async def test_messages_are_listed_by_company_and_state_in_parts(store: Store) -> None:
    """In the order of acceptance; `after` is the last `seq` of the page before."""
    messages = [(await store.outbox.accept(draft(number))).message for number in range(1, 5)]
    await store.outbox.accept(draft(9, company=OTHER))
    await apply_updates(store, messages[1], StatusUpdate.ACKED)
    listed = store.outbox.messages
    assert [each.id for each in await listed(COMPANY, state=None, after=0, limit=2)] == ["msg_1", "msg_2"]
    assert [each.id for each in await listed(COMPANY, state=None, after=messages[1].seq, limit=9)] == ["msg_3", "msg_4"]
    assert [each.id for each in await listed(COMPANY, state=MessageState.SENT, after=0, limit=9)] == ["msg_2"]


# The state of an engine.


async def test_committed_engine_state_is_read_back(store: Store) -> None:
    """Credentials, keys by type and id, plaintexts by the hash of their ciphertext; only for this company."""
    commit = Commit(
        link=1,
        seq=1,
        credentials="{}",
        paired=True,
        keys={"session": {"a": "1", "b": "2"}, "pre-key": {"a": "3"}},
        decrypted=[decrypted(1)],
    )
    assert await store.engine.commit(COMPANY, commit) == []
    assert await store.engine.credentials(COMPANY) == "{}"
    assert await store.engine.is_paired(COMPANY) is True
    assert await store.engine.keys(COMPANY, "session", ["a", "b", "c"]) == {"a": "1", "b": "2"}
    assert await store.engine.plaintext(COMPANY, f"{1:064x}") == b"hello"
    assert await store.engine.credentials(OTHER) is None
    assert await store.engine.is_paired(OTHER) is False
    assert await store.engine.keys(OTHER, "session", ["a"]) == {}
    assert await store.engine.plaintext(OTHER, f"{1:064x}") is None


async def test_a_later_commit_changes_and_deletes_keys(store: Store) -> None:
    """None deletes a key; other keys and, in a commit without any, the credentials stay unchanged."""
    await store.engine.commit(
        COMPANY, Commit(link=1, seq=1, credentials="{}", paired=True, keys={"s": {"a": "1", "b": "2"}})
    )
    await store.engine.commit(OTHER, Commit(link=2, seq=1, keys={"s": {"a": "9"}}))
    await store.engine.commit(COMPANY, Commit(link=1, seq=2, keys={"s": {"a": None, "b": "3", "c": "4", "gone": None}}))
    assert await store.engine.keys(COMPANY, "s", ["a", "b", "c"]) == {"b": "3", "c": "4"}
    assert await store.engine.keys(OTHER, "s", ["a"]) == {"a": "9"}
    assert await store.engine.is_paired(COMPANY) is True


async def test_a_commit_is_stored_completely_or_not_at_all(store: Store) -> None:
    """An error in its last part rolls back the parts before it."""
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, credentials="old", paired=True, keys={"s": {"a": "1"}}))
    broken = decrypted(2, inbound(2, type=None))
    commit = Commit(
        link=1,
        seq=2,
        credentials="new",
        paired=True,
        keys={"s": {"a": None, "b": "2"}},
        decrypted=[decrypted(1, inbound(1)), broken],
    )
    with pytest.raises(Exception, match=r"NOT NULL .*inbox\.type|null value in column .type. of .*inbox"):
        await store.engine.commit(COMPANY, commit)
    assert await store.engine.credentials(COMPANY) == "old"
    assert await store.engine.keys(COMPANY, "s", ["a", "b"]) == {"a": "1"}
    assert await store.engine.plaintext(COMPANY, f"{1:064x}") is None
    assert await store.inbox.received(COMPANY, after=0, limit=9) == []


async def test_a_message_that_arrives_again_is_in_the_inbox_once(store: Store) -> None:
    """Also with another ciphertext; the commit returns which were new."""
    first, again = decrypted(1, inbound(1)), decrypted(2, inbound(1))
    assert await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[first, again])) == [inbound(1)]
    assert await store.engine.commit(COMPANY, Commit(link=2, seq=1, decrypted=[first])) == []
    assert await store.engine.commit(OTHER, Commit(link=3, seq=1, decrypted=[first])) == [inbound(1)]
    assert len(await store.inbox.received(COMPANY, after=0, limit=9)) == 1


async def test_a_character_that_databases_cannot_store_is_replaced(store: Store) -> None:
    """Anybody may send one; it must not keep the rest of a commit from being stored."""
    message = inbound(1, text="a\0b", push_name="\0")
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, message)]))
    [received] = await store.inbox.received(COMPANY, after=0, limit=9)
    assert received.text == "a\N{REPLACEMENT CHARACTER}b"


async def test_messages_of_one_id_from_different_people_are_different(store: Store) -> None:
    """Senders choose the ids: only chat, sender and id together identify a message."""
    messages = [
        inbound(1),
        inbound(1, sender="962788888888@s.whatsapp.net"),
        inbound(1, chat="120363000000000001@g.us"),
    ]
    items = [decrypted(number, message) for number, message in enumerate(messages)]
    assert await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=items)) == messages


async def test_the_inbox_is_read_in_order_and_in_parts(store: Store) -> None:
    """Each item has the times of sending and of storing."""
    for number in (1, 2, 3):
        await store.engine.commit(
            COMPANY, Commit(link=1, seq=number, decrypted=[decrypted(number, inbound(number, push_name="Maha"))])
        )
    first, second = await store.inbox.received(COMPANY, after=0, limit=2)
    assert (first.text, second.text) == ("text 1", "text 2")
    assert (first.company, first.type, first.from_me) == (COMPANY, "text", False)
    assert (first.sent_at, first.stored_at) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:16:40.000Z")
    assert [each.text for each in await store.inbox.received(COMPANY, after=second.seq, limit=9)] == ["text 3"]


async def test_quarantine_keeps_everything_and_empties_the_live_tables(store: Store) -> None:
    """Only for this company, with the reason; decrypted and received messages are kept."""
    commit = Commit(
        link=1, seq=1, credentials="creds", paired=True, keys={"s": {"a": "1"}}, decrypted=[decrypted(1, inbound(1))]
    )
    await store.engine.commit(COMPANY, commit)
    await store.engine.commit(OTHER, commit)
    await store.engine.quarantine(COMPANY, reason="unlinked")
    assert await store.engine.credentials(COMPANY) is None
    assert await store.engine.is_paired(COMPANY) is False
    assert await store.engine.keys(COMPANY, "s", ["a"]) == {}
    assert store.rows("SELECT company_id, at, reason, creds, keys FROM quarantine") == [
        (COMPANY, "2026-01-01T00:16:40.000Z", "unlinked", "creds", '[["s", "a", "1"]]')
    ]
    assert await store.engine.plaintext(COMPANY, f"{1:064x}") == b"hello"
    assert len(await store.inbox.received(COMPANY, after=0, limit=9)) == 1
    assert await store.engine.keys(OTHER, "s", ["a"]) == {"a": "1"}


async def test_plaintexts_are_removed_when_they_are_old(store: Store) -> None:
    """A redelivery that is still possible finds its plaintext; older ones are removed."""
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted()]))
    await store.engine.forget_plaintexts(before="2000-01-01T00:00:00.000Z")
    assert await store.engine.plaintext(COMPANY, f"{1:064x}") == b"hello"
    await store.engine.forget_plaintexts(before="2999-01-01T00:00:00.000Z")
    assert await store.engine.plaintext(COMPANY, f"{1:064x}") is None


async def test_each_quarantine_adds_a_row_unless_there_is_nothing_to_store(store: Store) -> None:
    """No credentials are discarded, however often a phone is unlinked."""
    for creds in ("first", "second"):
        await store.engine.commit(COMPANY, Commit(link=1, seq=1, credentials=creds, paired=True))
        await store.engine.quarantine(COMPANY, reason="unlinked")
        await store.engine.quarantine(COMPANY, reason="unlinked")
    assert store.rows("SELECT creds FROM quarantine ORDER BY seq") == [("first",), ("second",)]
