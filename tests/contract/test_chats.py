"""The overview of chats on each database: rows of older versions are added in short transactions."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

from sqlalchemy import Connection, insert, update

from holdfast.delivery.chats import SentEntry
from holdfast.delivery.content import Content
from holdfast.delivery.stores import Received
from holdfast.session.engine import Commit
from holdfast.store import chat_filling
from holdfast.store.chat_rows import ChatRows
from holdfast.store.contacts import ContactRows
from holdfast.store.tables import chats, contacts, outbox
from tests.contract.rows import COMPANY, T1, Store, decrypted, draft, inbound


async def test_rows_of_an_older_version_are_added(store: Store) -> None:
    """The last message of each chat, and the targets of reactions; nothing is unread. A second run changes nothing."""
    await store.outbox.accept(draft(1))
    content: Content = {"reaction": {"whatsappId": "3EB00001", "emoji": "👍"}}
    await store.outbox.accept(replace(draft(2), kind="reaction", content=content))
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, inbound(1))]))
    empty = {"last_at": None, "last_seq": None, "last_is_sent": False, "unread": 0}
    await store.database.write(lambda connection: connection.execute(update(chats).values(empty)).close())
    await store.database.write(lambda connection: connection.execute(update(outbox).values(target=None)).close())
    rows = ChatRows(store.database)
    assert (await rows.overview(COMPANY, after=None, limit=10)).chats == []
    for _ in range(2):
        with store.database._opened.writing.connect() as connection:
            chat_filling.fill_in_parts(connection)
    found = (await rows.overview(COMPANY, after=None, limit=10)).chats
    assert [chat.unread for chat in found] == [0, 0]
    last = {type(chat.last.message): chat.last for chat in found if chat.last is not None}
    assert last.keys() == {SentEntry, Received}
    assert [each.emoji for each in last[SentEntry].reactions] == ["👍"]


async def test_a_message_that_is_edited_very_often_costs_no_memory(store: Store) -> None:
    """A stranger may edit one message thousands of times: only the last edit is read, and the last reaction of each
    sender.
    """
    chat, text = "962790000009@s.whatsapp.net", "e" * 20_000
    changes = [
        inbound(n, chat=chat, sender=chat, type="edit", target="3A0001", text=f"{n} {text}") for n in range(2, 402)
    ]
    emoji = {"reaction": {"emoji": "👍"}}
    reaction = inbound(402, chat=chat, sender=chat, type="reaction", target="3A0001", text=None, content=emoji)
    messages = [inbound(1, chat=chat, sender=chat, whatsapp_id="3A0001"), reaction, *changes]
    for n, each in enumerate(messages):
        await store.engine.commit(COMPANY, Commit(link=1, seq=n, decrypted=[decrypted(n, each)]))
    rows = ChatRows(store.database)
    tracemalloc.start()
    try:
        [entry] = (await rows.timeline(COMPANY, chat, limit=10)).entries
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert entry.edited_text == f"401 {text}"
    assert [each.emoji for each in entry.reactions] == ["👍"]
    assert most < 2_000_000


async def test_one_page_of_a_search_compares_a_bounded_number_of_names(store: Store) -> None:
    """However many chats and contacts a company has; `next` continues until the oldest chat was compared, too."""
    jids = [f"9627{n:08}@s.whatsapp.net" for n in range(7001)]
    same = {"company_id": COMPANY, "updated_at": T1}

    def fill(connection: Connection) -> None:
        connection.execute(
            insert(chats),
            [{"company_id": COMPANY, "chat": jid, "last_at": f"{T1[:-5]}.{n:06}Z"} for n, jid in enumerate(jids)],
        )
        names = {jids[0]: "Rania", jids[-1]: "the baKery"}
        connection.execute(
            insert(contacts), [{**same, "jid": jid, "push_name": names.get(jid, "Omar")} for jid in jids]
        )

    await store.database.write(fill)
    rows, people = ChatRows(store.database), ContactRows(store.database, clock=store.clock)
    first = await rows.overview(COMPANY, after=None, limit=1, words="rania")
    assert first.chats == []
    second = await rows.overview(COMPANY, after=first.next, limit=1, words="rania")
    assert ([each.chat for each in second.chats], second.next) == ([jids[0]], None)
    one = await rows.overview(COMPANY, after=None, limit=1, words="omar")
    assert ([each.chat for each in one.chats], one.next and one.next.chat) == ([jids[-2]], jids[-2])
    found = await people.contacts(COMPANY, after="", limit=1, words="Bakery")
    assert (found.people, found.next) == ([], jids[4999])
    found = await people.contacts(COMPANY, after=jids[4999], limit=1, words="Bakery")
    assert ([each.jid for each in found.people], found.next) == ([jids[-1]], None)
    found = await people.contacts(COMPANY, after="", limit=1, words="omar")
    assert ([each.jid for each in found.people], found.next) == ([jids[1]], jids[1])
