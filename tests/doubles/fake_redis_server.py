"""A Redis in memory for tests: it loses data, fails and hangs on request, in the time of the given clock."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.base.clock import Clock
from holdfast.live.redis_connection import RedisCommand, RedisReply, RedisUnavailable


class FakeServer:
    """A `holdfast.live.redis_connection.Server`. Knows PING, GET, SET with EX, DEL and EXISTS."""

    where = "fake:6379"

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.values: dict[str, str] = {}
        self.lifetimes_s: dict[str, int] = {}
        self.written: list[str] = []
        """Keys in the order in which they were set."""
        self.trouble: str | None = None
        """The error with which it fails; a write may be the first to get it."""
        self.reads_work = False
        self.answers_after_s = 0.0
        self.tries: list[float] = []
        """Times of all requests."""
        self.is_closed = False

    async def ask(self, commands: Sequence[RedisCommand]) -> list[RedisReply]:
        self.tries.append(self._clock.monotonic())
        if self.answers_after_s:
            await self._clock.sleep(self.answers_after_s)
        return [self._carry_out(command) for command in commands]

    async def close(self) -> None:
        self.is_closed = True

    def _carry_out(self, command: RedisCommand) -> RedisReply:
        name, *arguments = map(str, command)
        if self.trouble is not None and not (self.reads_work and name in {"PING", "GET", "EXISTS"}):
            raise RedisUnavailable(self.trouble)
        match name, arguments:
            case "PING", []:
                return True
            case "GET", [key]:
                value = self.values.get(key)
                return None if value is None else value.encode()
            case "SET", [key, value, "EX", lifetime_s]:
                self.values[key], self.lifetimes_s[key] = value, int(lifetime_s)
                self.written.append(key)
                return True
            case "DEL", [key]:
                return int(self.values.pop(key, None) is not None)
            case "EXISTS", keys:
                return sum(key in self.values for key in keys)
            case _:
                raise AssertionError(f"Holdfast has no need of {command}")
