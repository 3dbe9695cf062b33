"""A tenant gets what the operator allows, and the time of the next attempt; usage is measured rarely."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import fields

import pytest

from holdfast.base.errors import BadInput
from holdfast.delivery.media import MB
from holdfast.delivery.usage import OutboxUsage
from holdfast.runtime.quotas import REMEASURE_S, DiskFull, QuotaExceeded, QuotaLimits, Quotas
from tests.doubles.fake_clock import FakeClock

COMPANY, OTHER = "962302", "962303"


class StoredUsage:
    """Stored amounts that a test sets; counts the measurements."""

    def __init__(self) -> None:
        self.messages = self.size = self.media = self.measured = 0

    async def outbox(self, company: str) -> OutboxUsage:
        if company == OTHER:
            return OutboxUsage(messages=0, bytes=0)
        self.measured += 1
        return OutboxUsage(messages=self.messages, bytes=self.size)

    async def media_bytes(self, company: str) -> int:
        return self.media


class Trial:
    def __init__(self, **limits: int) -> None:
        self.clock = FakeClock()
        self.usage = StoredUsage()
        self.free = 10_000 * MB
        self.quotas = Quotas(QuotaLimits(**limits), self.usage, clock=self.clock, free_disk_bytes=lambda: self.free)

    async def accept(self, company: str, size: int) -> None:
        async with self.quotas.message(company, size):
            pass

    def pass_time(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.monotonic() + seconds)


def test_requests_of_a_key_are_limited_per_minute() -> None:
    """The next one is refused with the seconds to wait, and accepted after them; other keys are not affected."""
    trial = Trial(requests_per_minute=60)
    for _ in range(60):
        trial.quotas.check_request("a", writes=False)
    with pytest.raises(QuotaExceeded, match="more than 60 requests a minute") as refused:
        trial.quotas.check_request("a", writes=False)
    assert refused.value.retry_after_s == 1
    trial.quotas.check_request("b", writes=False)
    trial.pass_time(refused.value.retry_after_s)
    trial.quotas.check_request("a", writes=False)


def test_with_little_free_disk_space_a_tenant_can_only_read() -> None:
    """Free space is checked at most once a second; when there is enough again, writes continue."""
    trial = Trial(free_disk_bytes=1024 * MB)
    trial.quotas.check_request("a", writes=True)
    trial.free = 1023 * MB
    trial.pass_time(1)
    trial.quotas.check_request("a", writes=False)
    with pytest.raises(DiskFull, match="1023 MB left, and below 1024 MB only a key for all companies"):
        trial.quotas.check_request("a", writes=True)
    trial.free = 2048 * MB
    trial.pass_time(1)
    trial.quotas.check_request("a", writes=True)


def test_open_requests_of_a_key_are_limited() -> None:
    """One that is answered frees its place; other keys have their own limit."""
    trial = Trial(open_requests=2)
    with trial.quotas.request("a"):
        with trial.quotas.request("a"), pytest.raises(QuotaExceeded, match="has 2 requests open"):
            trial.quotas.request("a").__enter__()
        with trial.quotas.request("a"), trial.quotas.request("b"):
            pass


def test_open_streams_of_a_key_are_limited() -> None:
    """A closed stream frees its place; other keys have their own limit."""
    trial = Trial(streams=2)
    with trial.quotas.stream("a"):
        with trial.quotas.stream("a"), pytest.raises(QuotaExceeded, match="has 2 event streams open"):
            trial.quotas.stream("a").__enter__()
        with trial.quotas.stream("a"), trial.quotas.stream("b"):
            pass


@pytest.mark.parametrize(("limits", "size"), [({"outbox_messages": 3}, 1), ({"outbox_bytes": 3 * MB}, MB)])
async def test_messages_are_refused_while_the_outbox_is_full(limits: dict[str, int], size: int) -> None:
    """It is measured when the estimate reaches the quota, and not again before the stated time."""
    trial = Trial(**{"outbox_messages": 0, "outbox_bytes": 0, **limits})
    for _ in range(3):
        await trial.accept(COMPANY, size)
    assert trial.usage.measured == 1
    trial.usage.messages, trial.usage.size = 3, 3 * MB
    for _ in range(5):
        with pytest.raises(QuotaExceeded, match="wait until messages are sent") as refused:
            await trial.accept(COMPANY, size)
    assert (trial.usage.measured, refused.value.retry_after_s) == (1, REMEASURE_S)
    await trial.accept(OTHER, size)
    trial.usage.messages, trial.usage.size = 0, 0
    trial.pass_time(REMEASURE_S)
    await trial.accept(COMPANY, size)


async def test_a_message_that_is_refused_for_another_reason_does_not_count() -> None:
    """Otherwise refused requests would use up the quota."""
    trial = Trial(outbox_messages=1)
    for _ in range(3):
        with pytest.raises(BadInput):
            async with trial.quotas.message(COMPANY, 1):
                raise BadInput("to is missing")
    await trial.accept(COMPANY, 1)


async def test_uploads_in_progress_count_against_the_media_quota() -> None:
    """Concurrent uploads can't exceed it together."""
    trial = Trial(media_bytes=100 * MB)
    trial.usage.media = 30 * MB
    async with trial.quotas.media(COMPANY, 60 * MB):
        with pytest.raises(QuotaExceeded, match="has 30 MB of media stored, and may have 100 MB"):
            await trial.quotas.media(COMPANY, 60 * MB).__aenter__()
        async with trial.quotas.media(OTHER, 60 * MB):
            pass
    async with trial.quotas.media(COMPANY, 60 * MB):
        pass


async def test_quotas_can_be_switched_off() -> None:
    """0 means no limit."""
    trial = Trial(**{limit.name: 0 for limit in fields(QuotaLimits)})
    trial.free = 0
    for _ in range(5000):
        trial.quotas.check_request("a", writes=True)
        await trial.accept(COMPANY, MB)
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(trial.quotas.request("a"))
            stack.enter_context(trial.quotas.stream("a"))
        async with trial.quotas.media(COMPANY, 1 << 60):
            pass
