"""Messages and operations that another process stored for a session of this one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.runtime.gateway import Gateway
from holdfast.session import events
from holdfast.session.stores import WaitingWork
from holdfast.store.database import Work
from tests.contract.rows import draft
from tests.gateway_harness import COMPANY, GatewayHarness


async def test_a_message_that_another_process_accepted_is_sent(harness: GatewayHarness) -> None:
    """Also one with a lower number than those already seen, because it was committed later. No message is sent
    twice.
    """
    async with harness.running() as gateway:
        await harness.pair()
        first = await harness.send("first")
        await harness.until_message(first, "sent")
        await harness.now(harness.outbox.accept(draft(7)))
        await harness.now(
            harness.database.write(
                lambda connection: connection.exec_driver_sql("UPDATE outbox SET seq = -seq WHERE seq > 1")
            )
        )
        await harness.wait(5)
        assert [text for _, text in harness.sends()] == ["first"]
        for _ in range(3):
            gateway.work_waits(COMPANY)
            await harness.wait(1)
        assert [text for _, text in harness.sends()] == ["first", "message 7"]


async def test_a_check_for_work_of_other_processes_writes_nothing(
    harness: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster checks each second, for each company with queued messages. When hundreds of sessions are disconnected,
    the writes of these checks would delay every accept.
    """
    async with harness.running() as gateway:
        await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        await harness.now(harness.outbox.accept(replace(draft(7), expires_at="2100-01-01T00:00:00.000Z")))
        await harness.quiet()
        writes: list[object] = []
        original = harness.database.write

        def noted(work: Work[object], **options: Any) -> Awaitable[object]:
            writes.append(work)
            return original(work, **options)

        monkeypatch.setattr(harness.database, "write", noted)
        for _ in range(3):
            gateway.work_waits(COMPANY)
            await harness.quiet()
        assert writes == []


async def test_a_disconnected_session_reads_only_about_new_work(
    harness: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connected one at each check: another process may have cancelled the message for which others wait."""
    reads: list[object] = []
    original = harness.database.read

    def noted(work: Work[object]) -> Awaitable[object]:
        reads.append(work)
        return original(work)

    async def reads_at(gateway: Gateway, waiting: WaitingWork) -> bool:
        reads.clear()
        gateway.work_waits(COMPANY, waiting)
        await harness.quiet()
        return bool(reads)

    one, two = (WaitingWork(newest_message=n, newest_operation=None) for n in (1, 2))
    operation = replace(two, newest_operation=1)
    async with harness.running() as gateway:
        await harness.pair()
        monkeypatch.setattr(harness.database, "read", noted)
        assert [await reads_at(gateway, one) for _ in range(3)] == [True, True, True]
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        await harness.quiet()
        assert [await reads_at(gateway, each) for each in (one, two, two, operation, operation)] == [
            False,
            True,
            False,
            True,
            False,
        ]


async def test_the_owner_is_woken_for_work_that_another_process_stored(harness: GatewayHarness) -> None:
    """For messages and operations, at once; where the session runs here, no wake-up is needed."""
    woken: list[str] = []
    async with harness.running() as gateway:
        await harness.pair()
        meanwhile = Gateway(replace(harness.services, wake_owner=woken.append))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(meanwhile.run(ready=lambda: None))
            await harness.now(harness.database.write(lambda connection: connection.exec_driver_sql("SELECT 1")))
            meanwhile.operations_wait(COMPANY)
            await harness.now(meanwhile.accept(draft(7)))
            running.cancel()
        assert woken == [COMPANY, COMPANY]
        assert harness.sends() == []
        gateway.work_waits(COMPANY)
        await harness.until_sends(1)
        assert woken == [COMPANY, COMPANY]
