"""The order of delayed data."""

from __future__ import annotations

import asyncio

from wasim.delays import DelayLine


async def test_nothing_overtakes() -> None:
    """Items arrive in order whatever their delays are, also after the delay has ended."""
    arrived: asyncio.Queue[int] = asyncio.Queue()
    line = DelayLine(arrived.put_nowait)
    for item, delay_s in enumerate((0.0, 0.02, 0.0, 0.01, 0.0)):
        line.put(item, delay_s=delay_s)
    assert arrived.qsize() == 1
    assert [await arrived.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert line.is_empty


async def test_what_waits_can_be_flushed() -> None:
    """It is passed on at once, and only once."""
    arrived: list[int] = []
    line = DelayLine(arrived.append)
    for item in range(3):
        line.put(item, delay_s=0.001)
    line.flush()
    assert arrived == [0, 1, 2]
    await asyncio.sleep(0.01)
    assert arrived == [0, 1, 2]
