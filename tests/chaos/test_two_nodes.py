"""Two `holdfast serve` on one PostgreSQL: each session runs once, whatever happens to one of them.

`FROZEN_S=60` in front of the command sets how long the freeze lasts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from holdfast.base.errors import HoldfastError
from holdfast.client import Json, Refused
from tests.postgres_process import PostgresProcess
from tests.processes import Wasim
from tests.redis_process import RedisProcess, running_redis
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANIES = {f"9623{number:02}": f"9627900000{number:02}" for number in range(12)}
FIRST, SECOND = list(COMPANIES)[:6], list(COMPANIES)[6:]
"""Sessions created at one node and at the other."""
CONTACT = "962790000099"
TAKEN_OVER_WITHIN_S = 15.0
HANDED_OVER_WITHIN_S = 10.0
"""Five seconds of it wait for the stopped node to return."""
FROZEN_S = float(os.environ.get("FROZEN_S", "12"))
WATCHED_S = 6.0
"""Seconds after waking up: a process that assumed it still owned its sessions would start links within a second."""

_AUDIT = """
CREATE TABLE audit (at timestamptz DEFAULT clock_timestamp(), node text, what text, company_id text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit (node, what, company_id)
  VALUES (current_setting('application_name'), TG_TABLE_NAME, NEW.company_id);
  RETURN NEW;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON credentials FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT OR UPDATE ON signal_keys FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT OR UPDATE ON quarantine FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT OR UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION note();
"""
"""An audit of all writes, by the application name of each node."""


@dataclass(slots=True)
class Cluster:
    a: Served
    b: Served
    wasim: Wasim
    postgres: PostgresProcess
    url: str

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return self.postgres.rows(self.url, statement)

    def nodes(self) -> dict[str, str]:
        return {str(company): str(node) for company, node in self.rows("SELECT company_id, node FROM leases")}

    def epochs(self) -> dict[str, int]:
        return {str(company): int(str(epoch)) for company, epoch in self.rows("SELECT company_id, epoch FROM leases")}

    async def open_links(self) -> list[str]:
        """The numbers that have a link at WhatsApp, one entry for each link."""
        return sorted(link["number"] for link in await self.wasim.get("/links") if link["state"] == "open")

    async def until_connected_by(self, node: Served, name: str, *, within_s: float) -> float:
        """Wait until every session has one link and is connected according to this node; returns the seconds it
        took."""
        began_at = asyncio.get_running_loop().time()

        async def look() -> bool:
            sessions: list[Json] = [session async for session in node.client.items("/v1/sessions")]
            seen["sessions"] = sorted({(str(session["state"]), str(session["node"])) for session in sessions})
            seen["links"] = await self.open_links()
            return seen == {"sessions": [("connected", name)], "links": sorted(COMPANIES.values())}

        seen: dict[str, object] = {}
        try:
            await eventually(look, within_s=within_s, what=f"every session connected once, by {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {seen}; {node.log_tail()}") from None
        return asyncio.get_running_loop().time() - began_at


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    folder = tmp_path / "redis"
    folder.mkdir()
    async with running_redis(folder) as process:
        yield process


@pytest.fixture
async def cluster(
    tmp_path: Path, wasim: Wasim, redis: RedisProcess, postgres: PostgresProcess
) -> AsyncIterator[Cluster]:
    """Twelve linked sessions, six run by each of two nodes."""
    url = postgres.new_migrated()
    with postgres.operator(url) as connection:
        connection.execute(_AUDIT.encode())
    await wasim.post("/phones", {"number": CONTACT})
    async with _node(tmp_path, "a", url, wasim, redis) as a, _node(tmp_path, "b", url, wasim, redis) as b:
        made = Cluster(a, b, wasim, postgres, url)
        # All at once: were one node far ahead of the other, it would give sessions away.
        await asyncio.gather(
            *(a.pair(company, COMPANIES[company], wasim) for company in FIRST),
            *(b.pair(company, COMPANIES[company], wasim) for company in SECOND),
        )
        yield made


@asynccontextmanager
async def _node(folder: Path, name: str, url: str, wasim: Wasim, redis: RedisProcess) -> AsyncIterator[Served]:
    settings = {
        "HOLDFAST_NODE": name,
        "HOLDFAST_DATABASE_URL": f"{url}?application_name={name}",
        "HOLDFAST_REDIS_URL": redis.url,
    }
    (folder / name).mkdir()
    async with served(folder / name, wasim=wasim, **settings) as node:
        yield node


class MessageStream:
    """Messages of all companies to one contact, accepted by either node."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.texts: list[str] = []
        self.answered: list[Json] = []

    @asynccontextmanager
    async def flowing(self, *nodes: Served) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(self._write(node)) for node in nodes]
            try:
                yield
            finally:
                for task in writing:
                    task.cancel()

    async def _write(self, node: Served) -> None:
        """Send one every 0.1 s; an unanswered request is repeated with the same key."""
        while node.up.is_set():
            company, text = list(COMPANIES)[len(self.texts) % len(COMPANIES)], f"message {len(self.texts):04}"
            self.texts.append(text)
            answer: Json | None = None
            while answer is None and node.up.is_set():
                answer = await self._ask(node, company, text)
                await asyncio.sleep(0.1)
            if answer is not None:
                self.answered.append(answer)

    async def _ask(self, node: Served, company: str, text: str) -> Json | None:
        try:
            async with asyncio.timeout(2):
                return await node.send(company, CONTACT, text, key=text)
        except (HoldfastError, TimeoutError, aiohttp.ClientError):
            return None  # the node is killed, frozen, or without its database

    async def until_arrived_once(self) -> None:
        """Each message answered with 202 is on the contact's phone, once and readable."""
        due = {answer["whatsappId"] for answer in self.answered}

        async def look() -> bool:
            messages = await self._cluster.wasim.get(f"/phones/{CONTACT}/inbox")
            return due <= {message["id"] for message in messages}

        await eventually(look, within_s=30, what="the arrival of every message")
        messages = await self._cluster.wasim.get(f"/phones/{CONTACT}/inbox")
        texts = [message["text"] for message in messages]
        assert len(texts) == len(set(texts)), "a message came twice"
        assert not any(message["undecryptable"] for message in messages)
        signal = {phone["number"]: phone["signal"] for phone in await self._cluster.wasim.get("/phones")}
        assert not any(counts["reusedKeys"] for counts in signal.values())


async def test_two_nodes_run_each_session_once_when_either_is_killed_or_stopped(cluster: Cluster) -> None:
    """Each session is connected once; any node accepts messages for any session and says who runs it. After `kill -9`
    of one node the other connects all within fifteen seconds, and accepted messages arrive once. Restarted, it takes no
    session away, and gets all at once when the other stops in order."""
    a, b = cluster.a, cluster.b
    assert cluster.nodes() == {company: "a" if company in FIRST else "b" for company in COMPANIES}
    assert await cluster.open_links() == sorted(COMPANIES.values())
    await _check_forwarding(cluster)
    logins = (await cluster.wasim.get("/stats"))["logins"]
    messages = MessageStream(cluster)
    async with messages.flowing(a, b):
        await asyncio.sleep(3)
        await a.kill()
        took_s = await cluster.until_connected_by(b, "b", within_s=TAKEN_OVER_WITHIN_S)
    print(f"taken over after kill -9: {len(FIRST)} sessions in {took_s:.1f} s")  # noqa: T201
    await messages.until_arrived_once()
    assert (await cluster.wasim.get("/stats"))["logins"] == logins + len(FIRST)
    assert not a.processes(), "an engine host lives on"
    await a.start()
    await cluster.until_connected_by(a, "b", within_s=1)
    await b.stop()
    took_s = await cluster.until_connected_by(a, "a", within_s=HANDED_OVER_WITHIN_S)
    print(f"handed over by a stop: {len(COMPANIES)} sessions in {took_s:.1f} s")  # noqa: T201
    assert (await cluster.wasim.get("/stats"))["logins"] == logins + len(FIRST) + len(COMPANIES)


async def _check_forwarding(cluster: Cluster) -> None:
    """Requests that only a session's owner can answer work at the other node: actions, evidence, settings."""
    client, company = cluster.b.client, FIRST[0]
    session = await client.get(f"/v1/sessions/{company}")
    assert (session["state"], session["node"]) == ("connected", "a")
    assert (await client.get(f"/webhook/whatsapp/baileys/health/{company}"))["status"] == "healthy"
    assert (await client.get(f"/webhook/whatsapp/baileys/diagnostics/{company}"))["status"] == "healthy"
    assert (await client.put(f"/v1/sessions/{company}", {"label": "Bakery"}))["label"] == "Bakery"
    assert (await client.post(f"/v1/sessions/{company}/stop", {}))["state"] == "stopped"
    with pytest.raises(Refused, match="linked") as refused:
        await client.get(f"/v1/sessions/{company}/qr")
    assert refused.value.status == HTTPStatus.CONFLICT
    await client.post(f"/v1/sessions/{company}/start", {})
    await cluster.b.until_state(company, "connected", within_s=10)
    assert cluster.nodes()[company] == "a"


async def test_a_suspended_node_has_lost_its_sessions_when_it_resumes(cluster: Cluster) -> None:
    """The other node runs its sessions by then. The resumed node starts no link, writes no data of these sessions and
    sends nothing twice, and no session is replaced (440).
    """
    a, b = cluster.a, cluster.b
    messages = MessageStream(cluster)
    async with messages.flowing(a, b):
        await asyncio.sleep(2)
        a.freeze()
        took_s = await cluster.until_connected_by(b, "b", within_s=TAKEN_OVER_WITHIN_S)
        await asyncio.sleep(max(FROZEN_S - took_s, 0))
        before, written = await cluster.wasim.get("/stats"), cluster.rows("SELECT count(*) FROM audit WHERE node = 'a'")
        epochs = cluster.epochs()
        a.thaw()
        await asyncio.sleep(WATCHED_S)
        after = await cluster.wasim.get("/stats")
    print(f"frozen for {FROZEN_S:.0f} s, taken over in {took_s:.1f} s; closes by wasim: {after['closes']}")  # noqa: T201
    assert after["connects"] == before["connects"], "the woken node, or one it disturbed, connected again"
    assert cluster.rows("SELECT count(*) FROM audit WHERE node = 'a'") == written, "the woken node wrote"
    assert cluster.epochs() == epochs
    assert not a.log_lines("replaced")
    assert not b.log_lines("replaced")
    await cluster.until_connected_by(a, "b", within_s=5)
    await messages.until_arrived_once()


async def test_both_nodes_survive_a_restart_of_the_database(cluster: Cluster) -> None:
    """No accepted message is lost, and each session is connected once when the database is back."""
    messages = MessageStream(cluster)
    async with messages.flowing(cluster.a, cluster.b):
        await asyncio.sleep(1)
        await asyncio.to_thread(cluster.postgres.stop, mode="immediate")
        await asyncio.sleep(1)
        await asyncio.to_thread(cluster.postgres.start)
        await asyncio.sleep(1)

    async def look() -> bool:
        return await cluster.open_links() == sorted(COMPANIES.values())

    await eventually(look, within_s=20, what="every session connected once")
    await messages.until_arrived_once()
