"""Operations from HTTP to the simulated phones: `holdfast serve` with real Baileys, against wasim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes import Wasim
from tests.served import eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER, ANNA, CEM = "962302", "962790000002", "962790000099", "962790000098"


async def test_a_company_makes_a_group_and_talks_in_it(tmp_path: Path, wasim: Wasim) -> None:
    """The group appears on the phones of its members; who can't be added gets an invitation; a refusal says why."""
    for number in (NUMBER, ANNA, CEM):
        await wasim.post("/phones", {"number": number})
    await wasim.post("/phones", {"number": CEM, "addedBy": "none"})
    path = f"/v1/sessions/{COMPANY}"
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)

        async def done(method: str, route: str, body: dict[str, object]) -> Any:
            ask = gateway.client.post if method == "POST" else gateway.client.patch
            answer = await ask(f"{path}{route}?wait=20", body)
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
