"""The lines that `grep` finds in the live log for Session, Connection and Keep-alive (M30)."""

from __future__ import annotations

import logging
import re

import pytest

from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

_EVENT = re.compile(rf"(Session|Keep-alive) {COMPANY} \S.*")


async def test_each_event_of_a_link_is_one_readable_line(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """From pairing to a link that died silently; ten idle minutes add nothing. No number, no text."""
    caplog.set_level(logging.INFO)
    async with harness.running():
        link = await harness.pair()
        await harness.wait(600)
        calm = list(caplog.messages)
        harness.engine.freeze(link)
        await harness.until_state("reconnecting")
        await harness.until_state("connected")
        await harness.wait(1)
        lines = [line for line in caplog.messages if re.search("Session|Connection|Keep-alive", line)]
    assert all(_EVENT.fullmatch(line) for line in lines), lines
    assert sum("Keep-alive" in line for line in calm) == 1
    *_, missed, lost, back, answered = lines
    assert missed == f"Keep-alive {COMPANY} not answered before the link ended"
    assert lost.startswith(f"Session {COMPANY} connected → reconnecting: WhatsApp no longer answers pings on this link")
    assert back == f"Session {COMPANY} reconnecting → connected"
    assert re.fullmatch(rf"Keep-alive {COMPANY} answered after \d+ ms", answered)


async def test_a_message_that_fails_is_a_line_with_the_reason(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """By its id, without number and text."""
    async with harness.running():
        await harness.pair()
        harness.engine.not_on_whatsapp.add(f"{NUMBER}@s.whatsapp.net")
        message = await harness.send("a secret")
        await harness.until_message(message, "failed")
    line = f"Session {COMPANY}: message {message.id} failed: this number is not on WhatsApp (not-on-whatsapp)"
    assert line in caplog.messages
    assert not [each for each in caplog.messages if "secret" in each or NUMBER in each]
