"""The history that a phone sends, as rows: stored beside live messages, and without disturbing them."""

from __future__ import annotations

from holdfast.session.engine import Commit, HistoryProgress, InboundMessage
from tests.contract.rows import COMPANY, Store, decrypted, draft, inbound

CHAT = "962799999999@s.whatsapp.net"


async def history(store: Store, *messages: InboundMessage) -> None:
    progress = HistoryProgress(percent=50)
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, history=list(messages), history_progress=progress))


async def test_history_is_stored_without_events_and_unread_messages(store: Store) -> None:
    """It is marked, no event reports it, nothing counts as unread, and the last message of the chat stays the last."""
    live = inbound(9, chat=CHAT, sender=CHAT, sent_at_s=1_767_225_600)
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, live)]))
    before = store.rows("SELECT unread, last_seq FROM chats"), store.rows("SELECT seq FROM events")
    await history(store, inbound(1, chat=CHAT, sender=CHAT, sent_at_s=1_700_000_000))
    assert (store.rows("SELECT unread, last_seq FROM chats"), store.rows("SELECT seq FROM events")) == before
    assert store.rows("SELECT whatsapp_id, origin FROM inbox ORDER BY seq") == [("3A0009", None), ("3A0001", "history")]
    rows = await store.inbox.received(COMPANY, after=0, limit=9)
    assert [row.origin for row in rows] == [None, "history"]


async def test_a_stored_message_is_not_stored_again(store: Store) -> None:
    """Neither an inbound message, nor one that Holdfast sent, nor the same history twice."""
    live = inbound(9, chat=CHAT, sender=CHAT)
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, live)]))
    await store.outbox.accept(draft(1))
    own = inbound(2, chat=CHAT, sender="962700000001@s.whatsapp.net", from_me=True, whatsapp_id="3EB00001")
    phone = inbound(3, chat=CHAT, sender="962700000001@s.whatsapp.net", from_me=True)
    for _ in range(2):
        await history(store, live, own, phone)
    assert store.rows("SELECT whatsapp_id, origin FROM inbox ORDER BY seq") == [("3A0009", None), ("3A0003", "history")]


async def test_a_contact_in_the_history_is_not_a_new_contact(store: Store) -> None:
    """Somebody who wrote before the device was linked is known to the limits of messages to new contacts."""
    await history(store, inbound(1, chat=CHAT, sender=CHAT))
    ((known,),) = store.rows("SELECT first_received_at FROM chats")
    assert known is not None
