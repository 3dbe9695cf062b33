"""Ratchets that advanced after a backup, restored as in the backup, with real Baileys at both ends."""

from __future__ import annotations

import copy

import pytest

from holdfast.backup.ratchets import RatchetKey, without_sending
from holdfast.session.engine import CutLink, LinkClosed, SentContentRequested
from tests.doubles.engine_recorder import Stored
from tests.integration.conftest import Party

pytestmark = pytest.mark.slow


def close_sending(store: Stored) -> None:
    """Close the sending chains, as a restore does."""
    keys = [RatchetKey(type_, id_, value) for type_, values in store.keys.items() for id_, value in values.items()]
    for before, after in without_sending(keys, credentials=store.credentials or "", closed_at_ms=1):
        if after is None:
            del store.keys[before.type][before.id]
        else:
            store.keys[after.type][after.id] = after.value


async def test_a_restored_ratchet_sends_nothing(ours: Party, friend: Party) -> None:
    """Messages after a restore are decrypted at once: no key is used twice, and no retry receipt is sent."""
    await talk(ours, friend)
    then = copy.deepcopy(ours.store.keys)
    await friend_reads(ours, friend, ["three", "four"])
    await restore(ours, then)
    await friend_reads(ours, friend, ["five", "six"])
    assert ours.recorder.of(SentContentRequested) == []
    assert friend.store.undecryptable == []


async def test_a_restored_ratchet_still_reads(ours: Party, friend: Party) -> None:
    """Messages sent while the session was disconnected, in chats that the backup knows, are in the inbox at the next
    login.
    """
    await talk(ours, friend)
    then = copy.deepcopy(ours.store.keys)
    await friend_reads(ours, friend, ["three"])
    await cut(ours)
    friend.send("F2", ours.jid, "while you were away")
    await friend.acked("F2")
    await restore(ours, then)
    assert await ours.shown(2) == ["answer", "while you were away"]
    assert friend.recorder.of(SentContentRequested) == []
    assert ours.store.undecryptable == []


async def talk(ours: Party, friend: Party) -> None:
    """Exchange messages in both directions, so that each has received the other's ratchet key."""
    await friend_reads(ours, friend, ["one"])
    friend.send("F1", ours.jid, "answer")
    await ours.shown(1)
    await friend_reads(ours, friend, ["two"])


async def cut(ours: Party) -> None:
    ours.host.command(CutLink(link=ours.link))
    await ours.recorder.wait(LinkClosed, ours.link)


async def restore(ours: Party, then: dict[str, dict[str, str]]) -> None:
    """Restore the stored keys, and log in again."""
    if not ours.recorder.of(LinkClosed, ours.link):
        await cut(ours)
    ours.store.keys = then
    close_sending(ours.store)
    await ours.log_in()


async def friend_reads(ours: Party, friend: Party, texts: list[str]) -> None:
    for text in texts:
        ours.send(f"O-{text}", friend.jid, text)
        shown = len(friend.store.inbox) + 1
        assert (await friend.shown(shown))[-1] == text
