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
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

PERSON = f"{NUMBER}@s.whatsapp.net"

STEPS = [timedelta(days=-3), timedelta(hours=-5), timedelta(hours=5), timedelta(days=3)]
back_and_forward = pytest.mark.parametrize("step", STEPS, ids=["3 days back", "5 h back", "5 h on", "3 days on"])


def jump(harness: GatewayHarness, step: timedelta) -> None:
    harness.clock.set_wall(harness.clock.now() + step)


@back_and_forward
async def test_a_retried_message_is_sent_in_time(harness: GatewayHarness, step: timedelta) -> None:
    """A retry that is due in seconds is not delayed for days."""
    async with harness.running():
        await harness.pair()
        harness.engine.ack_error = "503"
        message = await harness.send()
        await harness.until_sends(1)
        await harness.quiet()
        harness.engine.ack_error = None
        jump(harness, step)
        await harness.until_message(message, "sent", within_s=60)


@back_and_forward
async def test_a_message_expires_after_its_number_of_seconds(harness: GatewayHarness, step: timedelta) -> None:
    """Not at once, and not days later; a message accepted after the step likewise."""
    async with harness.running():
        await harness.gateway.put(COMPANY)
        await harness.quiet()
        first = await harness.now(harness.messages.accept(COMPANY, text_request(NUMBER, "first", expires_in_s=600)))
        await harness.wait(300)
        jump(harness, step)
        second = await harness.now(
            harness.messages.accept(COMPANY, text_request("962790000003", "2", expires_in_s=600))
        )
        harness.services.clock_watch.check()  # as the health monitor does
        await harness.wait(290)
        assert (await harness.message(first)).state == "queued"
        await harness.wait(20)
        assert (await harness.message(first)).state == "expired"
        assert (await harness.message(second)).state == "queued"
        await harness.wait(300)
        assert (await harness.message(second)).state == "expired"


async def test_an_operation_is_retried_in_time(harness: GatewayHarness) -> None:
    """Not days later, when the clock was set back."""
    async with harness.running():
        await harness.pair()
        harness.engine.operations["block"] = lambda _: OperationAnswered(
            link=0, operation="", step="run", error="rate-limited", code=429, retry_after_s=30
        )
        operation = await harness.now(harness.operations.accept(COMPANY, Block(jid=PERSON, blocked=True)))
        await harness.until(lambda: len(harness.commands(RunOperation)) == 1)
        await harness.quiet()
        harness.engine.operations["block"] = lambda _: {"blocked": True}
        jump(harness, timedelta(days=-3))
        harness.services.clock_watch.check()  # as the health monitor does
        settled = await harness.now(harness.operations.settled(operation, within_s=60), within_s=61)
        assert settled.state == "succeeded"


async def test_an_operation_expires_after_its_number_of_seconds(harness: GatewayHarness) -> None:
    """Not at once, when the clock was set forward."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        first = await harness.now(harness.operations.accept(COMPANY, Block(jid=PERSON, blocked=True), expires_in_s=600))
        await harness.wait(300)
        jump(harness, timedelta(days=3))
        await harness.now(harness.operations.accept(COMPANY, Block(jid=PERSON, blocked=False), expires_in_s=600))
        await harness.wait(290)
        assert (await harness.now(harness.operations.find(first.id))).state == "queued"
        await harness.wait(20)
        assert (await harness.now(harness.operations.find(first.id))).state == "expired"


@back_and_forward
async def test_a_ban_ends_on_time(harness: GatewayHarness, step: timedelta) -> None:
    """Also when Holdfast restarts after the step: the stored time follows the clock."""
    async with harness.running():
        harness.engine.drop(await harness.pair(), code=402, attributes={"expire": "7200"})
        await harness.until(lambda: harness.gateway.view(COMPANY).record.state is State.PAUSED)
        await harness.wait(60)
        jump(harness, step)
        harness.services.clock_watch.check()
        await harness.quiet()
        resumes_at = harness.gateway.view(COMPANY).record.resumes_at
        assert resumes_at is not None
        left_s = (datetime.fromisoformat(resumes_at) - harness.clock.now()).total_seconds()
        assert 7000 < left_s < 8000
    async with harness.running():
        await harness.wait(7000)
        assert harness.gateway.view(COMPANY).record.state is State.PAUSED
        await harness.until(lambda: harness.gateway.view(COMPANY).record.state is State.CONNECTED, within_s=1000)


async def test_a_clock_set_back_between_two_runs_prolongs_no_ban(harness: GatewayHarness) -> None:
    """The session waits at most for the planned time."""
    async with harness.running():
        harness.engine.drop(await harness.pair(), code=402, attributes={"expire": "3600"})
        await harness.until(lambda: harness.gateway.view(COMPANY).record.state is State.PAUSED)
    jump(harness, timedelta(days=-3))
    async with harness.running():
        await harness.until(lambda: harness.gateway.view(COMPANY).record.state is State.CONNECTED, within_s=5000)


async def test_a_clock_that_is_set_while_a_record_is_being_stored_is_stored_too(harness: GatewayHarness) -> None:
    """What changed during the write is written by the next one."""
    async with harness.running():
        link = await harness.pair()
        harness.saves.close()
        harness.engine.drop(link, code=401)
        await harness.quiet()
        jump(harness, timedelta(hours=5))
        harness.services.clock_watch.check()
        harness.saves.open()
        await harness.quiet()
        stored = await harness.now(harness.sessions.find(COMPANY))
        assert stored is not None
        assert stored.since == harness.gateway.view(COMPANY).record.since
