"""The contract of live state, in memory and in a real Redis, and what other programs see in that Redis."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.session.stores import Availability
from tests.live_harness import KEY, LOST, OTHER, RECORD, LiveStateHarness, running
from tests.redis_process import RedisProcess, free_port, running_redis

slow = pytest.mark.slow


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    async with running_redis(tmp_path) as process:
        yield process


@pytest.fixture(params=["memory", pytest.param("redis", marks=slow)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LiveStateHarness]:
    async with contextlib.AsyncExitStack() as stack:
        url = None
        if request.param == "redis":
            url = (await stack.enter_async_context(running_redis(tmp_path))).url
        harness = await stack.enter_async_context(running(url))
        if url is not None:
            await harness.next_status(Availability.UP)
        yield harness


# In memory and in Redis.


async def test_a_stored_record_is_returned(harness: LiveStateHarness) -> None:
    """At once, with the documented fields first, whatever was stored before."""
    harness.live.put(LOST)
    harness.live.put(RECORD)
    assert list((await harness.live.get("962302") or {}).items())[:5] == [
        ("state", "connected"),
        ("connectedAt", "2026-11-22T10:56:00.000Z"),
        ("lastActivity", "2026-11-22T10:56:30.000Z"),
        ("phoneNumber", "962790000001"),
        ("reconnectAttempts", 0),
    ]


async def test_an_unknown_session_has_no_record(harness: LiveStateHarness) -> None:
    """The result is None, not an error."""
    assert await harness.live.get("962302") is None


async def test_each_company_has_its_own_record(harness: LiveStateHarness) -> None:
    """A change of one does not affect the others."""
    harness.live.put(RECORD)
    harness.live.put(OTHER)
    harness.live.put(LOST)
    assert await harness.state("962302") == "reconnecting"
    assert await harness.state("962303") == "connected"


async def test_a_removed_session_is_gone_and_may_return(harness: LiveStateHarness) -> None:
    """Removing an unknown session is no error."""
    harness.live.remove("962303")
    harness.live.put(RECORD)
    harness.live.remove("962302")
    assert await harness.live.get("962302") is None
    harness.live.put(LOST)
    assert await harness.state() == "reconnecting"


async def test_hundreds_of_concurrent_reads_are_all_answered(harness: LiveStateHarness) -> None:
    """No caller gets the answer for another session."""
    for number in range(300):
        harness.live.put(replace(RECORD, company=str(number), attempts=number))
    answers = await asyncio.gather(*(harness.live.get(str(number)) for number in range(300)))
    assert [(answer or {})["reconnectAttempts"] for answer in answers] == list(range(300))


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
async def test_before_it_runs_and_after_it_ended_memory_answers(url: str | None) -> None:
    """Callers need not know whether the task that talks to Redis is running."""
    harness = LiveStateHarness(url)
    harness.live.put(RECORD)
    assert await harness.state() == "connected"
    async with running(url) as ended:
        ended.live.put(LOST)
    assert await ended.state() == "reconnecting"


# What others see in Redis.


@slow
async def test_redis_cli_prints_the_record_with_an_hour_to_live(redis: RedisProcess) -> None:
    """`redis-cli get "whatsapp:session:962302"` prints the record as JSON, and Redis has no other keys of ours."""
    async with redis.sets() as sets, running(redis.url) as harness:
        harness.live.put(RECORD)
        assert await anext(sets) == KEY
        printed = await redis.cli("get", "whatsapp:session:962302")
        assert json.loads(printed) == await harness.live.get("962302")
        assert printed.startswith('{"state": "connected", "connectedAt": "2026-11-22T10:56:00.000Z", "lastActivity"')
        assert 3500 < int(await redis.cli("ttl", KEY)) <= 3600
        assert await redis.cli("keys", "*") == KEY


@slow
async def test_a_record_outlives_its_process_and_a_removed_session_does_not(redis: RedisProcess) -> None:
    """The last stored record is in Redis when the process ends, and so is a removal."""
    async with running(redis.url) as harness:
        await harness.next_status(Availability.UP)
        harness.live.put(OTHER)
        harness.live.put(RECORD)
        assert await harness.state() == "connected"
        harness.live.put(LOST)
        harness.live.remove("962303")
    assert json.loads(await redis.cli("get", KEY))["state"] == "reconnecting"
    assert await redis.cli("keys", "*") == KEY


@slow
async def test_processes_see_each_other_s_sessions(redis: RedisProcess) -> None:
    """Each reads what the other stored; when a session moves, both see the new owner's record."""
    async with running(redis.url, node="here") as here, running(redis.url, node="there") as there:
        await here.next_status(Availability.UP)
        await there.next_status(Availability.UP)
        async with redis.sets() as sets:
            here.live.put(RECORD)
            await anext(sets)
            assert (await there.live.get("962302") or {})["node"] == "here"
            here.live.release("962302")
            there.live.put(LOST)
            await anext(sets)
            for harness in (here, there):
                found = await harness.live.get("962302") or {}
                assert (found["node"], found["state"]) == ("there", "reconnecting")


@slow
async def test_another_value_at_the_key_is_overwritten(redis: RedisProcess) -> None:
    """A list in place of the record: reads are answered from memory, and the record overwrites it."""
    async with running(redis.url) as harness:
        await harness.next_status(Availability.UP)
        async with redis.sets() as sets:
            harness.live.put(RECORD)
            await anext(sets)
            await redis.do("DEL", KEY)
            await redis.do("LPUSH", KEY, "something else")
            assert await harness.state() == "connected"
            async with asyncio.timeout(5):
                assert await anext(sets) == KEY
        assert await harness.state() == "connected"
        assert harness.has_no_more


@slow
async def test_an_invalid_value_at_another_sessions_key_is_ignored(redis: RedisProcess) -> None:
    """A list at the key of a session that is not ours: no record, and no reason to doubt Redis."""
    await redis.do("LPUSH", "whatsapp:session:1", "something else")
    await redis.do("SET", "whatsapp:session:2", '{"state": "paused", "node": "there"}')
    async with running(redis.url) as harness:
        await harness.next_status(Availability.UP)
        assert await harness.live.get("1") is None
        assert await harness.state("2") == "paused"
    assert await redis.do("TYPE", "whatsapp:session:1") == "list"


@slow
async def test_a_unix_socket_with_a_password_works(tmp_path: Path) -> None:
    """`unix://` as redis-py takes it, the database behind a question mark."""
    options = ("--unixsocket", str(tmp_path / "redis.sock"), "--requirepass", "p@ss/w?rd#1")
    async with running_redis(tmp_path, *options) as redis:
        redis.password = "p@ss/w?rd#1"
        async with running(f"unix://:p%40ss%2Fw%3Frd%231@{tmp_path}/redis.sock?db=3") as harness:
            await harness.next_status(Availability.UP)
            harness.live.put(RECORD)
        async with redis.operator() as client:
            await client.select(3)
            assert await client.exists(KEY)


@slow
async def test_tls_works_and_an_untrusted_certificate_is_named(tmp_path: Path) -> None:
    """`rediss://` with the certificate of its authority; without it the status says what is wrong."""
    certificate, private_key = _certificate(tmp_path)
    options = ("--tls-cert-file", certificate, "--tls-key-file", private_key, "--tls-auth-clients", "no")
    async with running_redis(tmp_path, *options, "--tls-replication", "no") as redis:
        tls_port = free_port()
        await redis.do("CONFIG", "SET", "tls-port", tls_port)
        async with running(f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificate}") as harness:
            await harness.next_status(Availability.UP)
            harness.live.put(RECORD)
        assert await redis.do("EXISTS", KEY) == 1
        async with running(f"rediss://localhost:{tls_port}/0") as harness:
            assert "certificate is not accepted" in (await harness.next_status(Availability.DOWN)).sentence


def _certificate(folder: Path) -> tuple[str, str]:
    """Create a self-signed certificate for localhost; returns the paths of it and of its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate, key = folder / "redis.crt", folder / "redis.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(certificate), str(key)
