"""Groups, hidden ids, typing and locks through the bridge, on real Baileys against wasim."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast.session.engine import NewChatsLocked, Ping, Ponged, SendRefused, SentContentRequested
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow

THIRD = "962788888888"
FOURTH = "962777777777"


async def group_of(wasim: Wasim, *numbers: str, addressing: str = "lid") -> str:
    """A new group of these phones; its JID."""
    group = await wasim.post("/groups", {"subject": "Flowers", "members": list(numbers), "addressing": addressing})
    return str(group["id"])


async def opened(wasim: Wasim, number: str) -> list[dict[str, Any]]:
    """The messages that a phone shows, oldest first."""
    rows: list[dict[str, Any]] = await wasim.get(f"/phones/{number}/inbox")
    return rows


async def until_texts(wasim: Wasim, number: str, texts: list[str]) -> None:
    async with asyncio.timeout(10):
        while [row["text"] for row in await opened(wasim, number)] != texts:  # noqa: ASYNC110 – another process's inbox
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("addressing", ["lid", "pn"])
async def test_group_messages_reach_every_member(
    ours: Party, friend: Party, wasim: Wasim, addressing: str, tmp_path: Path
) -> None:
    """Each member gets each message once, with its sender; replies and reactions refer to the right message."""
    await wasim.post("/phones", {"number": THIRD})
    group = await group_of(wasim, ours.number, friend.number, THIRD, addressing=addressing)
    picture = tmp_path / "picture"
    picture.write_bytes(b"picture" * 1000)
    ours.send("3EB0AA01", group, "hello all")
    assert await friend.shown(1) == ["hello all"]
    friend.send("3EB0BB01", group, "hello back")
    assert await ours.shown(1) == ["hello back"]
    reply: dict[str, object] = {"whatsappId": "3EB0BB01", "fromMe": False, "sender": friend.jid, "text": "hello back"}
    ours.send_content("3EB0AA02", group, {"text": "and again", "replyTo": reply, "mentions": [friend.jid]})
    reaction: dict[str, object] = {"emoji": "👍", "whatsappId": "3EB0BB01", "fromMe": False, "sender": friend.jid}
    await ours.acked("3EB0AA02")
    ours.send_content("3EB0AA03", group, {"reaction": reaction})
    await ours.acked("3EB0AA03")
    ours.send_content("3EB0AA04", group, {"image": {"file": str(picture), "mimetype": "image/png"}})
    await friend.shown(4)
    _, answer, thumb, image = friend.store.inbox
    assert {(m.chat, m.sender) for m in friend.store.inbox} == {(group, ours.jid)}
    assert answer.content == {"mentions": [friend.jid], "replyTo": {"whatsappId": "3EB0BB01", "sender": friend.jid}}
    assert (thumb.type, thumb.target) == ("reaction", "3EB0BB01")
    assert image.media == {"mimetype": "image/png", "sizeBytes": 7000}
    rows = await opened(wasim, THIRD)
    assert [row["kind"] for row in rows] == ["text", "text", "text", "reaction", "image"]
    assert {(row["group"], row["undecryptable"]) for row in rows} == {(group, 0)}
    own = (await opened(wasim, friend.number))[-1]
    assert own["media"]["sizeBytes"] == 7000


async def test_new_members_can_read_a_group_and_former_members_cannot_write(ours: Party, wasim: Wasim) -> None:
    """The next message takes a change of members into account. In a group that the account has left, WhatsApp's ack
    refuses a message, and once the notification has arrived the bridge refuses it itself.
    """
    for number in (THIRD, FOURTH):
        await wasim.post("/phones", {"number": number})
    group = await group_of(wasim, THIRD, ours.number)
    ours.send("3EB0AA01", group, "hello two")
    await ours.acked("3EB0AA01")
    await wasim.patch(f"/groups/{group}", {"add": [FOURTH]})
    ours.send("3EB0AA02", group, "hello three")
    await ours.acked("3EB0AA02")
    await until_texts(wasim, FOURTH, ["hello three"])  # a retry if it was sent before we knew of the change
    ours.send("3EB0AA03", group, "hello again")
    await ours.acked("3EB0AA03")
    assert [(row["text"], row["undecryptable"]) for row in await opened(wasim, FOURTH)][1:] == [("hello again", 0)]
    assert [row["text"] for row in await opened(wasim, THIRD)] == ["hello two", "hello three", "hello again"]

    def refused() -> list[SendRefused]:
        return ours.recorder.of(SendRefused, ours.link)

    def errors() -> list[str]:
        return [ack.error for ack in ours.acks() if ack.error is not None]

    await wasim.patch(f"/groups/{group}", {"remove": [ours.number]})
    for tried in range(20):
        ours.send(f"3EB0AA1{tried:02}", group, "hello?")
        await ours.recorder.until(lambda: len(refused()) + len(errors()) > tried, what="a refusal")  # noqa: B023
        if refused():
            break
    assert [refusal.code for refusal in refused()] == ["no-such-group"]
    assert set(errors()) <= {"403"}


async def test_a_member_who_lost_its_keys_gets_the_message_again(
    ours: Party, friend: Party, wasim: Wasim, start_host: StartHost
) -> None:
    """It is reported as undecryptable first, then read from the copy that is sent to this device alone."""
    group = await group_of(wasim, ours.number, friend.number)
    ours.send("3EB0AA01", group, "the first one")
    await friend.shown(1)
    friend.store.keys["sender-key"].clear()
    recorder = Recorder()
    async with start_host(recorder) as host:
        await friend.log_in(host=host, recorder=recorder)
        ours.send("3EB0AA02", group, "the second one")
        assert await friend.shown(2) == ["the first one", "the second one"]
    assert {wanted.whatsapp_id for wanted in ours.recorder.of(SentContentRequested)} == {"3EB0AA02"}
    missed = friend.store.undecryptable[0]
    assert (missed.whatsapp_id, missed.chat, missed.sender) == ("3EB0AA02", group, ours.jid)


async def test_a_chat_with_a_hidden_id_works_like_one_with_a_number(ours: Party, friend: Party, wasim: Wasim) -> None:
    """A chat that is known only by LID accepts messages; one that does not exist is refused."""
    lid = next(one["lid"] for one in await wasim.get("/phones") if one["number"] == friend.number)
    ours.send("3EB0AA01", f"{lid.partition('@')[0]}@lid", "hello")
    assert await friend.shown(1) == ["hello"]
    ours.send("3EB0AA02", "999999999@lid", "hello?")
    assert (await ours.recorder.wait(SendRefused, ours.link)).code == "not-on-whatsapp"


async def test_the_recipient_sees_the_typing(ours: Party, wasim: Wasim) -> None:
    """First "composing", then the message, then "paused"; this makes nobody available."""
    await wasim.post("/phones", {"number": THIRD})
    ours.send("3EB0AA01", f"{THIRD}@s.whatsapp.net", "typed", typing_ms=400)

    async def typing() -> dict[str, Any] | None:
        rows = await wasim.get("/phones")
        state: dict[str, Any] | None = next(row for row in rows if row["number"] == THIRD)["typing"]
        return state

    seen = set()
    while not any(ack.whatsapp_id == "3EB0AA01" for ack in ours.acks()):
        if state := await typing():
            seen.add(state["state"])
    assert seen == {"composing"} or seen == {"composing", "paused"}
    state = await typing()
    assert state is not None
    assert state["state"] == "paused"


async def test_a_reach_out_lock_is_reported_with_its_end_time(ours: Party, wasim: Wasim) -> None:
    """Its start, its end time, and that it has ended."""
    await wasim.post("/phones", {"number": THIRD})
    fault = await wasim.fault("reach-out-lock", number=ours.number, seconds=3600)
    ours.send("3EB0AA01", f"{THIRD}@s.whatsapp.net", "hello stranger")
    assert (await ours.acked("3EB0AA01")).error == "463"
    locked = await ours.recorder.wait(NewChatsLocked, ours.link)
    assert locked.active
    assert locked.until_s is not None
    await wasim.delete(f"/faults/{fault['id']}")
    await ours.recorder.until(
        lambda: any(not lock.active for lock in ours.recorder.of(NewChatsLocked, ours.link)), what="the end of the lock"
    )


async def test_a_refusal_without_a_lock_does_not_report_the_end_of_a_lock(ours: Party, wasim: Wasim) -> None:
    """A sender that is refused with 463 and then reads "no lock" would retry at once, forever."""
    await wasim.post("/phones", {"number": THIRD})
    await wasim.fault("ack-error", number=ours.number, code=463, count=1)
    ours.send("3EB0AA01", f"{THIRD}@s.whatsapp.net", "hello stranger")
    assert (await ours.acked("3EB0AA01")).error == "463"
    ours.host.command(Ping(link=ours.link, n=1))
    await ours.recorder.wait(Ponged, ours.link)
    assert ours.recorder.of(NewChatsLocked) == []


async def test_a_message_damaged_in_transit_is_stored_and_read_from_its_second_copy(
    ours: Party, friend: Party, wasim: Wasim
) -> None:
    """It is reported as undecryptable first, then with its text."""
    friend.send("3EB0BB01", ours.jid, "the first one")
    await ours.shown(1)
    ours.send("3EB0AA01", friend.jid, "an answer, so that what comes next begins no session")
    await friend.shown(1)
    await wasim.fault("corrupt", number=ours.number, count=1)
    friend.send("3EB0BB02", ours.jid, "the second one")
    assert await ours.shown(2) == ["the first one", "the second one"]
    assert [missed.whatsapp_id for missed in ours.store.undecryptable] == ["3EB0BB02"]
