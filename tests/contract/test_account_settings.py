"""Account settings as rows: a version and its changes are one commit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from holdfast.delivery.labels import Label
from holdfast.delivery.message import StatusUpdate
from holdfast.session.account_changes import (
    FOREVER_S,
    AnyAccountChange,
    ChatChanged,
    ContactSaved,
    LabelChanged,
    Labelled,
    Starred,
)
from holdfast.session.engine import Commit, Decrypted
from holdfast.store.account_settings import FOREVER, AccountSettingRows
from tests.contract.rows import COMPANY, OTHER, Store, apply_updates, decrypted, draft, inbound, take

CHAT, GROUP = "962790000001@s.whatsapp.net", "1203630000@g.us"


@pytest.fixture
def settings(store: Store) -> AccountSettingRows:
    """The reader of what `store` writes."""
    return AccountSettingRows(store.database)


async def commit(store: Store, *changes: AnyAccountChange, company: str = COMPANY) -> None:
    keys: dict[str, dict[str, str | None]] = {"app-state-sync-version": {"regular_low": "{}"}}
    await store.engine.commit(company, Commit(link=1, seq=1, keys=keys, changes=list(changes)))


def chats(store: Store, company: str = COMPANY) -> dict[str, dict[str, object]]:
    """Settings of a company's chats that differ from a new chat's."""
    names = ("is_archived", "muted_until", "pinned_at", "unread", "disappearing_s")
    rows = store.rows(f"SELECT chat, {', '.join(names)} FROM chats WHERE company_id = '{company}'")
    return {str(row[0]): {name: value for name, value in zip(names, row[1:], strict=True) if value} for row in rows}


async def test_a_change_leaves_other_settings_unchanged(store: Store) -> None:
    """Each setting of a chat keeps its last value; another company's chat of the same name has its own."""
    await commit(store, ChatChanged(chat=CHAT, archived=True), ChatChanged(chat=CHAT, pinned_at_s=1_700_000_000))
    await commit(store, ChatChanged(chat=CHAT, muted_until_s=FOREVER_S), ChatChanged(chat=GROUP, unread=True))
    await commit(store, ChatChanged(chat=CHAT, archived=False, disappearing_s=86_400))
    await commit(store, ChatChanged(chat=CHAT, unread=True), company=OTHER)
    assert chats(store) == {
        CHAT: {"muted_until": FOREVER, "pinned_at": "2023-11-14T22:13:20.000Z", "disappearing_s": 86_400},
        GROUP: {"unread": -1},
    }
    await commit(store, ChatChanged(chat=CHAT, muted_until_s=0, pinned_at_s=0, disappearing_s=0))
    await commit(store, ChatChanged(chat=GROUP, unread=False))
    assert chats(store) == {CHAT: {}, GROUP: {}}
    assert chats(store, OTHER) == {CHAT: {"unread": -1}}


async def test_a_message_gets_its_chats_timer_when_it_is_first_sent(store: Store) -> None:
    """At acceptance for a message that is sent at once, later for one that waited. A reaction has none, and a message
    that may have been sent keeps its timer.
    """
    chat = draft(1).chat
    await commit(store, ChatChanged(chat=chat, disappearing_s=86_400))
    first = await store.outbox.accept(draft(1))
    assert first.outgoing(draft(1)).content == {"text": "message 1", "disappearingS": 86_400}
    waiting = replace(draft(2), kind="reaction", content={"reaction": {"emoji": "👍"}})
    await store.outbox.accept(waiting)
    await store.outbox.accept(draft(3))
    await commit(store, ChatChanged(chat=chat, disappearing_s=604_800))
    assert await _timers_taken(store) == [604_800]
    await commit(store, ChatChanged(chat=chat, disappearing_s=0))
    assert await _timers_taken(store) == [604_800], "it may have left"
    for message in (first.message, replace(first.message, whatsapp_id=waiting.whatsapp_id)):
        await apply_updates(store, message, StatusUpdate.ACKED)
        assert await _timers_taken(store) == [None]
    stored = [json.loads(str(content)) for (content,) in store.rows("SELECT content FROM outbox ORDER BY seq")]
    assert [each.get("disappearingS") for each in stored] == [604_800, None, None]


async def _timers_taken(store: Store) -> list[object]:
    return [each.content.get("disappearingS") for each in await take(store.outbox)]


async def test_a_timer_that_was_set_earlier_than_the_stored_one_is_ignored(store: Store) -> None:
    """Messages contain the time at which their chat's timer was set, and arrive in any order; a time in the future
    counts as now.
    """
    hour = 1_700_000_000
    for disappearing_s, set_at_s, expected in (
        (86_400, hour, 86_400),
        (604_800, hour - 1, 86_400),
        (7_776_000, hour + 1, 7_776_000),
        (0, hour + 1, None),
        (86_400, 2**40, 86_400),
        (0, None, None),
    ):
        timer = ChatChanged(chat=CHAT, disappearing_s=disappearing_s, timer_set_at_s=set_at_s)
        heard = Decrypted(ciphertext_sha256=f"{disappearing_s}-{set_at_s}", plaintext="", timer=timer)
        await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[heard]))
        assert chats(store)[CHAT].get("disappearing_s") == expected


async def test_a_chat_with_unread_messages_that_is_marked_unread_keeps_its_count(store: Store) -> None:
    """The mark adds nothing to unread messages; reading the chat on the phone removes both."""
    message = inbound(1, chat=CHAT, sender=CHAT)
    await store.engine.commit(COMPANY, Commit(link=1, seq=1, decrypted=[decrypted(1, message)]))
    await commit(store, ChatChanged(chat=CHAT, unread=True))
    assert chats(store)[CHAT] == {"unread": 1}
    await commit(store, ChatChanged(chat=CHAT, unread=False))
    assert chats(store)[CHAT] == {}


async def test_saved_names_are_learned_and_forgotten(store: Store) -> None:
    """The name in the address book is a contact's; a removed entry leaves the contact without one."""
    await commit(store, ContactSaved(chat=CHAT, lid="77@lid", saved_name="Salma"))
    assert store.rows("SELECT jid, lid, saved_name FROM contacts") == [(CHAT, "77@lid", "Salma")]
    await commit(store, ContactSaved(chat="77@lid"), ContactSaved(chat="status@broadcast", saved_name="x"))
    assert store.rows("SELECT jid, saved_name FROM contacts") == [(CHAT, None)]


async def test_settings_of_a_hidden_id_are_those_of_its_number(store: Store, settings: AccountSettingRows) -> None:
    """A chat that began under a hidden id keeps its labels when it becomes the chat of the number."""
    await commit(store, Labelled(label="3", chat="77@lid", on=True), ChatChanged(chat="77@lid", archived=True))
    await commit(store, ContactSaved(chat=CHAT, lid="77@lid", saved_name="Salma"))
    await commit(store, Starred(chat="77@lid", whatsapp_id="3A1", on=True))
    assert await settings.labels_of(COMPANY, [CHAT, "77@lid"]) == {CHAT: ("3",)}
    assert chats(store) == {CHAT: {"is_archived": 1}}
    assert store.rows("SELECT chat FROM starred") == [(CHAT,)]


async def test_labels_are_edited_attached_and_deleted_with_their_uses(
    store: Store, settings: AccountSettingRows
) -> None:
    """A chat lists its labels; a deleted label is attached to nothing."""
    await commit(store, LabelChanged(label="3", name="VIP", color=4), LabelChanged(label="4", name="Late"))
    await commit(store, LabelChanged(label="3", name="Good customers", color=5))
    await commit(store, Labelled(label="3", chat=CHAT, on=True), Labelled(label="4", chat=CHAT, on=True))
    await commit(store, Labelled(label="3", chat=CHAT, whatsapp_id="3A1", on=True))
    assert await settings.labels(COMPANY) == [
        Label(id="3", name="Good customers", color=5),
        Label(id="4", name="Late"),
    ]
    assert await settings.labels_of(COMPANY, [CHAT]) == {CHAT: ("3", "4")}
    assert await settings.chats_with(COMPANY, "3", after="", limit=10) == [CHAT]
    await commit(store, Labelled(label="4", chat=CHAT, on=False), LabelChanged(label="3"))
    assert await settings.labels_of(COMPANY, [CHAT]) == {}
    assert await settings.labels(COMPANY) == [Label(id="4", name="Late")]
    assert store.rows("SELECT * FROM labelled") == []


async def test_a_star_is_set_once_and_removed(store: Store) -> None:
    """Setting a star again changes nothing."""
    await commit(store, Starred(chat=CHAT, whatsapp_id="3A1", on=True), Starred(chat=CHAT, whatsapp_id="3A1", on=True))
    assert store.rows("SELECT chat, whatsapp_id FROM starred") == [(CHAT, "3A1")]
    await commit(store, Starred(chat=CHAT, whatsapp_id="3A1", on=False))
    assert store.rows("SELECT chat FROM starred") == []


async def test_hostile_settings_are_stored_within_bounds(store: Store, settings: AccountSettingRows) -> None:
    """NUL, lone surrogates, long names and absurd times become something that both databases store."""
    bad = "\0\ud800" + "x" * 100_000
    await commit(
        store,
        ChatChanged(chat=bad, muted_until_s=2**62, pinned_at_s=-5, disappearing_s=2**40),
        LabelChanged(label=bad, name=bad, color=2**40),
        Labelled(label=bad, chat=bad, whatsapp_id=bad, on=True),
        Starred(chat=bad, whatsapp_id=bad, on=True),
    )
    (label,) = await settings.labels(COMPANY)
    assert (len(label.name), label.color) == (255, None)
