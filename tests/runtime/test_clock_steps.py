"""The wall clock is set while Holdfast runs: everything happens at the moment at which it would have happened
otherwise.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from holdfast.runtime.composer import text_request
from holdfast.session.engine import OperationAnswered, RunOperation
from holdfast.session.operations import Block
from holdfast.session.state import State
from tests.world import COMPANY, NUMBER, World

PERSON = f"{NUMBER}@s.whatsapp.net"

STEPS = [timedelta(days=-3), timedelta(hours=-5), timedelta(hours=5), timedelta(days=3)]
back_and_forward = pytest.mark.parametrize("step", STEPS, ids=["3 days back", "5 h back", "5 h on", "3 days on"])


def jump(world: World, step: timedelta) -> None:
    world.clock.set_wall(world.clock.now() + step)


@back_and_forward
async def test_a_retried_message_is_sent_in_time(world: World, step: timedelta) -> None:
    """A retry that is due in seconds is not delayed for days."""
    async with world.running():
        await world.pair()
        world.engine.ack_error = "503"
        message = await world.send()
        await world.until_sends(1)
        await world.quiet()
        world.engine.ack_error = None
        jump(world, step)
        await world.until_message(message, "sent", within_s=60)


@back_and_forward
async def test_a_message_expires_after_its_number_of_seconds(world: World, step: timedelta) -> None:
    """Not at once, and not days later; a message accepted after the step likewise."""
    async with world.running():
        await world.gateway.put(COMPANY)
        await world.quiet()
        first = await world.now(world.sending.accept(COMPANY, text_request(NUMBER, "first", expires_in_s=600)))
        await world.wait(300)
        jump(world, step)
        second = await world.now(world.sending.accept(COMPANY, text_request("962790000003", "2", expires_in_s=600)))
        world.parts.clock_watch.check()  # as the health monitor does
        await world.wait(290)
        assert (await world.message(first)).state == "queued"
        await world.wait(20)
        assert (await world.message(first)).state == "expired"
        assert (await world.message(second)).state == "queued"
        await world.wait(300)
        assert (await world.message(second)).state == "expired"


async def test_an_operation_is_retried_in_time(world: World) -> None:
    """Not days later, when the clock was set back."""
    async with world.running():
        await world.pair()
        world.engine.operations["block"] = lambda _: OperationAnswered(
            link=0, operation="", step="run", error="rate-limited", code=429, retry_after_s=30
        )
        operation = await world.now(world.operations.accept(COMPANY, Block(jid=PERSON, blocked=True)))
        await world.until(lambda: len(world.commands(RunOperation)) == 1)
        await world.quiet()
        world.engine.operations["block"] = lambda _: {"blocked": True}
        jump(world, timedelta(days=-3))
        world.parts.clock_watch.check()  # as the health monitor does
        settled = await world.now(world.operations.settled(operation, within_s=60), within_s=61)
        assert settled.state == "succeeded"


async def test_an_operation_expires_after_its_number_of_seconds(world: World) -> None:
    """Not at once, when the clock was set forward."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        first = await world.now(world.operations.accept(COMPANY, Block(jid=PERSON, blocked=True), expires_in_s=600))
        await world.wait(300)
        jump(world, timedelta(days=3))
        await world.now(world.operations.accept(COMPANY, Block(jid=PERSON, blocked=False), expires_in_s=600))
        await world.wait(290)
        assert (await world.now(world.operations.find(first.id))).state == "queued"
        await world.wait(20)
        assert (await world.now(world.operations.find(first.id))).state == "expired"


@back_and_forward
async def test_a_ban_ends_on_time(world: World, step: timedelta) -> None:
    """Also when Holdfast restarts after the step: the stored time follows the clock."""
    async with world.running():
        world.engine.drop(await world.pair(), code=402, attributes={"expire": "7200"})
        await world.until(lambda: world.gateway.view(COMPANY).record.state is State.PAUSED)
        await world.wait(60)
        jump(world, step)
        world.parts.clock_watch.check()
        await world.quiet()
        resumes_at = world.gateway.view(COMPANY).record.resumes_at
        assert resumes_at is not None
        left_s = (datetime.fromisoformat(resumes_at) - world.clock.now()).total_seconds()
        assert 7000 < left_s < 8000
    async with world.running():
        await world.wait(7000)
        assert world.gateway.view(COMPANY).record.state is State.PAUSED
        await world.until(lambda: world.gateway.view(COMPANY).record.state is State.CONNECTED, within_s=1000)


async def test_a_clock_set_back_between_two_runs_prolongs_no_ban(world: World) -> None:
    """The session waits at most for the planned time."""
    async with world.running():
        world.engine.drop(await world.pair(), code=402, attributes={"expire": "3600"})
        await world.until(lambda: world.gateway.view(COMPANY).record.state is State.PAUSED)
    jump(world, timedelta(days=-3))
    async with world.running():
        await world.until(lambda: world.gateway.view(COMPANY).record.state is State.CONNECTED, within_s=5000)


async def test_a_clock_that_is_set_while_a_record_is_being_stored_is_stored_too(world: World) -> None:
    """What changed during the write is written by the next one."""
    async with world.running():
        link = await world.pair()
        world.saves.close()
        world.engine.drop(link, code=401)
        await world.quiet()
        jump(world, timedelta(hours=5))
        world.parts.clock_watch.check()
        world.saves.open()
        await world.quiet()
        stored = await world.now(world.sessions.find(COMPANY))
        assert stored is not None
        assert stored.since == world.gateway.view(COMPANY).record.since
