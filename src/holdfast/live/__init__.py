"""Live state: the current state of each session, in Redis and in memory. It contains nothing that can't be rebuilt."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.base.clock import Clock
from holdfast.live.memory import MemoryLive
from holdfast.session.stores import LiveState, LiveStatus


def live_state(
    url: str | None, *, node: str, clock: Clock, changed: Callable[[LiveStatus], None] = lambda status: None
) -> LiveState:
    """In the Redis at `url`; in memory when there is none. Raises `Misconfigured`."""
    if url is None:
        return MemoryLive(node=node, clock=clock)
    # The client of Redis takes a tenth of the imports of `holdfast serve`, and most installations have no Redis.
    from holdfast.live.redis import RedisLive
    from holdfast.live.redis_connection import RedisServer

    return RedisLive(RedisServer(url, clock=clock), node=node, clock=clock, changed=changed)
