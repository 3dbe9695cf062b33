"""The order of delayed data."""

from __future__ import annotations

import asyncio

from wasim.delays import DelayQueue


async def test_items_keep_their_order() -> None:
    """Items arrive in order, whatever the delay of each is."""
    arrived: asyncio.Queue[int] = asyncio.Queue()
    queue = DelayQueue(arrived.put_nowait)
    for item, delay_s in enumerate((0.0, 0.02, 0.0, 0.01, 0.0)):
        queue.put(item, delay_s=delay_s)
    assert arrived.qsize() == 1
    assert [await arrived.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert queue.is_empty


async def test_waiting_items_can_be_flushed() -> None:
    """Each is passed on at once, and only once."""
    arrived: list[int] = []
    queue = DelayQueue(arrived.append)
    for item in range(3):
        queue.put(item, delay_s=0.001)
    queue.flush()
    assert arrived == [0, 1, 2]
    await asyncio.sleep(0.01)
    assert arrived == [0, 1, 2]
