"""Queries to WhatsApp by HTTP: `holdfast serve` with real Baileys, answered by wasim."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from holdfast.client import Refused
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER, PHONE, NOBODY = "962302", "962790000002", "962790000099", "962790000098"
MEMBER = "962790000096"


async def test_queries_are_answered_by_whatsapp(tmp_path: Path, wasim: Wasim) -> None:
    """Which numbers exist, the groups of the account, their members; at WhatsApp's limit queries fail, and no message
    does.
    """
    for number in (NUMBER, PHONE):
        await wasim.post("/phones", {"number": number, "autoRead": False})
    path = f"/v1/sessions/{COMPANY}"
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        client = gateway.client
        checked = (await client.post(f"{path}/contacts/check", {"numbers": [f"+{PHONE}", NOBODY]}))["items"]
        lid = checked[0].pop("lid")
        assert lid.endswith("@lid")
        assert checked == [
            {
                "number": f"+{PHONE}",
                "exists": True,
                "chat": f"{PHONE}@s.whatsapp.net",
                "phoneNumber": PHONE,
                "username": None,
            },
            {"number": NOBODY, "exists": False, **dict.fromkeys(("chat", "phoneNumber", "lid", "username"))},
        ]
        group = str((await wasim.post("/groups", {"subject": "Flowers", "members": [NUMBER, PHONE]}))["id"])
        found = await client.get(f"{path}/groups/{group}")
        assert (found["subject"], found["size"]) == ("Flowers", 2)
        assert {(each["jid"], each["role"]) for each in found["members"]} == {
            (f"{NUMBER}@s.whatsapp.net", "superadmin"),
            (f"{PHONE}@s.whatsapp.net", "member"),
        }
        await _members_of_listed_groups_are_known(gateway, wasim)
        with pytest.raises(Refused, match="there is no such group, or this number is not in it"):
            await client.get(f"{path}/groups/120363999999999999@g.us")
        await wasim.post("/phones", {"number": PHONE, "picture": "https://example.test/picture"})
        assert await client.get(f"{path}/contacts/{PHONE}/picture") == {
            "chat": f"{PHONE}@s.whatsapp.net",
            "url": "https://example.test/picture",
        }
        business = {"description": "Fresh bread", "category": "Bakery", "website": "https://bread.test"}
        await wasim.post("/phones", {"number": PHONE, "about": "Open from 7 to 20", "business": business})
        shown = await client.get(f"{path}/contacts/{PHONE}/about")
        assert (shown["about"], shown["business"]["category"]) == ("Open from 7 to 20", "Bakery")
        assert (shown["business"]["websites"], shown["business"]["address"]) == (["https://bread.test"], None)
        with pytest.raises(Refused, match="there is no picture"):
            await client.get(f"{path}/contacts/{NOBODY}/picture")
        await client.post(f"{path}/chats/{PHONE}/typing", {"state": "composing"})
        await eventually(partial(_shows, wasim, "composing"), within_s=5, what="typing on the phone")
        for to in (NUMBER, group):
            await wasim.post(f"/phones/{PHONE}/send", {"to": to, "text": "read me"})

        async def both() -> bool:
            return len(await gateway.inbox(COMPANY)) == 2

        await eventually(both, within_s=10, what="two messages")
        for chat, to in ((PHONE, NUMBER), (group, group)):
            assert (await client.post(f"{path}/chats/{chat}/read?wait=10"))["result"] == {"messages": 1}
            await eventually(partial(_is_read, wasim, to), within_s=5, what=f"a read receipt from {chat}")
        first = await gateway.send(COMPANY, PHONE, "before")
        await gateway.until_message(first["id"], "delivered", "read", within_s=10)
        await wasim.fault("query-error", xmlns="usync", code=429)
        with pytest.raises(Refused, match="WhatsApp currently answers no queries"):
            await client.post(f"{path}/contacts/check", {"numbers": ["962790000097"]})
        during = await gateway.send(COMPANY, PHONE, "during")
        await gateway.until_message(during["id"], "delivered", "read", within_s=10)


async def _members_of_listed_groups_are_known(gateway: Served, wasim: Wasim) -> None:
    """The list of groups shows which number and hidden id belong to one person, without a query about either."""
    lid = str((await wasim.post("/phones", {"number": MEMBER}))["lid"])
    await wasim.post("/groups", {"subject": "Bread", "members": [NUMBER, MEMBER]})
    listed = (await gateway.client.get(f"/v1/sessions/{COMPANY}/groups"))["items"]
    assert {(each["subject"], each["size"]) for each in listed} == {("Flowers", 2), ("Bread", 2)}

    async def is_known() -> bool:
        people = (await gateway.client.get(f"/v1/sessions/{COMPANY}/contacts"))["items"]
        return (MEMBER, lid) in {(each["phoneNumber"], each["lid"]) for each in people}

    await eventually(is_known, within_s=10, what="the member of a listed group among the contacts")


async def _shows(wasim: Wasim, state: str) -> bool:
    """Whether the phone shows that the company's number writes to it."""
    (typing,) = [phone["typing"] for phone in await wasim.get("/phones") if phone["number"] == PHONE]
    return typing is not None and (typing["from"], typing["state"]) == (NUMBER, state)


async def _is_read(wasim: Wasim, to: str) -> bool:
    """Whether what the phone sent there was read."""
    messages = await wasim.get("/messages", **{"from": PHONE, "to": to})
    return [message["receipts"]["read"] for message in messages] == [1]
