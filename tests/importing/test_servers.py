"""Sources on servers: a real PostgreSQL and a real Redis, which are not changed."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from holdfast.importing.device import ImportedDevice
from tests import peer_stores as stores
from tests.backup_service import credentials
from tests.importing.test_sources import KEYS, TEXTS, read, refused
from tests.postgres_process import PostgresProcess
from tests.redis_process import RedisProcess, running_redis

pytestmark = pytest.mark.slow

PHONE = "+962790000001"


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    async with running_redis(tmp_path) as process:
        yield process


@pytest.fixture
def evolution_folder(tmp_path: Path) -> Path:
    """The folder `instances`, with keys only."""
    keys = {name: text for name, text in TEXTS.items() if name != "creds.json"}
    return stores.rested(stores.folder(tmp_path / "instances" / stores.INSTANCE, keys)).parent


def whole(imported: ImportedDevice) -> bool:
    keys = {(key.type, key.id) for key in imported.device.keys}
    return keys == KEYS and json.loads(imported.device.credentials) == credentials()


def dumped(url: str) -> bytes:
    """The output of pg_dump for a database; its first and last lines name a key of that run."""
    out = subprocess.run(["pg_dump", url], capture_output=True, check=True).stdout
    return b"\n".join(line for line in out.splitlines() if not line.startswith(b"\\"))


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


# PostgreSQL.


def test_evolution_in_postgresql_with_keys_in_a_folder(postgres: PostgresProcess, evolution_folder: Path) -> None:
    """Without CACHE_REDIS_ENABLED, in the schema in the URL or in the one that has the tables."""
    url = stores.evolution_postgres(postgres.new_database(), "shop", TEXTS)
    before = dumped(url)
    for address in (f"{url}?schema=evolution_api&connection_limit=5", url):
        for keys in (evolution_folder, evolution_folder / stores.INSTANCE):
            assert whole(read("evolution", address, keys=str(keys), wanted="shop"))
    assert dumped(url) == before
    assert not read("evolution", url, keys="none").device.keys
    assert "name the place of the Signal keys with --keys" in refused("evolution", url)
    assert "can't be read: No such file" in refused("evolution", url, keys=str(evolution_folder / "nowhere"))


async def test_evolution_in_postgresql_with_keys_in_redis(postgres: PostgresProcess, redis: RedisProcess) -> None:
    """With CACHE_REDIS_ENABLED, whatever the prefix is."""
    url = stores.evolution_postgres(postgres.new_database(), "shop", TEXTS)
    assert 'has no keys of instance "shop"' in refused("evolution", url, keys=redis.url)
    stores.evolution_redis(redis.url, TEXTS, with_credentials=False)
    before = stores.dump(redis.url)
    assert whole(read("evolution", url, keys=redis.url))
    assert stores.dump(redis.url) == before


def test_evolution_sources_are_refused_with_a_reason(postgres: PostgresProcess, evolution_folder: Path) -> None:
    """In use, of another kind, truncated, never linked, logged out, of another program."""
    url = stores.evolution_postgres(postgres.new_database(), "shop", TEXTS)
    for statement, said in [
        ('UPDATE "Instance" SET "connectionStatus" = \'open\'', "the table Instance says connectionStatus=open"),
        (
            'UPDATE "Instance" SET "connectionStatus" = \'close\', "updatedAt" = \'2026-11-27 23:59:50\'',
            "its row in the table Instance was written 10 s ago",
        ),
        (
            'UPDATE "Instance" SET integration = \'WHATSAPP-BUSINESS\', "updatedAt" = NULL',
            "of the kind WHATSAPP-BUSINESS, which has no linked device",
        ),
        ('UPDATE "Instance" SET integration = NULL', ""),
        ('UPDATE "Session" SET creds = left(creds, 400)', "ends too early, half-written"),
        ('UPDATE "Session" SET creds = \'"{}"\'', "lacks noiseKey"),
        ('DELETE FROM "Session"', "has no credentials: it was never linked, or it was logged out"),
        ('DROP TABLE "Session"', "has no tables Instance and Session: it is not a database of Evolution API 2"),
    ]:
        change(f"{url}?options=-csearch_path%3Devolution_api", statement)
        if said:
            assert said in refused("evolution", url, keys=str(evolution_folder)), statement


def test_waha_in_postgresql(postgres: PostgresProcess) -> None:
    """One database for each session: found through any database of the server, or named itself. Damaged data is refused
    with a reason.
    """
    server = stores.waha_postgres(postgres.new_database(), "shop", TEXTS)
    own = f"{server.rsplit('/', 1)[0]}/waha_noweb_shop"
    change(server, "CREATE DATABASE waha_gows_other")
    change(f"{server.rsplit('/', 1)[0]}/waha_gows_other", "CREATE TABLE whatsmeow_device (jid text)")
    try:
        before = dumped(own)
        assert '"other" (engine gows), "shop" (engine noweb)' in refused("waha", server)
        assert whole(read("waha", server, wanted="shop"))
        assert whole(read("waha", own))
        assert dumped(own) == before
        assert "is of WAHA's engine GOWS" in refused("waha", server, wanted="other")
        with psycopg.connect(own, application_name="WAHA(NOWEB) 2026.7.2 - Session/Auth"):
            assert "WAHA(NOWEB) 2026.7.2 - Session/Auth" in refused("waha", server, wanted="shop")
            assert "WAHA(NOWEB) 2026.7.2 - Session/Auth from 127.0.0.1 is connected" in refused("waha", own)
            assert whole(read("waha", own, force=True))
        change(own, """UPDATE auth SET data = '{"id": "pre-key-1", "data": {}}' WHERE id = 'pre-key-1'""")
        assert "1 damaged key: pre-key-1 holds no key pair" in refused("waha", own)
        change(own, "UPDATE auth SET data = left(data, 300) WHERE id = 'creds'")
        assert "ends too early, half-written" in refused("waha", server, wanted="shop", skip_damaged=True)
    finally:
        for name in ("waha_noweb", "waha_noweb_shop", "waha_gows_other"):
            change(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_jsonb_in_the_table_of_forks(postgres: PostgresProcess) -> None:
    """PostgreSQL changes the order of members, and bytes are stored as numbers."""
    url = postgres.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE waha_auth (session_id TEXT, key TEXT, value JSONB, PRIMARY KEY (session_id, key))"
        )
        rows = [("shop", name, text) for name, text in stores.fields_of(TEXTS).items()]
        connection.cursor().executemany("INSERT INTO waha_auth VALUES (%s, %s, %s)", rows)
    assert whole(read("waha", url))


def test_openwa_in_postgresql(postgres: PostgresProcess) -> None:
    """Its lease is a sign of use until it expires, and so is another client of the database. Damaged data is refused
    with a reason.
    """
    url = stores.openwa_postgres(postgres.new_database(), "shop", TEXTS)
    before = dumped(url)
    assert whole(read("openwa", url))
    assert dumped(url) == before
    with psycopg.connect(url):
        assert "without a name from 127.0.0.1 is connected to PostgreSQL database" in refused("openwa", url)
    change(url, "UPDATE sessions SET \"nodeId\" = 'n1', \"leaseExpiresAt\" = '2026-11-28 00:00:01'")
    assert 'the process "n1" of OpenWA holds the lease on it' in refused("openwa", url)
    change(url, 'UPDATE sessions SET "nodeId" = NULL')
    change(url, "UPDATE baileys_auth_state SET value = '{}' WHERE \"keyType\" = 'pre-key'")
    assert "1 damaged key: pre-key-1 holds no key pair" in refused("openwa", url)
    change(url, "UPDATE baileys_auth_state SET value = left(value, 300) WHERE \"keyType\" = 'creds'")
    assert "ends too early, half-written" in refused("openwa", url, skip_damaged=True)


def test_a_wrong_password_is_reported_without_showing_it(postgres: PostgresProcess) -> None:
    """The error has the server's message."""
    sentence = refused("openwa", postgres.url().replace("p%40ss%3Aw%2Frd", "gehe%40im"))
    assert "password authentication failed" in sentence
    assert "gehe" not in sentence


# Redis.


async def test_evolution_in_redis(redis: RedisProcess) -> None:
    """With CACHE_REDIS_SAVE_INSTANCES: everything, serialised twice; a Node client is a sign of use. Damaged data is
    refused with a reason.
    """
    url = stores.evolution_redis(redis.url, TEXTS)
    before = stores.dump(url)
    assert whole(read("evolution", url))
    assert whole(read("evolution", url, wanted=stores.INSTANCE))
    assert stores.dump(url) == before
    with contextlib.closing(Redis.from_url(url, driver_info=None, client_name="evolution")) as client:
        client.ping()
        assert "evolution from 127.0.0.1" in refused("evolution", url)
    await redis.do("HSET", f"evolution-cache:instance:{stores.INSTANCE}", "pre-key-1", json.dumps("{}"))
    assert "1 damaged key: pre-key-1 holds no key pair" in refused("evolution", url)
    cut_off = json.dumps(TEXTS["creds.json"])[:300]
    await redis.do("HSET", f"evolution-cache:instance:{stores.INSTANCE}", "creds", cut_off)
    assert "half-written" in refused("evolution", url, skip_damaged=True)


async def test_baileys_api_in_redis(redis: RedisProcess) -> None:
    """A lease, a heartbeat and a connection are signs of use; the program's own entries are left out."""
    url = stores.baileys_api_redis(redis.url, PHONE, TEXTS)
    before = stores.dump(url)
    imported = read("baileys-api", url, wanted=PHONE.removeprefix("+"))
    assert (whole(imported), imported.ignored) == (True, ("metadata",))
    assert stores.dump(url) == before
    for key, said in [
        (f"@baileys-api:cluster:lease:{PHONE}", "holds the lease on it"),
        ("@baileys-api:cluster:instance:host-1", "the process host-1 of baileys-api is alive"),
    ]:
        await redis.do("SET", key, '{"owner":"host-1"}', "PX", 60_000)
        assert said in refused("baileys-api", url)
        await redis.do("DEL", key)
    with contextlib.closing(Redis.from_url(url, client_name="baileys-api")) as client:
        client.ping()
        assert "baileys-api is connected from 127.0.0.1" in refused("baileys-api", url)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"creds": json.dumps(credentials())[:200]}, "ends too early, half-written"),
        ({"creds": b"\xff\xfe"}, "is not text (byte 0)"),
        ({"creds": ""}, "is empty (0 bytes)"),
        ({"metadata": "{}"}, "has no credentials: it was never linked, or it was logged out"),
        ({"creds": json.dumps({**credentials(), "me": None})}, "belongs to a device that was never linked"),
        ({"creds": json.dumps(credentials()), "pre-key-1": b"\0"}, "1 damaged key: pre-key-1 is empty"),
        ({"creds": json.dumps(credentials()), "pre-key-1": "x" * (64 * 1024 * 1024 + 1)}, "entries with "),
    ],
)
async def test_damaged_hashes_are_refused(redis: RedisProcess, fields: dict[Any, Any], said: str) -> None:
    """Before anything large is read."""
    with contextlib.closing(Redis.from_url(redis.url)) as client:
        client.hset(f"@baileys-api:connections:{PHONE}:authState", mapping=fields)
    assert said in refused("baileys-api", redis.url)


async def test_a_refusal_of_redis_is_reported(tmp_path: Path) -> None:
    """The error has Redis' message, without the password."""
    async with running_redis(tmp_path, "--requirepass", "geheim") as redis:
        redis.password = "geheim"
        assert "Authentication required" in refused("baileys-api", redis.url)
        wrong = redis.url.replace("redis://", "redis://:falsch@")
        assert "falsch" not in refused("baileys-api", wrong)
        right = redis.url.replace("redis://", "redis://:geheim@")
        assert "holds no session" in refused("baileys-api", right)
