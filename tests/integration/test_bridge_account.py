"""The account's settings (app state) on real Baileys against wasim: kept, and asked for only once."""

from __future__ import annotations

import json

import pytest

from holdfast.session.account_changes import ChatChanged, ContactSaved, LabelChanged, Labelled, Starred
from holdfast.session.engine import CutLink, LinkClosed, Presence
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow

FRIEND = "962799999999@s.whatsapp.net"


async def change(party: Party, *changes: dict[str, object]) -> None:
    """The owner changes settings on the phone."""
    await party.wasim.post(f"/phones/{party.number}/settings", {"changes": list(changes)})


async def test_settings_of_the_phone_arrive_once_and_are_not_asked_for_again(
    start_host: StartHost, wasim: Wasim
) -> None:
    """What the owner set before is reported with its version; the next link asks WhatsApp for none of it."""
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
