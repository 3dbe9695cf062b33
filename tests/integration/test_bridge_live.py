"""Status posts, channels, calls, changes of groups and presence, on real Baileys against wasim."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

import pytest

from holdfast.session.engine import (
    CallSignal,
    GroupChange,
    Presence,
    PresenceSeen,
    QueryAnswered,
    Receipted,
    RunQuery,
    SendRefused,
    Written,
)
from holdfast.session.queries import Query, reject_call, subscribe_presence
from tests.integration.conftest import Party
from tests.processes import Wasim

pytestmark = pytest.mark.slow
R = TypeVar("R")

THIRD = "962788888888"
FOURTH = "962777777777"
CHANNEL = "120363170000000001@newsletter"


async def post_in_channel(wasim: Wasim, to: str, text: str, *, id_: str) -> None:
    """Send a post in the format of channels: unencrypted, as `Message {conversation}`."""
    message = b"\x0a" + bytes([len(text)]) + text.encode()
    content = [{"tag": "plaintext", "content": {"base64": base64.b64encode(message).decode()}}]
    attrs = {"from": CHANNEL, "id": id_, "server_id": "117", "t": "1700000000", "type": "text"}
    stanza = {"tag": "message", "attrs": attrs, "content": content}
    await wasim.post(f"/phones/{to}/stanzas", {"stanzas": [stanza]})


async def test_status_and_channel_posts_are_stored_and_acknowledged(ours: Party, wasim: Wasim) -> None:
    """A status keeps its author, a channel's post its number; WhatsApp delivers neither again."""
    await wasim.post("/phones", {"number": THIRD})
    await wasim.post(f"/phones/{THIRD}/send", {"to": "status@broadcast", "text": "roses", "audience": [ours.number]})
    assert await ours.shown(1) == ["roses"]
    await post_in_channel(wasim, ours.number, "tulips", id_="3AFE01")
    assert await ours.shown(2) == ["roses", "tulips"]
    status, post = ours.store.inbox
    assert (status.chat, status.sender, status.from_me) == ("status@broadcast", f"{THIRD}@s.whatsapp.net", False)
    assert (post.chat, post.sender, post.content) == (CHANNEL, CHANNEL, {"serverId": "117"})
    await ours.settled()


async def test_a_status_reaches_its_audience_and_its_views_are_reported(
    ours: Party, wasim: Wasim, tmp_path: Path
) -> None:
    """Text and picture reach the given people and the account's own phone, nobody else; a number without WhatsApp is
    left out.
    """
    for number in (THIRD, FOURTH):
        await wasim.post("/phones", {"number": number})
    audience = [f"{number}@s.whatsapp.net" for number in (THIRD, "962700000999")]
    ours.send_content("3EB0AA05", "status@broadcast", {"text": "roses", "audience": audience})
    written = await ours.recorder.wait(Written, ours.link)
    assert written.members == 1
    assert (await ours.acked("3EB0AA05")).chat == "status@broadcast"
    receipt = await ours.recorder.wait(Receipted, ours.link)
    assert (receipt.chat, receipt.participant) == ("status@broadcast", f"{THIRD}@s.whatsapp.net")
    (seen,) = await wasim.get(f"/phones/{THIRD}/inbox")
    assert (seen["kind"], seen["text"], seen["from"]) == ("text", "roses", ours.number)
    assert await wasim.get(f"/phones/{FOURTH}/inbox") == []
    picture = tmp_path / "picture"
    picture.write_bytes(b"\xff\xd8\xff\xe0a picture")
    image = {"file": str(picture), "mimetype": "image/jpeg", "caption": "look"}
    ours.send_content("3EB0AA07", "status@broadcast", {"image": image, "audience": audience})
    await ours.acked("3EB0AA07")
    shown = await wasim.get(f"/phones/{THIRD}/inbox")
    assert [(each["kind"], each["text"]) for each in shown] == [("text", "roses"), ("image", "look")]
    (own,) = [phone for phone in await wasim.get("/phones") if phone["number"] == ours.number]
    assert (own["signal"]["decrypted"], own["signal"]["undecryptable"]) == (2, 0)
    ours.send_content("3EB0AA06", "status@broadcast", {"text": "tulips", "audience": audience[1:]})
    refused = await ours.recorder.wait(SendRefused, ours.link)
    assert (refused.whatsapp_id, refused.code) == ("3EB0AA06", "no-audience")


async def ask(party: Party, number: int, query: Query[R]) -> QueryAnswered:
    command = RunQuery(link=party.link, request=number, name=query.name, arguments=dict(query.arguments))
    party.host.command(command)

    def answers() -> list[QueryAnswered]:
        return [each for each in party.recorder.of(QueryAnswered) if each.request == number]

    await party.recorder.until(lambda: bool(answers()), what=f"the answer to {query.name}")
    return answers()[0]


async def test_calls_are_reported_and_can_be_rejected(ours: Party, wasim: Wasim) -> None:
    """Each signal is durable before it is acknowledged, and the caller's phone learns of the rejection."""
    await wasim.post("/phones", {"number": THIRD, "name": "Layla"})
    calls = ours.store.calls

    async def ring(count: int) -> CallSignal:
        await wasim.post(f"/phones/{THIRD}/calls", {"to": ours.number, "video": True})
        await ours.recorder.until(lambda: len(calls) == count, what="the offer")
        return calls[-1]

    offer = await ring(1)
    assert (offer.kind, offer.caller, offer.video, offer.push_name) == (
        "offer",
        f"{THIRD}@s.whatsapp.net",
        True,
        "Layla",
    )
    assert (await ask(ours, 1, reject_call(offer.call_id, offer.creator))).error is None
    (shown,) = await wasim.get(f"/phones/{THIRD}/calls")
    assert shown["state"] == "rejected"
    missed = await ring(2)
    await wasim.post(f"/phones/{THIRD}/calls/{missed.call_id}", {"state": "timeout"})
    await ours.recorder.until(lambda: len(calls) == 3, what="the end of the call")
    assert (calls[2].call_id, calls[2].kind, calls[2].caller) == (missed.call_id, "missed", missed.caller)
    await ours.settled()


async def test_changes_of_a_group_are_reported_with_the_people_concerned(ours: Party, wasim: Wasim) -> None:
    """People have phone numbers, though WhatsApp names them by hidden ids; changes are durable before they are
    acknowledged.
    """
    for number in (THIRD, FOURTH):
        await wasim.post("/phones", {"number": number, "name": "Layla"})
    group = await wasim.post("/groups", {"subject": "Flowers", "members": [THIRD, ours.number]})
    await wasim.patch(f"/groups/{group['id']}", {"subject": "Tulips", "add": [FOURTH]})
    await wasim.patch(f"/groups/{group['id']}", {"remove": [FOURTH]})
    changes: list[GroupChange] = ours.store.group_changes
    await ours.recorder.until(lambda: len(changes) == 4, what="four changes")
    created, renamed, added, removed = changes
    assert [change.kind for change in changes] == ["created", "subject", "members_added", "members_removed"]
    assert {(change.group, change.actor) for change in changes} == {(group["id"], f"{THIRD}@s.whatsapp.net")}
    assert renamed.value == "Tulips"
    assert [[member.jid for member in change.participants] for change in (added, removed)] == [
        [f"{FOURTH}@s.whatsapp.net"]
    ] * 2
    assert len(created.participants) == 2
    ours.send("3EB0AA01", group["id"], "hello all")
    written = await ours.recorder.wait(Written, ours.link)
    assert written.members == 1
    receipt = await ours.recorder.wait(Receipted, ours.link)
    assert receipt.chat == group["id"]
    assert receipt.participant in {created.actor, created.actor_lid}
    await ours.settled()


async def test_presence_and_typing_of_a_contact_are_reported(ours: Party, wasim: Wasim) -> None:
    """After a subscription, while this account is available itself."""
    await wasim.post("/phones", {"number": THIRD})
    contact = f"{THIRD}@s.whatsapp.net"
    assert (await ask(ours, 1, subscribe_presence([contact]))).error is None
    ours.host.command(Presence(link=ours.link, available=True))
    seen: list[PresenceSeen] = []

    async def until_seen(state: str) -> PresenceSeen:
        def found() -> list[PresenceSeen]:
            return [each for each in ours.recorder.of(PresenceSeen) if each.state == state]

        await ours.recorder.until(lambda: bool(found()), what=f"the presence {state}")
        return found()[-1]

    seen.append(await until_seen("unavailable"))
    await wasim.post(f"/phones/{THIRD}/presence", {"available": True})
    seen.append(await until_seen("available"))
    await wasim.post(f"/phones/{THIRD}/typing", {"to": ours.number, "state": "recording"})
    seen.append(await until_seen("recording"))
    assert {(each.chat, each.sender) for each in seen} == {(contact, contact)}
