"""Requests during the start, before an engine host runs and the sessions are loaded."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.base.errors import NotFound
from holdfast.runtime.composer import text_request
from holdfast.runtime.errors import SessionRestarting
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness


async def test_a_message_is_accepted_before_an_engine_host_is_up_and_sent_later(harness: GatewayHarness) -> None:
    """Its row is written at once; the session sends it when its link is open."""
    async with harness.running():
        await harness.pair()
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        message = await harness.send("early")
        assert message.state == "queued"
        assert not gateway.is_ready
        harness.host_starts.open()
        assert (await harness.until_message(message, "sent")).state == "sent"


async def test_before_the_sessions_are_loaded_a_company_is_looked_up_in_the_database(harness: GatewayHarness) -> None:
    """A known company is shown from its record and can't be controlled yet; an unknown one is not found."""
    async with harness.running():
        await harness.pair()
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        assert (await harness.now(gateway.cluster_view(COMPANY))).record.phone_number is not None
        with pytest.raises(SessionRestarting):
            await harness.now(gateway.actor(COMPANY))
        with pytest.raises(NotFound):
            await harness.now(harness.messages.accept("962999", text_request(NUMBER, "x")))


async def test_callers_wait_for_the_sessions_for_a_bounded_time(harness: GatewayHarness) -> None:
    """True as soon as the gateway is ready, False when it takes longer than the caller waits."""
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        assert not await harness.now(gateway.wait_until_ready(within_s=3))
        waiting = asyncio.ensure_future(gateway.wait_until_ready(within_s=60))
        await harness.quiet()
        assert not waiting.done()
        harness.host_starts.open()
        assert await waiting
        assert await gateway.wait_until_ready(within_s=0)
