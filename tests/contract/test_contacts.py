"""One person is one chat: names of people, and the merge of chats, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import URL, Connection, delete, event

from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.stores import Message, MessageChange
from holdfast.session.contacts import Identity, KnownContact
from holdfast.session.engine import Commit
from holdfast.store import chat_merge
from holdfast.store.database import Database
from holdfast.store.outbox import OutboxRows
from holdfast.store.tables import chat_aliases, contacts
from tests.contract.rows import COMPANY, T1, Store, apply_updates, decrypted, draft, inbound, refuse, take

NUMBER, LID, OTHER_LID = "962790000001@s.whatsapp.net", "5550001@lid", "5550002@lid"
NINE, EIGHT = "5511987654321@s.whatsapp.net", "551187654321@s.whatsapp.net"
LATER = "2026-01-01T01:00:00.000Z"


async def accepted(store: Store, number: int, chat: str) -> Message:
    return (await store.outbox.accept(replace(draft(number), chat=chat))).message


async def receive(store: Store, number: int = 1, **changes: object) -> None:
    commit = Commit(link=1, seq=number, decrypted=[decrypted(number, inbound(number, **changes))])
    await store.engine.commit(COMPANY, commit)


async def map_lid(store: Store, lid: str = LID, number: str = NUMBER) -> None:
    """The engine stores a mapping that WhatsApp's server reported."""
    user, digits = lid.removesuffix("@lid"), number.partition("@")[0]
    keys: dict[str, str | None] = {digits: json.dumps(user), f"{user}_reverse": json.dumps(digits)}
    await store.engine.commit(COMPANY, Commit(link=1, seq=9, keys={"lid-mapping": keys}))


async def sent_in_order(store: Store) -> list[str]:
    """Take and ack messages until none is due."""
    order: list[str] = []
    while taken := await take(store.outbox):
        order += [message.id for message in taken]
        acks = [MessageChange(whatsapp_id=each.whatsapp_id, update=StatusUpdate.ACKED, at=T1) for each in taken]
        await store.outbox.apply_updates(COMPANY, acks)
    return order


def heads(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT id, chat FROM outbox WHERE next_at IS NOT NULL ORDER BY seq")


async def test_the_queues_of_a_hidden_id_and_its_number_become_one_in_the_order_of_acceptance(store: Store) -> None:
    """Messages were queued under both names when the mapping became known: there is one head, and no message overtakes
    another.
    """
    for number, chat in enumerate([LID, NUMBER, LID, NUMBER, LID], 1):
        await accepted(store, number, chat)
    assert heads(store) == [("msg_1", LID), ("msg_2", NUMBER)]
    await map_lid(store)
    assert heads(store) == [("msg_1", NUMBER)]
    await accepted(store, 6, LID)
    assert await sent_in_order(store) == [f"msg_{n}" for n in range(1, 7)]
    assert store.rows("SELECT DISTINCT chat FROM outbox") == [(NUMBER,)]


async def test_messages_in_flight_under_both_names_settle_after_the_merge(store: Store) -> None:
    """The former head is acked like any other message, and the next message follows the last of both."""
    first, second = await accepted(store, 1, LID), await accepted(store, 2, NUMBER)
    await accepted(store, 3, LID)
    assert [each.id for each in await take(store.outbox)] == ["msg_1", "msg_2"]
    await map_lid(store)
    await apply_updates(store, second, StatusUpdate.ACKED)
    assert await take(store.outbox, exclude=["3EB00001"]) == []
    await apply_updates(store, first, StatusUpdate.ACKED)
    assert [each.id for each in await take(store.outbox)] == ["msg_3"]


async def test_a_hold_ends_when_the_contact_is_known_under_another_name(store: Store) -> None:
    """A customer who wrote by number is not a new contact when the company answers the hidden id."""
    await receive(store, chat=NUMBER, sender=NUMBER)
    message = await accepted(store, 1, LID)
    assert message.is_to_new_contact
    await take(store.outbox)
    await refuse(store, message, until=LATER, code="ack-463", held="reach-out-lock")
    assert await take(store.outbox) == []
    await map_lid(store)
    assert [each.id for each in await take(store.outbox)] == ["msg_1"]


async def test_two_spellings_of_a_number_share_a_queue_before_whatsapp_is_queried(store: Store) -> None:
    """Brazil's ninth digit: the chat has the spelling that was used first, until WhatsApp says which one it uses."""
    for number, chat in enumerate([NINE, EIGHT, NINE], 1):
        assert (await accepted(store, number, chat)).chat == NINE
    assert heads(store) == [("msg_1", NINE)]
    await store.engine.commit(
        COMPANY,
        Commit(link=1, seq=1, keys={"number-spelling": {"5511987654321": json.dumps("551187654321")}}),
    )
    assert heads(store) == [("msg_1", EIGHT)]
    assert (await accepted(store, 4, NINE)).chat == EIGHT
    assert await sent_in_order(store) == ["msg_1", "msg_2", "msg_3", "msg_4"]
    assert await store.contacts.canonical(COMPANY, NINE) == EIGHT


@pytest.mark.slow
@pytest.mark.parametrize("new_place", ["postgres"], indirect=True)
async def test_processes_that_accept_one_person_under_several_names_make_one_chat(store: Store, place: URL) -> None:
    """Two processes at the same time on one PostgreSQL, while WhatsApp reports the hidden id: one queue with one head,
    and messages are sent in the order of acceptance."""
    other = Database(place)
    outboxes = [store.outbox, OutboxRows(other, clock=store.clock)]
    names = [NINE, LID, EIGHT]
    drafts = [replace(draft(number), chat=names[number % 3]) for number in range(1, 31)]
    async with asyncio.TaskGroup() as tasks:
        accepting = [tasks.create_task(outboxes[n // 3 % 2].accept(each)) for n, each in enumerate(drafts)]
        tasks.create_task(store.contacts.learn(COMPANY, [Identity(jid=EIGHT, lid=LID)]))
    other.close()
    by_seq = sorted((task.result().message for task in accepting), key=lambda message: message.seq)
    assert len(heads(store)) == 1
    assert await sent_in_order(store) == [message.id for message in by_seq]
    assert store.rows("SELECT DISTINCT chat FROM outbox") == [(EIGHT,)]
    assert store.rows("SELECT chat FROM chats") == [(EIGHT,)]


async def test_an_inbound_message_says_which_spelling_is_canonical(store: Store) -> None:
    await accepted(store, 1, NINE)
    await receive(store, chat=EIGHT, sender=EIGHT, sender_lid=LID)
    assert (await accepted(store, 2, LID)).chat == EIGHT
    assert (await accepted(store, 3, NINE)).chat == EIGHT
    assert await sent_in_order(store) == ["msg_1", "msg_2", "msg_3"]
    (received,) = await store.inbox.received(COMPANY, after=0, limit=9, chat=NINE)
    assert received.chat == EIGHT


async def test_history_under_a_hidden_id_is_found_under_the_number(store: Store) -> None:
    """Inbox, outbox and the time of the first contact are moved, also when they need several transactions."""
    count = chat_merge.MOVED_AT_ONCE + 20
    for number in range(1, count + 1):
        await receive(store, number, chat=LID, sender=LID)
    message = await accepted(store, 1, LID)
    await sent_in_order(store)
    await map_lid(store)
    assert store.rows("SELECT chat FROM chats") == [(NUMBER,)]
    while await store.contacts.catch_up():
        pass
    found = await store.inbox.received(COMPANY, after=0, limit=999, chat=LID)
    assert [each.whatsapp_id for each in found] == [f"3A{n:04}" for n in range(1, count + 1)]
    assert {(each.chat, each.sender) for each in found} == {(NUMBER, NUMBER)}
    assert [each.id for each in await store.outbox.messages(COMPANY, state=None, after=0, limit=9, chat=NUMBER)] == [
        message.id
    ]
    assert store.rows("SELECT count(*) FROM inbox WHERE chat <> 'x' AND chat = '5550001@lid'") == [(0,)]


async def test_a_message_that_whatsapp_repeats_under_the_other_name_is_stored_once(store: Store) -> None:
    await receive(store, chat=LID, sender=LID)
    await map_lid(store)
    await receive(store, chat=NUMBER, sender=NUMBER, sender_lid=LID)
    assert len(await store.inbox.received(COMPANY, after=0, limit=9)) == 1


async def test_a_reassigned_number_leaves_the_former_owners_chat_unchanged(store: Store) -> None:
    """A number is given to somebody else, who has another account: the former owner is a person without a number."""
    await map_lid(store)
    await receive(store, 1, chat=NUMBER, sender=NUMBER, push_name="Former")
    await map_lid(store, lid=OTHER_LID)
    assert await store.contacts.canonical(COMPANY, OTHER_LID) == NUMBER
    assert await store.contacts.canonical(COMPANY, LID) == LID
    await receive(store, 2, chat=LID, sender=LID, push_name="Former")
    former, owner = [await store.contacts.find(COMPANY, lid) for lid in (LID, OTHER_LID)]
    assert former is not None
    assert owner is not None
    assert (former.jid, former.number) == (LID, None)
    assert (owner.jid, owner.number, owner.lid) == (NUMBER, "962790000001", OTHER_LID)


async def test_a_person_who_changes_the_number_keeps_the_hidden_id(store: Store) -> None:
    """New messages are in the chat of the new number; those of the old number stay where they are."""
    await map_lid(store)
    await receive(store, 1, chat=NUMBER, sender=NUMBER)
    await map_lid(store, number=EIGHT)
    assert (await accepted(store, 1, LID)).chat == EIGHT
    assert [each.chat for each in await store.inbox.received(COMPANY, after=0, limit=9)] == [NUMBER]


async def test_a_persons_names_are_found_under_every_id(store: Store) -> None:
    """Names arrive with messages; a later name replaces the earlier one, and an unreported name changes nothing."""
    await receive(store, 1, chat=LID, sender=LID, push_name="Rami")
    await store.contacts.learn(COMPANY, [Identity(jid=LID, username="rami.h")])
    assert await store.contacts.by_username(COMPANY, "rami.h") == await store.contacts.find(COMPANY, LID)
    await map_lid(store)
    await store.contacts.learn(COMPANY, [Identity(jid=NUMBER, business_name="Flowers")])
    found = await store.contacts.find(COMPANY, LID)
    assert found is not None
    assert replace(found, updated_at=None) == KnownContact(
        jid=NUMBER, number="962790000001", lid=LID, username="rami.h", push_name="Rami", business_name="Flowers"
    )
    await receive(store, 2, chat=NUMBER, sender=NUMBER, push_name="Rami H")
    found = await store.contacts.find(COMPANY, NUMBER)
    assert found is not None
    assert found.push_name == "Rami H"


async def test_a_username_that_somebody_else_took_is_theirs(store: Store) -> None:
    await store.contacts.learn(COMPANY, [Identity(jid=LID, username="rami")])
    await store.contacts.learn(COMPANY, [Identity(jid=OTHER_LID, username="rami")])
    found = await store.contacts.by_username(COMPANY, "rami")
    assert found is not None
    assert found.jid == OTHER_LID
    former = await store.contacts.find(COMPANY, LID)
    assert former is not None
    assert former.username is None


async def test_untrusted_names_are_bounded_and_merge_no_chats(store: Store) -> None:
    """Names are truncated and cleaned; a name that looks like an id is only a name."""
    await receive(store, 1, chat=NUMBER, sender=NUMBER, sender_lid=LID)
    await receive(store, 2, chat=OTHER_LID, sender=OTHER_LID, push_name=f"{NUMBER}\0" + "x" * 9000)
    assert await store.contacts.canonical(COMPANY, OTHER_LID) == OTHER_LID
    found = await store.contacts.find(COMPANY, OTHER_LID)
    assert found is not None
    assert found.push_name is not None
    assert len(found.push_name) <= 255
    assert "\0" not in found.push_name


async def test_contacts_of_older_versions_are_added_gradually(store: Store) -> None:
    """Mappings among the engine's keys and names in the inbox: the newest name of each sender counts."""
    for number, name in enumerate(["Old", "New"], 1):
        await receive(store, number, chat=LID, sender=LID, push_name=name)
    await map_lid(store)
    await _forget(store.database)
    assert await store.contacts.find(COMPANY, NUMBER) is None
    assert await store.contacts.canonical(COMPANY, LID) == NUMBER
    while await store.contacts.catch_up():
        pass
    found = await store.contacts.find(COMPANY, NUMBER)
    assert found is not None
    assert (found.lid, found.push_name) == (LID, "New")


async def test_contacts_are_added_in_short_transactions(store: Store) -> None:
    """Writes of messages wait for each transaction, and on a server each statement takes about a millisecond."""
    people = [f"96279000{number:04}@s.whatsapp.net" for number in range(60)]
    for number, sender in enumerate(people):
        await receive(store, number, chat=sender, sender=sender, push_name=f"Name {number}")
    await _forget(store.database)
    counts = [0]

    def count(*_: object) -> None:
        counts[-1] += 1

    def end(*_: object) -> None:
        counts.append(0)

    engine = store.database._opened.writing
    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", end)
    while await store.contacts.catch_up():
        pass
    assert max(counts) <= 60
    for number, sender in enumerate(people):
        found = await store.contacts.find(COMPANY, sender)
        assert found is not None
        assert found.push_name == f"Name {number}"


async def _forget(database: Database) -> None:
    def work(connection: Connection) -> None:
        for table in (contacts, chat_aliases):
            connection.execute(delete(table))

    await database.write(work)
