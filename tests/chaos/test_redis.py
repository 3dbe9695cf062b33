"""Failures of a real Redis. In each one the sessions continue, one log line says so, and everything is written back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.live.encoding import key
from holdfast.session.stores import Availability
from tests.live_harness import KEY, LOST, OTHER, RECORD, LiveStateHarness, running
from tests.redis_process import RedisProcess, free_port, running_redis

pytestmark = pytest.mark.slow

SECRET = "hunter2"
NOWHERE = ("127.0.0.1", 1)
"""Nothing listens there."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    async with running_redis(tmp_path) as process:
        yield process


@pytest.fixture
async def harness(redis: RedisProcess) -> AsyncIterator[LiveStateHarness]:
    """Running, with RECORD and OTHER in Redis."""
    async with running(redis.url) as made:
        made.live.put(RECORD)
        made.live.put(OTHER)
        await made.next_status(Availability.UP)
        yield made


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def said(logged: pytest.LogCaptureFixture) -> list[str]:
    """Levels and beginnings of the lines logged during the test, without those of its fixtures."""
    lines = [line for line in logged.records if line.name.startswith(("holdfast", "redis"))]
    assert all(line.getMessage().startswith("Connection to Redis at ") for line in lines)
    return [f"{line.levelname} {line.getMessage().split(' is ')[1].split()[0].strip(':;')}" for line in lines]


ONCE_EACH = ["WARNING gone", "INFO back"]


async def stored(redis: RedisProcess, company: str = "962302") -> object:
    """The state that is in Redis."""
    text = await redis.do("GET", key(company))
    return json.loads(str(text))["state"] if text is not None else None


async def test_killed_and_started_again_empty(
    redis: RedisProcess, harness: LiveStateHarness, logged: pytest.LogCaptureFixture
) -> None:
    """`kill -9` is noticed without a change of a session; old records and changes in the meantime are written back."""
    await redis.kill()
    assert "can't be reached (Connection refused)" in (await harness.next_status(Availability.DOWN)).sentence
    harness.live.put(LOST)
    assert await harness.state() == "reconnecting"
    assert await harness.state("962303") == "connected"
    await redis.start()
    await harness.next_status(Availability.UP)
    assert (await stored(redis), await stored(redis, "962303")) == ("reconnecting", "connected")
    assert said(logged) == ONCE_EACH


async def test_frozen_and_thawed(
    redis: RedisProcess, harness: LiveStateHarness, logged: pytest.LogCaptureFixture
) -> None:
    """For a Redis that accepts connections and never answers, records from before are replaced when it works again."""
    redis.freeze()
    harness.live.put(LOST)
    assert "it does not answer" in (await harness.next_status(Availability.DOWN)).sentence
    assert await harness.state() == "reconnecting"
    harness.live.put(RECORD)
    assert await harness.state() == "connected"
    redis.thaw()
    await harness.next_status(Availability.UP)
    assert await stored(redis) == "connected"
    assert said(logged) == ONCE_EACH


async def test_turned_into_a_replica_of_a_dead_primary(
    redis: RedisProcess, harness: LiveStateHarness, logged: pytest.LogCaptureFixture
) -> None:
    """A Redis that answers but accepts no writes counts as unavailable. Its address may point to another server by
    then, so each attempt opens a new connection."""
    before = await redis.clients()
    await redis.do("REPLICAOF", *NOWHERE)
    harness.live.put(LOST)
    assert "read-only replica" in (await harness.next_status(Availability.DOWN)).sentence
    assert await harness.state() == "reconnecting"
    await redis.do("REPLICAOF", "NO", "ONE")
    await harness.next_status(Availability.UP)
    assert not before & await redis.clients()
    assert await stored(redis) == "reconnecting"
    assert said(logged) == ONCE_EACH


async def test_full(redis: RedisProcess, harness: LiveStateHarness, logged: pytest.LogCaptureFixture) -> None:
    """maxmemory with noeviction: no write succeeds until there is space."""
    await redis.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)
    harness.live.put(LOST)
    assert "it is full" in (await harness.next_status(Availability.DOWN)).sentence
    assert await harness.state() == "reconnecting"
    await redis.do("CONFIG", "SET", "maxmemory", 0)
    await harness.next_status(Availability.UP)
    assert await stored(redis) == "reconnecting"
    assert said(logged) == ONCE_EACH


async def test_unable_to_save_to_its_disk(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    """MISCONF: after a failed snapshot Redis accepts no writes."""
    folder = tmp_path / "gone"
    folder.mkdir()
    async with running_redis(folder) as redis, running(redis.url) as harness:
        await harness.next_status(Availability.UP)
        logged.clear()
        await redis.do("CONFIG", "SET", "save", "3600 1")
        shutil.rmtree(folder)
        await redis.do("BGSAVE")
        await redis.logs("Background saving error")
        harness.live.put(LOST)
        assert "can't save to its disk" in (await harness.next_status(Availability.DOWN)).sentence
        await redis.do("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        await harness.next_status(Availability.UP)
        assert await stored(redis) == "reconnecting"
    assert said(logged) == ONCE_EACH


async def test_emptied(redis: RedisProcess, harness: LiveStateHarness, logged: pytest.LogCaptureFixture) -> None:
    """FLUSHALL: every session's record is back within seconds, although no session changed. The log has a line about
    it, and Redis does not count as unavailable."""
    async with redis.sets() as sets:
        await redis.do("FLUSHALL")
        async with asyncio.timeout(5):
            assert {await anext(sets), await anext(sets)} == {KEY, key("962303")}
    assert harness.has_no_more
    assert said(logged) == ["WARNING up,"]


async def test_started_after_us(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    """If Redis is missing at the start, sessions are shown from memory, and written when Redis is available."""
    redis = RedisProcess(tmp_path)
    async with running(redis.url) as harness:
        harness.live.put(RECORD)
        assert await harness.state() == "connected"
        await harness.next_status(Availability.DOWN)
        await redis.start()
        try:
            await harness.next_status(Availability.UP)
            assert await stored(redis) == "connected"
        finally:
            await redis.end()
    assert said(logged) == ONCE_EACH


@pytest.mark.parametrize(
    ("login", "told"), [(f":{SECRET}@", "refuses user or password"), ("", "requires a password")], ids=["wrong", "none"]
)
async def test_another_password(tmp_path: Path, login: str, told: str, logged: pytest.LogCaptureFixture) -> None:
    """The log names the setting, but not the password, until Redis accepts the login."""
    async with running_redis(tmp_path, "--requirepass", "another") as redis:
        redis.password = "another"
        async with running(f"redis://{login}127.0.0.1:{redis.port}/0") as harness:
            harness.live.put(RECORD)
            status = await harness.next_status(Availability.DOWN)
            assert told in status.sentence
            assert "HOLDFAST_REDIS_URL" in status.sentence
            assert await harness.state() == "connected"
            await redis.do("CONFIG", "SET", "requirepass", SECRET if login else "")
            redis.password = SECRET if login else None
            await harness.next_status(Availability.UP)
            assert await stored(redis) == "connected"
    assert said(logged) == ONCE_EACH
    assert SECRET not in logged.text


@contextlib.asynccontextmanager
async def listener(greeting: bytes) -> AsyncIterator[str]:
    """A server that accepts connections, greets, and never answers; returns its URL."""
    ended = asyncio.Event()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await ended.wait()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(greet, "127.0.0.1", port):
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"
        ended.set()


@pytest.mark.parametrize(
    ("greeting", "told"),
    [(b"", "it does not answer"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the Redis protocol")],
    ids=["black hole", "a web server"],
)
async def test_a_server_that_is_not_redis(greeting: bytes, told: str, logged: pytest.LogCaptureFixture) -> None:
    """A server that never answers, or speaks another protocol, counts as unavailable."""
    async with listener(greeting) as url, running(url) as harness:
        harness.live.put(RECORD)
        assert told in (await harness.next_status(Availability.DOWN)).sentence
        harness.live.put(LOST)
        assert await harness.state() == "reconnecting"
        assert harness.has_no_more
    assert said(logged) == ["WARNING gone"]
    assert SECRET not in logged.text
