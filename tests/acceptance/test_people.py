"""One person is one chat: `holdfast serve` with real Baileys against wasim, from HTTP to the phone's screen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from holdfast.client import Json, Refused
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER = "962302", "962790000002"
PERSON, NINE = "551187654321", "5511987654321"
HIDDEN = "962790000099"
DAY_TIMER = "YgYQAyCAowU="
"""A `ProtocolMessage` of the type `EPHEMERAL_SETTING`: messages of the chat disappear after a day."""
IN_2100 = 4_102_444_800
"""A time in the future counts as the time of the message."""
CHAT = f"{PERSON}@s.whatsapp.net"


async def test_one_person_is_one_chat_under_every_name(tmp_path: Path, wasim: Wasim) -> None:
    """Six spellings and the hidden id: the phone shows one order, also across a kill before the first is sent; the chat
    can be answered under any of them; what the owner reads on the phone is read here. A person who hides the number is
    written to and answered by hidden id and username.
    """
    await wasim.post("/phones", {"number": NUMBER})
    lid = str((await wasim.post("/phones", {"number": PERSON, "name": "Customer"}))["lid"])
    hidden = await wasim.post("/phones", {"number": HIDDEN, "name": "Nour", "username": "nour.k", "hidesNumber": True})
    spellings = [NINE, PERSON, "+55 11 98765-4321", f"{PERSON}@c.us", f"{NINE}:2@s.whatsapp.net", "+55 (0)11 8765 4321"]
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        await gateway.client.post(f"/v1/sessions/{COMPANY}/stop")
        for n, to in enumerate([*spellings[:3], lid]):
            await gateway.send(COMPANY, to, str(n))
        await gateway.kill()
        await gateway.start()
        await wasim.post(f"/phones/{PERSON}/send", {"to": NUMBER, "text": "hello"})
        await gateway.client.post(f"/v1/sessions/{COMPANY}/start")
        for n, to in enumerate([*spellings[3:], lid], start=4):
            await gateway.send(COMPANY, to, str(n))
        await eventually(partial(_has_come, wasim, PERSON, 8), within_s=20, what="eight messages on the phone")
        texts = [each["text"] for each in await wasim.get(f"/phones/{PERSON}/inbox")]
        assert [each for each in texts if each != "3"] == ["0", "1", "2", "4", "5", "6", "7"]
        (item,) = [each for each in await gateway.inbox(COMPANY) if each["text"] == "hello"]
        assert item["chat"] == CHAT
        assert (await gateway.client.get(f"/v1/sessions/{COMPANY}/chats/{lid}"))["unread"] == 1
        await wasim.post(f"/phones/{NUMBER}/read", {"id": item["whatsappId"]})
        await eventually(partial(_is_read, gateway, PERSON), within_s=10, what="the chat that was read on the phone")
        for to in (NINE, lid):
            answer: Json = await gateway.client.post(
                f"/v1/sessions/{COMPANY}/messages", {"to": to, "text": "answer", "replyTo": item["id"]}
            )
            await gateway.until_message(answer["id"], "delivered", "read", within_s=10)
        assert {each["chat"] for each in await gateway.messages(COMPANY)} == {CHAT}
        await _write_to_the_hidden(gateway, wasim, str(hidden["lid"]))
        await _write_what_disappears(gateway, wasim)


async def _write_to_the_hidden(gateway: Served, wasim: Wasim, lid: str) -> None:
    first = await gateway.send(COMPANY, "@Nour.K", "by username")
    await gateway.until_message(first["id"], "delivered", "read", within_s=10)
    await wasim.post(f"/phones/{HIDDEN}/send", {"to": NUMBER, "text": "who is this?"})

    async def arrived() -> Json | None:
        found = [each for each in await gateway.inbox(COMPANY) if each["text"] == "who is this?"]
        return found[0] if found else None

    item = await eventually(arrived, within_s=10, what="the answer")
    assert (item["chat"], item["sender"]) == (lid, lid)
    body = {"to": lid, "text": "Layla's Flowers", "replyTo": item["id"]}
    reply: Json = await gateway.client.post(f"/v1/sessions/{COMPANY}/messages", body)
    await gateway.until_message(reply["id"], "delivered", "read", within_s=10)
    contact: Json = await gateway.client.get(f"/v1/sessions/{COMPANY}/contacts/{lid}")
    assert (contact["chat"], contact["phoneNumber"], contact["names"]["username"]) == (lid, None, "nour.k")
    with pytest.raises(Refused, match="is not the username of anybody on WhatsApp"):
        await gateway.send(COMPANY, "@nobody.at.all", "x")


async def _write_what_disappears(gateway: Served, wasim: Wasim) -> None:
    """Timers that a person or a group sets apply to the account's messages."""
    await wasim.post(f"/phones/{PERSON}/send", {"to": NUMBER, "payload": DAY_TIMER})
    group: Json = await wasim.post("/groups", {"subject": "Short-lived", "members": [NUMBER, PERSON]})
    address = f"/v1/sessions/{COMPANY}/groups/{group['id']}"
    changed: Json = await gateway.client.patch(f"{address}?wait=10", {"disappearingS": 604_800})
    assert changed["state"] == "succeeded"
    for to, seconds in ((PERSON, 86_400), (group["id"], 604_800)):
        sent = await gateway.send(COMPANY, to, "gone soon")
        await gateway.until_message(sent["id"], "delivered", "read", within_s=10)
        (shown,) = [each for each in await wasim.get(f"/phones/{PERSON}/inbox") if each["id"] == sent["whatsappId"]]
        assert shown["disappearsAfterS"] == seconds
    await _follow_the_timer(gateway, wasim)


async def _follow_the_timer(gateway: Served, wasim: Wasim) -> None:
    """A message contains its chat's timer and when it was set: the latest setting counts, here one day."""
    for timer_s, set_at_s, seconds in ((604_800, 1, 86_400), (604_800, IN_2100, 604_800), (0, IN_2100, None)):
        body = {"to": NUMBER, "text": f"{timer_s}", "disappearsAfterS": timer_s, "timerSetAtS": set_at_s}
        told = await wasim.post(f"/phones/{PERSON}/send", body)
        await eventually(partial(_has_arrived, gateway, told["id"]), within_s=10, what="the message with the timer")
        chat: Json = await gateway.client.get(f"/v1/sessions/{COMPANY}/chats/{PERSON}")
        assert chat["disappearingS"] == seconds
        sent = await gateway.send(COMPANY, PERSON, "gone later")
        await gateway.until_message(sent["id"], "delivered", "read", within_s=10)
        (shown,) = [each for each in await wasim.get(f"/phones/{PERSON}/inbox") if each["id"] == sent["whatsappId"]]
        assert shown["disappearsAfterS"] == seconds


async def _has_arrived(gateway: Served, whatsapp_id: str) -> bool:
    return any(each["whatsappId"] == whatsapp_id for each in await gateway.inbox(COMPANY))


async def _is_read(gateway: Served, chat: str) -> bool:
    found: Json = await gateway.client.get(f"/v1/sessions/{COMPANY}/chats/{chat}")
    return bool(found["unread"] == 0)


async def _has_come(wasim: Wasim, number: str, count: int) -> bool:
    return len(await wasim.get(f"/phones/{number}/inbox")) >= count
