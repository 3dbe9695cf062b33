"""Operations from HTTP to the simulated phones: `holdfast serve` with real Baileys, against wasim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

Done = Callable[[str, str, dict[str, object]], Awaitable[Any]]
COMPANY, NUMBER, ANNA, CEM = "962302", "962790000002", "962790000099", "962790000098"


async def test_operations_take_effect_at_whatsapp(tmp_path: Path, wasim: Wasim) -> None:
    """The group appears on the phones of its members; who can't be added gets an invitation; a refusal says why. The
    account's settings change at WhatsApp; a status and a post in a channel reach those whom they are for."""
    for number in (NUMBER, ANNA, CEM):
        await wasim.post("/phones", {"number": number})
    await wasim.post("/phones", {"number": CEM, "addedBy": "none"})
    saved = {"contact": f"{ANNA}@s.whatsapp.net", "name": "Anna"}
    await wasim.post(f"/phones/{NUMBER}/settings", {"changes": [saved]})
    path = f"/v1/sessions/{COMPANY}"
    async with served(tmp_path, wasim=wasim, NODE_EXTRA_CA_CERTS=wasim.ca) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)

        async def done(method: str, route: str, body: dict[str, object]) -> Any:
            client, address = gateway.client, f"{path}{route}?wait=20"
            match method:
                case "POST":
                    answer = await client.post(address, body)
                case "PATCH":
                    answer = await client.patch(address, body)
                case "PUT":
                    answer = await client.put(address, body)
                case _:
                    answer = await client.delete(address)
            assert answer["state"] == "succeeded", answer
            return answer["result"]

        group = (await done("POST", "/groups", {"subject": "Flowers", "members": [ANNA]}))["id"]
        assert (await done("PATCH", f"/groups/{group}", {"subject": "Bread"})) == {"changed": ["subject"]}
        (row,) = (await done("POST", f"/groups/{group}/members", {"add": [ANNA]}))["add"]
        assert (row["done"], row["whatsappCode"]) == (True, 409)
        refused = await gateway.client.post(f"{path}/groups/{group}/members?wait=20", {"add": [CEM]})
        assert (refused["state"], refused["error"]["code"]) == ("failed", "members-refused")
        assert refused["result"]["add"][0]["inviteCode"]
        await gateway.send(COMPANY, group, "hello group")

        async def shown() -> bool:
            return [row["text"] for row in await wasim.get(f"/phones/{ANNA}/inbox")] == ["hello group"]

        await eventually(shown, within_s=10, what="the message on the phone of a member")
        (seen,) = await wasim.get("/groups")
        assert (seen["subject"], len(seen["members"])) == ("Bread", 2)
        await _change_the_account(gateway, wasim, done)
        await _post(gateway, wasim, done)


async def _change_the_account(gateway: Served, wasim: Wasim, done: Done) -> None:
    """Text, privacy settings and blocked people, as WhatsApp has them afterwards."""
    path = f"/v1/sessions/{COMPANY}"
    await done("PATCH", "/profile", {"about": "Open from 7 to 20"})
    wanted: dict[str, object] = {"lastSeen": "none", "calls": "known"}
    assert await done("PATCH", "/privacy", wanted) == {"changed": ["lastSeen", "calls"]}
    assert await done("POST", f"/contacts/{CEM}/block", {}) == {"blocked": True}
    shown = await gateway.client.get(f"{path}/privacy")
    assert (shown["lastSeen"], shown["calls"], shown["online"]) == ("none", "known", "all")
    assert (await gateway.client.get(f"{path}/blocklist"))["items"] == [{"chat": f"{CEM}@s.whatsapp.net"}]
    assert await done("PUT", f"/contacts/{CEM}", {"name": "Cem the Florist", "firstName": "Cem"}) == {"saved": True}
    assert (await gateway.client.get(f"{path}/contacts/{CEM}"))["name"] == "Cem the Florist"
    saved = (await wasim.get(f"/phones/{NUMBER}/settings"))["contacts"]
    assert saved[f"{CEM}@s.whatsapp.net"] == "Cem the Florist"
    assert await done("DELETE", f"/contacts/{CEM}", {}) == {"saved": False}
    assert f"{CEM}@s.whatsapp.net" not in (await wasim.get(f"/phones/{NUMBER}/settings"))["contacts"]
    (phone,) = [each for each in await wasim.get("/phones") if each["number"] == NUMBER]
    assert (phone["about"], phone["privacy"]["last"], phone["blocked"]) == ("Open from 7 to 20", "none", [CEM])


async def _post(gateway: Served, wasim: Wasim, done: Done) -> None:
    """A status reaches the saved contacts, a text the followers of a channel; elsewhere the account may not post."""
    path = f"/v1/sessions/{COMPANY}"

    async def is_saved() -> bool:
        return any(each["names"]["saved"] == "Anna" for each in (await gateway.client.get(f"{path}/contacts"))["items"])

    await eventually(is_saved, within_s=20, what="the saved contact")
    status = await gateway.send(COMPANY, "status", "fresh bread")
    seen = await gateway.until_message(status["id"], "read", within_s=10)
    assert [each["member"] for each in seen["receipts"]] == [f"{ANNA}@s.whatsapp.net"]
    assert [each["text"] for each in await wasim.get(f"/phones/{ANNA}/inbox")] == ["hello group", "fresh bread"]
    own = await wasim.post("/channels", {"name": "Bread", "owner": ANNA, "admins": [NUMBER]})
    other = await wasim.post("/channels", {"name": "Roses", "owner": ANNA})
    assert await done("POST", f"/channels/{other['id']}/follow", {}) == {"followed": True}
    listed = (await gateway.client.get(f"{path}/channels"))["items"]
    assert [(each["name"], each["role"]) for each in listed] == [("Bread", "admin"), ("Roses", "subscriber")]
    post, refused = [await gateway.send(COMPANY, each["id"], "new bread") for each in (own, other)]
    await gateway.until_message(post["id"], "sent", within_s=10)
    failed = await gateway.until_message(refused["id"], "failed", within_s=10)
    assert "does not allow this account to write to this chat" in failed["error"]["message"]
    posts = {each["name"]: [post["text"] for post in each["posts"]] for each in await wasim.get("/channels")}
    assert posts == {"Bread": ["new bread"], "Roses": []}
