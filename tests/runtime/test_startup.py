"""Requests during the start, before an engine host runs and the sessions are loaded."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.base.errors import NotFound
from holdfast.runtime.composer import text_request
from holdfast.runtime.errors import SessionRestarting
from tests.world import COMPANY, NUMBER, World


async def test_a_message_is_accepted_before_an_engine_host_is_up_and_sent_later(world: World) -> None:
    """Its row is written at once; the session sends it when its link is open."""
    async with world.running():
        await world.pair()
    world.host_starts.close()
    async with world.running(until_ready=False) as gateway:
        message = await world.send("early")
        assert message.state == "queued"
        assert not gateway.is_ready
        world.host_starts.open()
        assert (await world.until_message(message, "sent")).state == "sent"


async def test_before_the_sessions_are_loaded_a_company_is_looked_up_in_the_database(world: World) -> None:
    """A known company is shown from its record and can't be controlled yet; an unknown one is not found."""
    async with world.running():
        await world.pair()
    world.host_starts.close()
    async with world.running(until_ready=False) as gateway:
        assert (await world.now(gateway.cluster_view(COMPANY))).record.phone_number is not None
        with pytest.raises(SessionRestarting):
            await world.now(gateway.actor(COMPANY))
        with pytest.raises(NotFound):
            await world.now(world.sending.accept("962999", text_request(NUMBER, "x")))


async def test_callers_wait_for_the_sessions_for_a_bounded_time(world: World) -> None:
    """True as soon as the gateway is ready, False when it takes longer than the caller waits."""
    world.host_starts.close()
    async with world.running(until_ready=False) as gateway:
        assert not await world.now(gateway.wait_until_ready(at_most_s=3))
        waiting = asyncio.ensure_future(gateway.wait_until_ready(at_most_s=60))
        await world.quiet()
        assert not waiting.done()
        world.host_starts.open()
        assert await waiting
        assert await gateway.wait_until_ready(at_most_s=0)
