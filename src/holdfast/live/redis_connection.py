"""One Redis server: sends commands and returns replies in bounded time. The only module that uses the client library.

Each command is sent once: the library's own ten retries would take seconds. A connection on which an error occurred is
not reused, so that a late reply can't be mistaken for the reply to another command.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from holdfast.base.clock import Clock
from holdfast.base.errors import BadSetting
from holdfast.live.redis_errors import describe_error

SETTING = "HOLDFAST_REDIS_URL"

_ANSWER_S = 0.2
"""For connecting, and for each answer."""
_BATCH_S = 0.5
"""For connecting and all answers of a batch."""

RedisCommand = tuple[str | int, ...]
RedisReply = object
"""Text as bytes, numbers as int, nothing as None; a key that holds no text reads as empty text."""


class RedisUnavailable(Exception):
    """Redis did not execute a command; the text explains the cause to an operator."""


class RedisConnection(Protocol):
    @property
    def where(self) -> str:
        """For people; host and port, or the path of a socket. Never user or password."""

    async def ask(self, commands: Sequence[RedisCommand]) -> list[RedisReply]:
        """Carry out all, in this order. Raises `RedisUnavailable`: then any number of them may have been carried
        out."""

    async def close(self) -> None: ...


class RedisServer:
    def __init__(self, url: str, *, clock: Clock) -> None:
        """Connects at the first use. Raises `BadSetting` when `url` is not a valid Redis URL."""
        _refuse_ambiguous(url)
        self._clock = clock
        try:
            self._client = _client(url)
            self.where = _where(self._client)
        except Exception:  # noqa: BLE001 – whatever the library stumbles over is in the URL
            raise _invalid("it is not a valid Redis URL") from None  # the cause repeats the URL

    async def ask(self, commands: Sequence[RedisCommand]) -> list[RedisReply]:
        try:
            return await self._ask(commands)
        except Exception as error:
            await self._hang_up()
            raise RedisUnavailable(describe_error(error)) from error

    async def close(self) -> None:
        await self._hang_up()

    async def _ask(self, commands: Sequence[RedisCommand]) -> list[RedisReply]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        async with self._clock.until(self._clock.monotonic() + _BATCH_S), _heeding_cancellation():
            return [_checked(answer) for answer in await pipeline.execute(raise_on_error=False)]
        raise TimeoutError

    async def _hang_up(self) -> None:
        try:
            await self._client.connection_pool.disconnect()
        except exceptions.TimeoutError:
            return  # the close took too long: the socket is closed anyway


@contextlib.asynccontextmanager
async def _heeding_cancellation() -> AsyncIterator[None]:
    """The library sends by `asyncio.wait_for`, which before Python 3.12 can lose a cancellation."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


def _checked(answer: RedisReply) -> RedisReply:
    if not isinstance(answer, Exception):
        return answer
    if str(answer).startswith("WRONGTYPE"):
        return b""
    raise answer


def _client(url: str) -> Redis:
    client = Redis.from_url(
        url,
        socket_connect_timeout=_ANSWER_S,
        socket_timeout=_ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # no HELLO, nothing pushed: one round trip less before the first answer
        driver_info=None,
    )
    # It says now what it doesn't like about the URL; the library doesn't annotate it.
    connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    if isinstance(connection, SSLConnection):
        connection.ssl_context.get()
    return client


def _where(client: Redis) -> str:
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _refuse_ambiguous(url: str) -> None:
    """Refuse URLs that the library would silently misinterpret, for example a part of the password as the host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid("it is not a URL") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise _invalid("it must begin with redis://, rediss:// or unix://")
    if parts.fragment or "@" in parts.query or (parts.scheme != "unix" and "@" in parts.path):
        raise _invalid('in user and password write "@", "/", "?" and "#" as %40, %2F, %3F and %23')
    if not _is_complete_path(parts):
        raise _invalid('behind the host only the number of a database may follow, as in "/0"')


def _is_complete_path(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return len(parts.path) > 1
    number = parts.path.removeprefix("/")
    return not number or number.isdecimal()


def _invalid(what: str) -> BadSetting:
    return BadSetting(
        f"{SETTING} (hidden) can't be used: {what}; give redis://127.0.0.1:6379/0, or leave it out to keep "
        "live state in memory",
        field=SETTING,
    )
