"""Pairing codes that real Baileys requests from WhatsApp."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast.client import Json, Refused
from tests.processes import Wasim
from tests.served import served

pytestmark = pytest.mark.slow

COMPANY, REFUSED, LIMITED, NUMBER = "962302", "962790000001", "962790000002", "962790000003"


async def test_a_code_that_whatsapp_refuses_is_an_error_with_its_cause(wasim: Wasim, tmp_path: Path) -> None:
    """Three are requested at the same time: two are refused, each for its own reason, and the third one links its
    phone.
    """
    for number in (REFUSED, LIMITED, NUMBER):
        await wasim.post("/phones", {"number": number})
    refusal = {"xmlns": "md", "tag": "link_code_companion_reg"}
    await wasim.fault("query-error", number=REFUSED, code=400, **refusal)
    await wasim.fault("query-error", number=LIMITED, code=429, **refusal)
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.client.put(f"/v1/sessions/{COMPANY}")

        async def ask(number: str) -> Json | Refused:
            try:
                path = f"/v1/sessions/{COMPANY}/pairing-code"
                shown: Json = await gateway.client.post(path, {"phoneNumber": number})
            except Refused as error:
                return error
            return shown

        refused, limited, shown = await asyncio.gather(ask(REFUSED), ask(LIMITED), ask(NUMBER))
        assert isinstance(refused, Refused)
        assert (refused.status, "400 bad-request" in refused.sentence) == (502, True)
        assert isinstance(limited, Refused)
        assert (limited.status, "wait for an hour" in limited.sentence) == (502, True)
        assert not isinstance(shown, Refused)
        await wasim.post(f"/phones/{NUMBER}/code", {"code": shown["code"]})
        await gateway.until_state(COMPANY, "connected", within_s=20)
