"""A graceful stop under load, and an upgrade: accepted messages arrive once, and nobody scans a QR code again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import URL, Connection, create_engine, inspect

from holdfast.store.migrate import migrate
from tests.mail import COMPANIES, CONTACT, Mail
from tests.processes import Wasim
from tests.served import Served, served

pytestmark = pytest.mark.slow

MESSAGES = 120
STOPPED_WITHIN_S = 10.0
BACK_WITHIN_S = 20.0


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    """Two companies with linked phones, and a contact."""
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim) as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        yield gateway


async def _ask(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url):
        pass  # whatever the answer is, its connection is released


@contextlib.asynccontextmanager
async def lingering_callers(gateway: Served) -> AsyncIterator[None]:
    """One reads events forever, one waits for a QR code, one never completes its request."""
    url, key = gateway.settings_of_commands["HOLDFAST_URL"], gateway.settings_of_commands["HOLDFAST_API_KEY"]
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /v1/sessions/962302/messages HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 99\r\n\r\n{{"
    async with (
        aiohttp.ClientSession(headers={"X-API-Key": key}) as http,
        http.get(f"{url}/v1/events"),
        asyncio.TaskGroup() as tasks,
    ):
        async with http.put(f"{url}/v1/sessions/962399"):
            pass
        asking = tasks.create_task(_ask(http, f"{url}/v1/sessions/962399/qr"))
        _, dawdling = await asyncio.open_connection(host, int(port))
        dawdling.write(head.encode())
        await dawdling.drain()
        yield
        dawdling.close()
        asking.cancel()


async def test_a_stop_under_load_is_graceful_and_loses_nothing(gateway: Served, wasim: Wasim) -> None:
    """SIGTERM during messages in both directions, with one frozen link and callers that keep their connections open:
    exit code 0 within ten seconds and no process left; after the next start each accepted message has arrived once,
    readable, in order. WhatsApp sees the links closed: the next ones replace none (440).
    """
    mail = Mail(gateway, wasim)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(mail.post(MESSAGES))
        await mail.until_requested(MESSAGES // 3)
        frozen = await wasim.fault("freeze", number=COMPANIES["962302"])
        async with lingering_callers(gateway):
            await mail.until_requested(MESSAGES // 2)
            under_way, begun = mail.asked - await mail.delivered(), time.monotonic()
            code = await gateway.stop()
            took_s = time.monotonic() - begun
        left = gateway.processes()
        links = [link["number"] for link in await wasim.get("/links") if not link["frozen"]]
        await wasim.delete(f"/faults/{frozen['id']}")
        await gateway.start()
    print(f"stopped in {took_s:.2f} s with {under_way} messages under way")  # noqa: T201
    assert (code, left, links) == (0, [], [])
    assert took_s < STOPPED_WITHIN_S
    assert under_way > 0, "a stop without load shows nothing"
    await mail.until_arrived(within_s=60)
    await mail.check()
    assert not gateway.log_lines("(440)"), "the new links replaced old ones that were still open"


async def test_an_upgrade_keeps_linked_phones_and_accepted_messages(gateway: Served, wasim: Wasim) -> None:
    """A data folder as the first version would have left it: this version migrates it, connects, and sends the waiting
    messages.
    """
    refusal = await wasim.fault("refuse")
    await wasim.fault("cut")
    waiting = [await gateway.send(company, CONTACT, f"from before, {company}") for company in COMPANIES]
    await gateway.stop()
    await asyncio.to_thread(make_first_version, gateway.database)
    await wasim.delete(f"/faults/{refusal['id']}")
    await gateway.start()
    for message in waiting:
        await gateway.until_message(message["id"], "delivered", "read", within_s=BACK_WITHIN_S)
    texts = [item["text"] for item in await wasim.get(f"/phones/{CONTACT}/inbox")]
    assert sorted(texts) == [f"from before, {company}" for company in COMPANIES]
    assert not gateway.log_lines("Session", "→ pairing", "962302")[1:], "nobody scanned again"


def make_first_version(path: Path) -> None:
    """Copy sessions, keys and waiting messages into the tables and columns of the first version."""
    old = path.with_name("first.db")
    engine = create_engine(URL.create("sqlite", database=str(old)))
    with engine.connect() as connection:
        migrate(connection, "the first version", to="0001")
        connection.commit()
        copies = _copies(connection, path)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.execute("ATTACH ? AS new", (str(path),))
        for copy in copies:
            database.execute(copy)
        database.commit()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    old.rename(path)


def _copies(first: Connection, newer: Path) -> list[str]:
    """One statement per table, for the columns that both have. The migration fills the new ones."""
    engine = create_engine(URL.create("sqlite", database=str(newer)))
    with engine.connect() as connection:
        new = inspect(connection)
        tables = {name: {column["name"] for column in new.get_columns(name)} for name in new.get_table_names()}
    engine.dispose()
    known = inspect(first)
    shared = {
        name: [column["name"] for column in known.get_columns(name) if column["name"] in tables[name]]
        for name in known.get_table_names()
        if name in tables and name != "alembic_version"
    }
    return [
        f"INSERT INTO {name} ({', '.join(names)}) SELECT {', '.join(names)} FROM new.{name}"
        for name, names in shared.items()
    ]
