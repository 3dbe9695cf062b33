"""Which messages are taken from the outbox, and in which order, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.rate_limits import ContactStatus
from holdfast.delivery.stores import BULK, Deferral, Message, MessageChange
from holdfast.session.engine import Commit
from tests.contract.rows import COMPANY, OTHER, T1, Store, allow, apply_updates, decrypted, draft, inbound, refuse, take

PEOPLE = [f"96279000000{number}@s.whatsapp.net" for number in range(10)]
GROUP = "120363000000000001@g.us"
SOON, LATER = "2026-01-01T00:16:50.000Z", "2026-01-01T00:20:00.000Z"
"""Ten and 200 seconds after the clock's beginning."""


async def accepted(store: Store, number: int, chat: str = PEOPLE[1], **changes: object) -> Message:
    values = replace(draft(number), chat=chat, **changes)  # type: ignore[arg-type]  # fields of Draft
    return (await store.outbox.accept(values)).message


async def numbers(store: Store, *, exclude: Sequence[int] = (), **limits: int) -> list[int]:
    """The messages that are taken, by number."""
    busy = [f"3EB0{number:04}" for number in exclude]
    taken = await store.outbox.take(COMPANY, allow(**limits), exclude=busy)
    return [int(each.id.removeprefix("msg_")) for each in taken.messages]


async def heard_from(store: Store, chat: str) -> None:
    heard = [decrypted(1, inbound(1, chat=chat, sender=chat))]
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=heard))


async def crash(store: Store, number: int, score: int) -> None:
    deferral = Deferral(whatsapp_id=f"3EB0{number:04}", at=T1, next_at=None, crash_score=score)
    await store.outbox.apply_updates(COMPANY, [deferral])


async def test_the_oldest_message_of_each_chat_is_taken(store: Store) -> None:
    """The next one follows when it is settled, whatever the outcome; messages of other companies are not taken."""
    messages = [await accepted(store, n, PEOPLE[n % 2]) for n in range(1, 7)]
    await store.outbox.accept(draft(9, company=OTHER))
    assert await numbers(store) == [1, 2]
    await apply_updates(store, messages[0], StatusUpdate.ACKED)
    await apply_updates(store, messages[1], StatusUpdate.GIVEN_UP)
    assert await numbers(store) == [3, 4]
    await store.outbox.cancel(messages[4].id)
    await apply_updates(store, messages[2], StatusUpdate.READ)
    assert await numbers(store, exclude=(4,)) == []


async def test_messages_in_flight_are_not_taken_again(store: Store) -> None:
    """Messages that a link took before it ended are taken first, because their outcome is unknown."""
    for n in range(1, 4):
        await accepted(store, n, PEOPLE[n])
    assert await numbers(store, total=2) == [1, 2]
    assert await numbers(store, exclude=(1, 2)) == [3]
    assert await numbers(store) == [1, 2, 3]


async def test_updates_are_applied_before_messages_are_taken_in_one_transaction(store: Store) -> None:
    """The ack of one message and the start of the next one in its chat are one commit."""
    first = await accepted(store, 1)
    await accepted(store, 2)
    await numbers(store)
    updates = [MessageChange(whatsapp_id=first.whatsapp_id, update=StatusUpdate.ACKED, at=T1)]
    taken = await store.outbox.take(COMPANY, allow(), exclude=(), updates=updates)
    assert [each.id for each in taken.messages] == ["msg_2"]
    assert store.rows("SELECT state FROM outbox ORDER BY seq") == [("sent",), ("sending",)]


async def test_only_updates_that_make_a_message_due_cause_a_query(store: Store) -> None:
    """The next message of a chat becomes due when the one before it is settled; a receipt makes nothing due."""
    first, second = [await accepted(store, n) for n in (1, 2)]
    await accepted(store, 3, PEOPLE[3])

    async def made_due(message: Message, update: StatusUpdate, *exclude: int) -> list[str] | None:
        change = MessageChange(whatsapp_id=message.whatsapp_id, update=update, at=T1)
        busy = [f"3EB0{number:04}" for number in exclude]
        taken = await store.outbox.take_made_due(COMPANY, allow(), exclude=busy, updates=[change])
        return None if taken is None else [each.id for each in taken.messages]

    assert await numbers(store) == [1, 3]
    assert await made_due(first, StatusUpdate.ACKED, 3) == ["msg_2"]
    assert await made_due(first, StatusUpdate.READ, 2, 3) is None
    assert await made_due(second, StatusUpdate.ACKED, 3) is None
    assert store.rows("SELECT state FROM outbox ORDER BY seq") == [("read",), ("sent",), ("sending",)]


async def test_waiting_messages_are_reported(store: Store) -> None:
    """Messages behind others, delayed until a time, or not allowed now; those in flight or settled do not wait."""
    messages = [await accepted(store, n) for n in (1, 2)]
    taken = await store.outbox.take(COMPANY, allow(), exclude=())
    assert (taken.has_more, taken.next_at, taken.is_limited) == (True, None, False)
    await refuse(store, messages[0], until=LATER)
    taken = await store.outbox.take(COMPANY, allow(), exclude=())
    assert (taken.messages, taken.has_more, taken.next_at) == ([], True, LATER)
    await store.outbox.cancel(messages[1].id)
    await apply_updates(store, messages[0], StatusUpdate.ACKED)
    assert not (await store.outbox.take(COMPANY, allow(), exclude=())).has_more
    await accepted(store, 3)
    assert (await store.outbox.take(COMPANY, allow(total=1), exclude=())).is_limited


async def test_a_delayed_chat_does_not_block_others(store: Store) -> None:
    """It is sent when its time has come, or when the wall clock was set."""
    resting = await accepted(store, 1)
    await accepted(store, 2)
    await accepted(store, 3, PEOPLE[3])
    assert await numbers(store) == [1, 3]
    await refuse(store, resting, until=SOON)
    assert await numbers(store, exclude=(3,)) == []
    store.clock.advance_to(store.clock.monotonic() + 10)
    assert await numbers(store, exclude=(3,)) == [1]
    await refuse(store, resting, until="2036-01-01T00:00:00.000Z")
    assert await numbers(store, exclude=(3,)) == []
    await store.outbox.make_due(COMPANY)
    assert await numbers(store, exclude=(3,)) == [1]


async def test_interactive_messages_come_before_bulk(store: Store) -> None:
    """Also one behind a bulk message to the same person: that bulk message is then sent first, and still counts as
    bulk.
    """
    for n, (chat, priority) in enumerate(
        [(PEOPLE[1], BULK), (PEOPLE[2], BULK), (PEOPLE[2], 0), (PEOPLE[2], BULK), (PEOPLE[3], 0)], 1
    ):
        await accepted(store, n, chat, priority=priority)
    assert await numbers(store, bulk=1) == [2, 5]
    messages = await store.outbox.messages(COMPANY, state=None, after=0, limit=9)
    for n in (1, 2):
        await apply_updates(store, messages[n], StatusUpdate.ACKED)
    assert sorted(await numbers(store, exclude=(5,))) == [1, 4]


async def test_limits_of_new_contacts_affect_no_other_chats(store: Store) -> None:
    """Groups and contacts who wrote are known; a contact with an earlier attempt does not count again."""
    await heard_from(store, PEOPLE[3])
    for n, chat in enumerate((PEOPLE[1], PEOPLE[2], PEOPLE[3], GROUP), 1):
        await accepted(store, n, chat)
    taken = await take(store.outbox, new=1)
    assert [(each.id, each.contact) for each in taken] == [
        ("msg_3", ContactStatus.KNOWN),
        ("msg_4", ContactStatus.KNOWN),
        ("msg_1", ContactStatus.NEW),
    ]
    again = await take(store.outbox, new=0)
    assert [(each.id, each.contact) for each in again][2:] == [("msg_1", ContactStatus.APPROACHED)]
    assert (await store.accounts.account(COMPANY, since=T1)).approached == [PEOPLE[1]]
    assert await numbers(store, exclude=(3, 4), new=1, approached=0) == [2]


async def test_a_hold_ends_when_the_contact_becomes_known(store: Store) -> None:
    """When the contact writes to the company, the held message is due at once and no longer counts as a new contact."""
    refused = await accepted(store, 1)
    await numbers(store)
    await refuse(store, refused, until=LATER, code="ack-463", held="reach-out-lock")
    assert await numbers(store) == []
    await heard_from(store, PEOPLE[1])
    assert await numbers(store, new=0, approached=0) == [1]


async def test_a_suspect_is_taken_alone_and_last(store: Store) -> None:
    """When nothing else is due and nothing is in flight, or when it has waited long enough; locks apply to it
    as well.
    """
    for n in range(1, 4):
        await accepted(store, n, PEOPLE[n])
    await numbers(store)
    await crash(store, 2, 4)
    taken = await store.outbox.take(COMPANY, allow(), exclude=())
    assert ([each.id for each in taken.messages], taken.suspect_waits) == (["msg_1", "msg_3"], True)
    assert await numbers(store, exclude=(1, 3)) == []
    assert (await store.outbox.take(COMPANY, allow(approached=0), exclude=(), alone=True)).messages == []
    alone = await store.outbox.take(COMPANY, allow(), exclude=(), alone=True)
    assert ([each.id for each in alone.messages], alone.suspect_waits) == (["msg_2"], False)
    for n in (1, 3):
        await store.outbox.apply_updates(
            COMPANY, [MessageChange(whatsapp_id=f"3EB0{n:04}", update=StatusUpdate.ACKED, at=T1)]
        )
    young_link = await store.outbox.take(COMPANY, replace(allow(), suspects=False), exclude=(), alone=True)
    assert (young_link.messages, young_link.suspect_waits) == ([], True)
    [suspect] = await take(store.outbox)
    assert (suspect.id, suspect.crash_score) == ("msg_2", 4)


async def test_suspects_take_turns(store: Store) -> None:
    """The suspect that just ended a link is taken last; otherwise it would starve the others."""
    await heard_from(store, PEOPLE[1])
    for n in range(1, 4):
        await accepted(store, n, PEOPLE[n])
    await numbers(store)
    for n in range(1, 4):
        await crash(store, n, 4)
    assert await numbers(store) == [1]
    await store.outbox.apply_updates(COMPANY, [Deferral(whatsapp_id="3EB00001", at=SOON, next_at=None, crash_score=5)])
    store.clock.advance_to(store.clock.monotonic() + 10)
    assert await numbers(store) == [2]


async def test_a_late_update_does_not_affect_a_message_behind_others(store: Store) -> None:
    """The same holds for a settled message."""
    first, second = await accepted(store, 1), await accepted(store, 2)
    await numbers(store)
    await refuse(store, second, until=LATER)
    await apply_updates(store, first, StatusUpdate.ACKED)
    await refuse(store, first, until=LATER)
    assert await numbers(store) == [2]


async def test_a_chat_has_one_head_no_matter_which_process_accepts(store: Store) -> None:
    """A unique index in the database guarantees it."""
    for n in range(1, 9):
        await accepted(store, n, PEOPLE[n % 3])
    heads = store.rows("SELECT chat, count(*) FROM outbox WHERE next_at IS NOT NULL GROUP BY chat")
    assert sorted(heads) == [(chat, 1) for chat in PEOPLE[:3]]
