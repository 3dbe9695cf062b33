"""The overview of chats on each database: rows of older versions are added in short transactions."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from holdfast.delivery.chats import SentEntry
from holdfast.delivery.content import Content
from holdfast.delivery.stores import Received
from holdfast.session.engine import Commit
from holdfast.store import chat_filling
from holdfast.store.chat_rows import ChatRows
from holdfast.store.tables import chats, outbox
from tests.contract.rows import COMPANY, Store, decrypted, draft, inbound


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
    assert await rows.overview(COMPANY, after=None, most=10) == []
    for _ in range(2):
        with store.database._opened.writing.connect() as connection:
            chat_filling.fill_in_parts(connection)
    found = await rows.overview(COMPANY, after=None, most=10)
    assert [chat.unread for chat in found] == [0, 0]
    last = {type(chat.last.message): chat.last for chat in found if chat.last is not None}
    assert last.keys() == {SentEntry, Received}
    assert [each.emoji for each in last[SentEntry].reactions] == ["👍"]
