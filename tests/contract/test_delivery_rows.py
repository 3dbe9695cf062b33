"""The rows of delivery that the outbox sender and the engine's storage rely on, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict
from holdfast.delivery.events import COMPLETED, RECEIVED
from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.rate_limits import ContactStatus
from holdfast.delivery.stores import Account, Message, MessageChange, Received
from holdfast.session.engine import AnsweredMessage, Commit, CreatedMessage, Undecryptable
from holdfast.session.stores import LeaseLost
from holdfast.store.leases import Check
from holdfast.store.outbox import OutboxRows
from tests.contract.rows import (
    COMPANY,
    OTHER,
    T1,
    T2,
    T3,
    Store,
    apply_updates,
    decrypted,
    draft,
    inbound,
    refuse,
    take,
)

LOCK, QUOTA = "reach-out-lock", "new-chat-quota"
PEOPLE = [f"96279000000{number}@s.whatsapp.net" for number in range(10)]
PERSON = "962799999999@s.whatsapp.net"
LATER = "2026-01-01T00:20:00.000Z"


class LostFence:
    """The rows of a process whose session another one took over."""

    def check(self, company: str) -> Check:
        def check(_: Connection) -> None:
            raise LeaseLost(company)

        return check


async def accepted(store: Store, number: int, chat: str = PEOPLE[1], **changes: object) -> Message:
    values = replace(draft(number), chat=chat, **changes)  # type: ignore[arg-type]  # fields of Draft
    return (await store.outbox.accept(values)).message


async def now(store: Store, message: Message) -> Message:
    found = await store.outbox.message(message.id)
    assert found is not None
    return found


async def known(store: Store, company: str = COMPANY) -> set[str]:
    """The chats to which a message does not count as one to a new contact."""
    for number, chat in enumerate(PEOPLE):
        values = replace(draft(1000 + number), company=company, chat=chat, id=f"msg_probe_{company}_{number}")
        await store.outbox.accept(values)
    rows = await store.outbox.messages(company, state=None, after=0, limit=99)
    return {row.chat for row in rows if row.id.startswith("msg_probe") and not row.is_to_new_contact}


async def knows(store: Store, *chats: str) -> None:
    """These people wrote to the company."""
    heard = [decrypted(100 + n, inbound(100 + n, chat=chat, sender=chat)) for n, chat in enumerate(chats)]
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=heard))


# Accepting a message that is sent at once.


async def test_a_message_that_is_sent_at_once_is_stored_as_sending(store: Store) -> None:
    """There is one row and one commit; the response shows the message as it was accepted."""
    await knows(store, draft().chat)
    answer = await store.outbox.accept(draft(), begin=True)
    assert (answer.is_new, answer.has_begun, answer.message.state) == (True, True, "queued")
    assert store.rows("SELECT state, attempts FROM outbox") == [("sending", 1)]
    assert store.rows("SELECT type FROM events") == [("message.received",), ("message.accepted",)]
    with pytest.raises(Conflict, match="the message is sending"):
        await store.outbox.cancel(answer.message.id)


async def test_a_repeated_acceptance_sends_nothing(store: Store) -> None:
    """The first response is returned, and its caller must not send the message."""
    await knows(store, draft().chat)
    for _ in range(2):
        answer = await store.outbox.accept(draft(key="k"), begin=True)
    assert (answer.is_new, answer.has_begun, answer.message.state) == (False, False, "sending")
    assert store.rows("SELECT state, attempts FROM outbox") == [("sending", 1)]


async def test_without_the_lease_a_message_is_stored_and_not_sent(store: Store) -> None:
    """The current owner of the session sends it."""
    await knows(store, draft().chat)
    answer = await OutboxRows(store.database, clock=store.clock, fence=LostFence()).accept(draft(), begin=True)
    assert (answer.is_new, answer.has_begun) == (True, False)
    assert store.rows("SELECT state, attempts FROM outbox") == [("queued", 0)]


async def test_without_the_lease_no_message_is_taken(store: Store) -> None:
    """The row stays as it was."""
    await accepted(store, 1)
    with pytest.raises(LeaseLost):
        await take(OutboxRows(store.database, clock=store.clock, fence=LostFence()))
    assert store.rows("SELECT state, attempts FROM outbox") == [("queued", 0)]


# Known contacts.


async def test_a_chat_is_known_when_whatsapp_accepted_its_first_message(store: Store) -> None:
    """Neither a failure nor an update without a change makes a contact known."""
    taken, failed = await accepted(store, 1, PEOPLE[1]), await accepted(store, 2, PEOPLE[2])
    changes = [
        MessageChange(whatsapp_id=taken.whatsapp_id, update=StatusUpdate.ACKED, at=T1, makes_known=True),
        MessageChange(whatsapp_id=failed.whatsapp_id, update=StatusUpdate.GIVEN_UP, at=T1, makes_known=True),
        MessageChange(whatsapp_id="3EB0FFFF", update=StatusUpdate.ACKED, at=T1, makes_known=True),
    ]
    await store.outbox.apply_updates(COMPANY, changes)
    assert await known(store) == {PEOPLE[1]}
    assert await known(store, OTHER) == set()


async def test_first_contacts_are_chats_that_the_company_started(store: Store) -> None:
    """Each counts once, at its first message; a contact who had written before does not count."""
    for number, (person, at) in enumerate([(PEOPLE[1], T1), (PEOPLE[2], T2), (PEOPLE[1], T3)], 1):
        message = await accepted(store, number, person)
        await store.outbox.apply_updates(
            COMPANY,
            [MessageChange(whatsapp_id=message.whatsapp_id, update=StatusUpdate.ACKED, at=at, makes_known=True)],
        )
    assert (await store.accounts.account(COMPANY, since=T1)).first_contacts == [T1, T2]
    assert (await store.accounts.account(COMPANY, since=T2)).first_contacts == [T2]
    assert (await store.accounts.account(OTHER, since=T1)).first_contacts == []


async def test_the_sender_of_a_message_is_known_and_not_a_first_contact(store: Store) -> None:
    """From the first message on; messages that the company itself sent from its phone don't count."""
    theirs, ours = inbound(1, chat=PEOPLE[1], sender=PEOPLE[1]), inbound(2, chat=PEOPLE[2], from_me=True)
    items = [decrypted(1, theirs), decrypted(2, ours)]
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=items))
    assert await known(store) == {PEOPLE[1]}
    store.clock.advance_to(store.clock.monotonic() + 60)
    again = [decrypted(3, inbound(3, chat=PEOPLE[1], sender=PEOPLE[1]))]
    await store.engine.commit(COMPANY, Commit(link=1, seq=2, decrypted=again))
    heard_from = store.rows("SELECT chat, first_received_at FROM chats WHERE first_received_at IS NOT NULL")
    assert heard_from == [(PEOPLE[1], "2026-01-01T00:16:40.000Z")]
    message = await accepted(store, 1, PEOPLE[1])
    changes = [MessageChange(whatsapp_id=message.whatsapp_id, update=StatusUpdate.ACKED, at=LATER, makes_known=True)]
    await store.outbox.apply_updates(COMPANY, changes)
    assert (await store.accounts.account(COMPANY, since=T1)).first_contacts == []


async def test_the_restrictions_of_an_account_are_stored_independently(store: Store) -> None:
    """Lock, slowed sending and the operator's limits, for each company; None removes one."""
    assert await store.accounts.account(COMPANY, since=T1) == Account(first_contacts=[], approached=[])
    await store.accounts.set_lock(COMPANY, code=LOCK, until=T2)
    await store.accounts.set_tight(COMPANY, until=T3)
    await store.accounts.set_pacing(COMPANY, {"newPerDay": 5})
    full = Account(pacing={"newPerDay": 5}, reach_out_until=T2, tight_until=T3, first_contacts=[], approached=[])
    assert await store.accounts.account(COMPANY, since=T1) == full
    assert await store.accounts.account(OTHER, since=T1) == Account(first_contacts=[], approached=[])
    await store.accounts.set_lock(COMPANY, code=LOCK, until=None)
    await store.accounts.set_pacing(COMPANY, None)
    assert await store.accounts.account(COMPANY, since=T1) == Account(tight_until=T3, first_contacts=[], approached=[])


async def test_the_figures_of_a_tenant_are_stored_beside_those_of_the_operator(store: Store) -> None:
    """A tenant who read the limits before the operator changed them does not undo that change."""
    await store.accounts.set_pacing(COMPANY, {"newPerDay": 5})
    await store.accounts.set_tenant_pacing(COMPANY, {"burst": 2})
    assert (await store.accounts.account(COMPANY, since=T1)).pacing == {"newPerDay": 5, "tenant": {"burst": 2}}
    await store.accounts.set_tenant_pacing(COMPANY, {})
    assert (await store.accounts.account(COMPANY, since=T1)).pacing == {"newPerDay": 5}
    await store.accounts.set_tenant_pacing(OTHER, {})
    assert (await store.accounts.account(OTHER, since=T1)).pacing is None


# Refusals.


async def test_lifting_or_extending_a_lock_reschedules_the_messages_that_it_holds(store: Store) -> None:
    """Only messages held for one code; a message shows that WhatsApp refused it until it is sent again."""
    locked, limited = [await accepted(store, n, PEOPLE[n]) for n in (1, 2)]
    await take(store.outbox)
    await refuse(store, locked, until=LATER, held=LOCK)
    await refuse(store, limited, until=LATER, held=QUOTA)
    await store.outbox.reschedule_held(COMPANY, code=LOCK, until=T3)
    assert [(await now(store, each)).held_until for each in (locked, limited)] == [T3, LATER]
    await store.outbox.reschedule_held(COMPANY, code=QUOTA, until=None)
    released = await now(store, limited)
    assert (released.held_code, released.held_until) == (QUOTA, None)
    assert [each.id for each in await take(store.outbox)] == [locked.id, limited.id]
    assert (await now(store, limited)).held_code is None


@pytest.mark.parametrize("state", ["cancelled", "expired"])
async def test_a_refused_message_can_be_cancelled(store: Store, state: str) -> None:
    """Every attempt was refused, so it was certainly not sent; a message without an answer can't be cancelled."""
    refused, unknown = [await accepted(store, n, PEOPLE[n], expires_at=LATER) for n in (1, 2)]
    for _ in range(2):
        await take(store.outbox)
        await refuse(store, refused, until=T1)
    if state == "cancelled":
        await store.outbox.cancel(refused.id)
        with pytest.raises(Conflict):
            await store.outbox.cancel(unknown.id)
    else:
        await store.outbox.expire(COMPANY, at=LATER)
    assert ((await now(store, refused)).state, (await now(store, unknown)).state) == (state, "sending")


async def test_a_refusal_does_not_settle_earlier_attempts(store: Store) -> None:
    """Whether one of them arrived is unknown: the message can't be cancelled and does not expire."""
    message = await accepted(store, 1, expires_at=LATER)
    for _ in range(2):
        await take(store.outbox)
    await refuse(store, message, until=LATER, held=LOCK)
    with pytest.raises(Conflict, match="the message is sending"):
        await store.outbox.cancel(message.id)
    assert await store.outbox.next_expiry(COMPANY) is None
    assert await store.outbox.expire(COMPANY, at=LATER) == []
    store.clock.advance_to(store.clock.monotonic() + 3600)
    assert len(await take(store.outbox)) == 1


async def test_a_message_that_may_have_been_sent_is_cancelled_by_force(store: Store) -> None:
    """The next message of its chat is sent; if WhatsApp acks it after all, its state shows that."""
    stuck, after = await accepted(store, 1), await accepted(store, 2)
    await take(store.outbox)
    assert (await store.outbox.cancel(stuck.id, force=True)).state == "cancelled"
    assert [each.id for each in await take(store.outbox)] == [after.id]
    with pytest.raises(Conflict, match="the message is cancelled"):
        await store.outbox.cancel(stuck.id, force=True)
    await apply_updates(store, stuck, StatusUpdate.ACKED)
    assert (await now(store, stuck)).state == "sent"
    with pytest.raises(Conflict, match="the message is sent"):
        await store.outbox.cancel(stuck.id, force=True)


async def test_a_message_shows_why_its_last_attempt_failed(store: Store) -> None:
    """Until it is settled; refusals by one code in a row are counted for the sender."""
    message = await accepted(store, 1)
    for code, count in (("ack-503", 1), ("ack-503", 2), ("timeout", 1)):
        await take(store.outbox)
        await refuse(store, message, until=T1, code=code)
        stands = await now(store, message)
        assert (stands.retry_at, stands.retry_code, stands.retry_message) == (T1, code, "why")
        assert store.rows("SELECT retry_count FROM outbox") == [(count,)]
    [outgoing] = await take(store.outbox)
    assert (outgoing.retry_code, outgoing.retry_count) == ("timeout", 1)
    await apply_updates(store, message, StatusUpdate.ACKED)
    assert (await now(store, message)).retry_at is None


# Expiry.


async def test_a_message_that_was_certainly_not_sent_expires_on_time(store: Store) -> None:
    """Not earlier, and no message that is settled or in flight; each expires once, with an event."""
    early, late, never, under_way, sent = [
        await accepted(store, n, PEOPLE[n], expires_at=at) for n, at in enumerate([T2, T3, None, LATER, T1], 1)
    ]
    await apply_updates(store, sent, StatusUpdate.ACKED)
    exclude = [each.whatsapp_id for each in (early, late, never)]
    assert [each.id for each in await take(store.outbox, exclude=exclude)] == [under_way.id]
    assert await store.outbox.next_expiry(COMPANY) == T2
    assert await store.outbox.expire(COMPANY, at=T1) == []
    assert [each.id for each in await store.outbox.expire(COMPANY, at=T2)] == [early.id]
    assert await store.outbox.next_expiry(COMPANY) == T3
    assert [each.id for each in await store.outbox.expire(COMPANY, at=LATER)] == [late.id]
    assert await store.outbox.expire(COMPANY, at=LATER) == []
    assert await store.outbox.next_expiry(COMPANY) is None
    states = [(await now(store, each)).state for each in (early, late, never, under_way, sent)]
    assert states == ["expired", "expired", "queued", "sending", "sent"]
    assert store.rows("SELECT count(*) FROM events WHERE type = 'message.expired'") == [(2,)]


async def test_thousands_of_messages_do_not_expire_in_one_transaction(store: Store) -> None:
    """Other companies would wait for it: the next call has the rest."""
    for n in range(1, 151):
        await accepted(store, n, expires_at=T2)
    first, second = await store.outbox.expire(COMPANY, at=T2), await store.outbox.expire(COMPANY, at=T2)
    assert (len(first), len(second)) == (100, 50)
    assert await store.outbox.next_expiry(COMPANY) is None


async def test_expiries_move_with_the_wall_clock(store: Store) -> None:
    """By the clock step, to the millisecond; messages accepted since then already have the new time."""
    old = await accepted(store, 1, expires_at=LATER)
    store.clock.advance_to(store.clock.monotonic() + 10)
    after = store.clock.now()
    new = await accepted(store, 2, PEOPLE[2], expires_at=LATER)
    step = ClockStep(by_s=-86400.5, suspended_s=0.0, after=after, at=after)
    await store.outbox.move_expiries(COMPANY, step)
    moved = iso(datetime.fromisoformat(LATER) - timedelta(seconds=86400.5))
    for message, expires_at in ((old, moved), (new, LATER)):
        found = await store.outbox.message(message.id)
        assert found is not None
        assert found.expires_at == expires_at


async def test_an_expired_message_is_not_sent_unless_its_outcome_is_unknown(store: Store) -> None:
    """One that may have arrived is settled by WhatsApp's answer, however late."""
    queued, unknown, refused = [await accepted(store, n, PEOPLE[n], expires_at=LATER) for n in (1, 2, 3)]
    await take(store.outbox, exclude=[queued.whatsapp_id])
    await refuse(store, refused, until=LATER, held=LOCK)
    store.clock.advance_to(store.clock.monotonic() + 3600)
    begun = await take(store.outbox)
    assert [(each.id, each.attempts) for each in begun] == [(unknown.id, 2)]


# Content prepared by the engine.


async def test_prepared_content_is_passed_to_the_engine_again(store: Store) -> None:
    """With the next attempt, and when a recipient requests the message again; for this company alone."""
    message = await accepted(store, 1)
    await take(store.outbox)
    other = (await store.outbox.accept(replace(draft(1, company=OTHER), id="msg_9"))).message
    made = [
        CreatedMessage(whatsapp_id=message.whatsapp_id, made="bWFkZQ=="),
        CreatedMessage(whatsapp_id="3EB0FFFF", made="eA=="),
    ]
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, made=made))
    [outgoing] = await take(store.outbox)
    assert (outgoing.made, outgoing.attempts) == ("bWFkZQ==", 2)
    assert await store.outbox.sent_content(COMPANY, message.whatsapp_id, chat=message.chat) == (
        {"text": "message 1"},
        "bWFkZQ==",
    )
    assert (await store.outbox.sent_content(OTHER, other.whatsapp_id, chat=other.chat))[1] is None


# Undecryptable messages.


UNREAD = Undecryptable(whatsapp_id="3A0001", chat=PERSON, sender=PERSON, sent_at_s=1_767_225_600, push_name="Ma\0ha")


async def inbox(store: Store) -> list[Received]:
    return await store.inbox.received(COMPANY, after=0, limit=9)


async def event_types(store: Store) -> list[str]:
    return [event.type for event in await store.events.after(0, companies=None, limit=99)]


async def test_an_undecryptable_message_is_stored_once(store: Store) -> None:
    """However often it arrives. Its sender does not become a known contact: nothing is known about its content."""
    for seq in (1, 2):
        await store.engine.commit(COMPANY, Commit(link=1, seq=seq, undecryptable=[UNREAD]))
    [unread] = await inbox(store)
    assert (unread.type, unread.text, unread.completed_at, unread.from_me) == ("undecryptable", None, None, False)
    assert unread.sent_at == "2026-01-01T00:00:00.000Z"
    assert await event_types(store) == [RECEIVED]
    assert await store.inbox.received(OTHER, after=0, limit=9) == []


async def test_the_second_copy_completes_it(store: Store) -> None:
    """It keeps its position and id in the inbox and gets its content; it is reported as completed once, and to the
    session as new.
    """
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, undecryptable=[UNREAD]))
    [unread] = await inbox(store)
    store.clock.advance_to(store.clock.monotonic() + 5)
    came = inbound(1, media={"mimetype": "image/png"}, media_keys="secret", type="image")
    commit = Commit(link=1, seq=2, decrypted=[decrypted(1, came)])
    assert await store.engine.commit(COMPANY, commit) == [came]
    assert await store.engine.commit(COMPANY, commit) == []
    [read] = await inbox(store)
    assert (read.seq, read.id, read.stored_at) == (unread.seq, unread.id, unread.stored_at)
    assert (read.type, read.text, read.media) == ("image", "text 1", {"mimetype": "image/png"})
    assert read.completed_at == "2026-01-01T00:16:45.000Z"
    assert store.rows("SELECT media_keys FROM inbox") == [("secret",)]
    told = await store.events.after(0, companies=[COMPANY], limit=9)
    assert [event.type for event in told] == [RECEIVED, COMPLETED]
    assert [json.loads(event.body)["id"] for event in told] == [unread.id, unread.id]
    assert json.loads(told[1].body)["text"] == "text 1"
    await store.outbox.accept(replace(draft(), chat=PERSON))
    assert [each.contact for each in await take(store.outbox)] == [ContactStatus.KNOWN]


async def test_a_decrypted_message_never_becomes_undecryptable(store: Store) -> None:
    """A copy with a damaged ciphertext changes nothing."""
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, inbound(1, push_name="Maha"))]))
    [before] = await inbox(store)
    await store.engine.commit(COMPANY, Commit(link=1, seq=2, undecryptable=[UNREAD]))
    assert await inbox(store) == [before]
    assert await event_types(store) == [RECEIVED]


async def test_one_commit_may_hold_both(store: Store) -> None:
    """The row is completed in the transaction that created it."""
    came = inbound(1)
    commit = Commit(link=1, seq=1, undecryptable=[UNREAD], decrypted=[decrypted(1, came)])
    assert await store.engine.commit(COMPANY, commit) == [came]
    [read] = await inbox(store)
    assert (read.text, read.completed_at) == ("text 1", "2026-01-01T00:16:40.000Z")
    assert await event_types(store) == [RECEIVED, COMPLETED]


GROUP = "120363012345678901@g.us"


async def test_the_sender_and_the_group_of_a_message_are_shown_by_name(store: Store) -> None:
    """The names are stored with the message or learned later, and shown in the inbox and in its event; a new subject
    replaces the old one.
    """
    came = inbound(1, chat=GROUP, push_name="Amal", sender_lid="2002@lid")
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, came)]))
    [first] = await inbox(store)
    assert (first.sender_name, first.sender_lid, first.group_subject) == ("Amal", "2002@lid", None)
    for seq, subject in ((2, "Drivers"), (3, "Drivers Irbid")):
        await store.engine.commit(COMPANY, Commit(link=1, seq=seq, groups={GROUP: subject}))
    await store.engine.commit(OTHER, Commit(link=2, seq=1, groups={GROUP: "theirs"}))
    await store.engine.commit(COMPANY, Commit(link=1, seq=4, decrypted=[decrypted(2, inbound(2, chat=GROUP))]))
    assert [item.group_subject for item in await inbox(store)] == ["Drivers Irbid"] * 2
    found = await store.inbox.find(first.id)
    assert found is not None
    assert found.group_subject == "Drivers Irbid"
    told = [json.loads(event.body) for event in await store.events.after(0, companies=[COMPANY], limit=9)]
    assert [(body["senderName"], body["senderLid"], body["groupSubject"]) for body in told] == [
        ("Amal", "2002@lid", None),
        ("Amal", None, "Drivers Irbid"),
    ]


async def test_an_encrypted_answer_finds_the_message_that_it_answers(store: Store) -> None:
    """The first message in its chat with that id and a secret: a later message under the same id hides nothing."""
    poll: dict[str, object] = {"poll": {"options": ["A", "B"], "votes": []}}
    came = [
        inbound(1, whatsapp_id="P", sender="962790000007@s.whatsapp.net", chat=GROUP),
        inbound(2, whatsapp_id="P", chat=GROUP, sender_lid="2002@lid", message_secret="c2VjcmV0", content=poll),
        inbound(3, whatsapp_id="P", sender="962790000008@s.whatsapp.net", chat=GROUP, message_secret="b3RoZXI="),
    ]
    records = [decrypted(n, message) for n, message in enumerate(came)]
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=records))
    assert await store.engine.answered_message(COMPANY, "P", chat=GROUP) == AnsweredMessage(
        secret="c2VjcmV0", sender=came[1].sender, sender_lid="2002@lid", content=poll
    )
    for company, id_, chat in ((OTHER, "P", GROUP), (COMPANY, "Q", GROUP), (COMPANY, "P", came[0].sender)):
        assert await store.engine.answered_message(company, id_, chat=chat) is None


async def test_a_completed_message_has_its_senders_hidden_id(store: Store) -> None:
    """The envelope of an undecryptable message does not contain it."""
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, undecryptable=[UNREAD]))
    came = inbound(1, sender_lid="2002@lid")
    await store.engine.commit(COMPANY, Commit(link=1, seq=2, decrypted=[decrypted(1, came)]))
    [read] = await inbox(store)
    assert read.sender_lid == "2002@lid"
