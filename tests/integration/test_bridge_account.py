"""The account's settings (app state), with real Baileys against wasim: stored, and requested only once."""

from __future__ import annotations

import json

import pytest

from holdfast.session.account_changes import ChatChanged, ContactSaved, LabelChanged, Labelled, Starred
from holdfast.session.engine import (
    CutLink,
    LinkClosed,
    OperationAnswered,
    Presence,
    QueryAnswered,
    RunOperation,
    RunQuery,
)
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow

FRIEND = "962799999999@s.whatsapp.net"


async def change(party: Party, *changes: dict[str, object]) -> None:
    """The owner changes settings on the phone."""
    await party.wasim.post(f"/phones/{party.number}/settings", {"changes": list(changes)})


async def test_settings_of_the_phone_arrive_once_and_are_not_requested_again(
    start_host: StartHost, wasim: Wasim
) -> None:
    """Settings from before are reported with their version; the next link requests none of them from WhatsApp."""
    recorder = Recorder()
    async with start_host(recorder) as host:
        ours = Party("962700000001", first_link=1, host=host, recorder=recorder, wasim=wasim)
        await wasim.post("/phones", {"number": ours.number, "name": "Layla's Flowers"})
        await change(
            ours,
            {"contact": FRIEND, "name": "Salma"},
            {"archive": FRIEND},
            {"mute": FRIEND},
            {"pin": FRIEND},
            {"label": "3", "name": "VIP", "color": 4},
            {"labelled": "3", "chat": FRIEND},
            {"star": "3A1", "chat": FRIEND},
        )
        await ours.pair()
        await ours.log_in()
        await recorder.until(lambda: len(ours.store.changes) >= 7, what="seven changes")
        _check_reported(ours)
        queries = (await wasim.get("/stats"))["queries"]["w:sync:app:state"]
        host.command(CutLink(link=ours.link))
        await recorder.wait(LinkClosed, ours.link)
        await ours.log_in()
        ours.send("3EB0AA01", ours.jid, "a message to oneself, after which the link has settled")
        await ours.acked("3EB0AA01")
        assert (await wasim.get("/stats"))["queries"]["w:sync:app:state"] == queries


def _check_reported(ours: Party) -> None:
    found = {type(each): each for each in ours.store.changes if not isinstance(each, ChatChanged)}
    assert found[ContactSaved] == ContactSaved(chat=FRIEND, saved_name="Salma")
    assert found[LabelChanged] == LabelChanged(label="3", name="VIP", color=4)
    assert found[Labelled] == Labelled(label="3", chat=FRIEND, on=True)
    assert found[Starred] == Starred(chat=FRIEND, whatsapp_id="3A1", on=True)
    chats = [each for each in ours.store.changes if isinstance(each, ChatChanged)]
    assert any(each.archived for each in chats)
    assert any(each.muted_until_s == -1 for each in chats)
    assert any(each.pinned_at_s for each in chats)


async def test_the_push_name_is_known_so_the_account_can_be_available(ours: Party) -> None:
    """The name comes with the settings after pairing; WhatsApp gets it with the presence."""
    await ours.recorder.until(
        lambda: json.loads(ours.store.credentials or "{}").get("me", {}).get("name") == "Layla's Flowers",
        what="the push name",
    )
    ours.host.command(Presence(link=ours.link, available=True))
    ours.send("3EB0AA01", ours.jid, "after the presence")
    await ours.acked("3EB0AA01")
    links = [link for link in await ours.wasim.get("/links") if link["number"] == ours.number]
    assert [link["available"] for link in links] == [True]


async def test_more_settings_than_fit_in_patches_come_as_a_snapshot(ours: Party) -> None:
    """A device that is a hundred versions behind gets the whole collection as an encrypted file."""
    ours.host.command(CutLink(link=ours.link))
    await ours.recorder.wait(LinkClosed, ours.link)
    before = len(ours.store.changes)
    for n in range(110):
        await change(ours, {"contact": f"9627000{n:05}@s.whatsapp.net", "name": f"Contact {n}"})
    await ours.log_in()
    await ours.recorder.until(lambda: len(ours.store.changes) - before >= 110, what="110 contacts")


async def operate(party: Party, operation: str, kind: str, **arguments: object) -> OperationAnswered:
    """Carry out an operation; returns WhatsApp's answer."""
    party.host.command(
        RunOperation(link=party.link, operation=operation, step="run", name=kind, arguments=dict(arguments))
    )

    def answers() -> list[OperationAnswered]:
        return [each for each in party.recorder.of(OperationAnswered, party.link) if each.operation == operation]

    await party.recorder.until(lambda: bool(answers()), what=f"the answer to {kind}")
    return answers()[0]


async def test_the_phone_shows_settings_that_are_changed_here(ours: Party) -> None:
    """Archive, mute, pin, unread, labels, stars and the push name reach the phone, with MACs that it accepts, and are
    reported as any other change."""
    last = {"id": "3A1", "fromMe": False, "sender": FRIEND, "atS": 1_700_000_000}
    await ours.recorder.until(lambda: "app-state-sync-key" in ours.store.keys, what="the key of the settings")
    done = [
        await operate(
            ours, "op_1", "update-chat", chat=FRIEND, archived=True, mutedUntilS=-1, pinned=True, unread=True, last=last
        ),
        await operate(ours, "op_2", "edit-label", label="1", name="VIP", color=2),
        await operate(ours, "op_3", "label-chat", chat=FRIEND, label="1", labelled=True),
        await operate(ours, "op_4", "star-message", chat=FRIEND, message="3A1", fromMe=False, starred=True),
        await operate(ours, "op_5", "set-profile", name="Layla"),
    ]
    assert [each.error for each in done] == [None] * 5
    view = await ours.wasim.get(f"/phones/{ours.number}/settings")
    chat = view["chats"][FRIEND]
    assert (chat["archived"], chat["mutedUntilMs"], chat["pinned"], chat["unread"]) == (True, -1, True, True)
    assert (chat["labels"], view["labels"]["1"], view["starred"]) == (
        ["1"],
        {"name": "VIP", "color": 2},
        [f"{FRIEND} 3A1"],
    )
    assert (view["pushName"], view["invalid"]) == ("Layla", 0)
    await ours.recorder.until(lambda: any(isinstance(each, Starred) for each in ours.store.changes), what="the star")


async def test_the_history_of_the_phone_comes_in_parts_and_more_of_it_on_request(
    start_host: StartHost, wasim: Wasim
) -> None:
    """With `full` the phone sends everything, newest first; a request brings what is older than a message."""
    recorder = Recorder()
    async with start_host(recorder) as host:
        ours = Party("962700000001", first_link=1, host=host, recorder=recorder, wasim=wasim, history="full")
        await wasim.post("/phones", {"number": ours.number, "name": "Layla's Flowers"})
        chats = [{"chat": FRIEND, "count": 300, "name": "Salma", "everyS": 86_400, "expiration": 86_400}]
        await wasim.post(f"/phones/{ours.number}/history", {"chats": chats})
        await ours.pair()
        await ours.log_in()
        await recorder.until(lambda: len(ours.store.history) >= 300, what="300 messages")
        ids = [message.whatsapp_id for message in ours.store.history]
        assert len(set(ids)) == 300
        assert {message.chat for message in ours.store.history} == {FRIEND}
        assert sum(message.from_me for message in ours.store.history) == 100
        assert ours.store.inbox == []
        assert ChatChanged(chat=FRIEND, disappearing_s=86_400, timer_set_at_s=0) in ours.store.changes
        oldest = {"id": "x", "fromMe": False, "atS": ours.store.history[100].sent_at_s}
        host.command(
            RunQuery(
                link=ours.link,
                request=1,
                name="chat-history",
                arguments={"jid": FRIEND, "oldest": oldest, "count": 7},
            )
        )
        answer = await recorder.wait(QueryAnswered, ours.link)
        assert answer.result == {"messages": 7}
        assert [message.sent_at_s for message in ours.store.history[300:]] == sorted(
            (message.sent_at_s for message in ours.store.history[300:]), reverse=True
        )
