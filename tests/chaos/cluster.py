"""The table of faults of a cluster: three nodes behind a round-robin proxy, under traffic both ways.

`uv run python -m tests.chaos.cluster [FAULT…]` breaks one part after another and prints a row for each: what was lost,
doubled or out of order, which first attempts failed and why, and how long links were away. The proxy is nginx, or one
of our own where nginx is not installed (it balances connections instead of requests). The test beside it runs a part.

It must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import aiohttp

from holdfast.store.postgres import parse
from tests.chaos.round_robin import round_robin
from tests.chaos.stalling_link import StallingLink, stalling_link
from tests.pgbouncer_process import running_pgbouncer
from tests.postgres_process import PostgresProcess, running_postgres
from tests.processes import Wasim, running_wasim
from tests.redis_process import RedisProcess, free_port, running_redis
from tests.served import KEY, Served, eventually

_GAP_S = 0.15
"""Between the acceptance of a text and the next one of the same company."""
_ATTEMPT_S = 10.0
_RETRY_S = 0.3
_LOOK_S = 0.1
_PROBE_S = 0.1
_HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass(slots=True)
class Company:
    id: str
    number: str
    contact: str
    sent: list[str] = field(default_factory=list)
    """Texts in the order in which they were accepted."""
    received: list[str] = field(default_factory=list)
    """Texts that the contact sent."""


@dataclass(slots=True)
class Observed:
    """What happened during one fault."""

    posted: int = 0
    first_failures: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    """Answers to requests that only an owner can answer, by status and code."""
    most_links: int = 0
    """The most links of one number at once."""
    ever_down: set[str] = field(default_factory=set)
    back_at: dict[str, float] = field(default_factory=dict)
    """When the link of each number opened last."""


class Cluster:
    """Nodes on one database, behind a proxy, with one linked company per contact."""

    to_database: StallingLink
    """Between the first node and the database."""
    to_whatsapp: StallingLink
    """Between the first node and WhatsApp."""

    def __init__(
        self, nodes: Sequence[Served], url: str, wasim: Wasim, postgres: PostgresProcess, redis: RedisProcess, db: str
    ) -> None:
        self.nodes = nodes
        self.url = url
        self.wasim = wasim
        self.postgres = postgres
        self.redis = redis
        self.database_url = db
        self.companies: list[Company] = []
        self.observed = Observed()
        self._seen_open: frozenset[str] = frozenset()

    async def pair(self, count: int) -> None:
        for n in range(count):
            company = Company(id=f"co{n:02}", number=f"9627900000{n:02}", contact=f"9627911000{n:02}")
            await self.wasim.post("/phones", {"number": company.contact})
            await self.nodes[n % len(self.nodes)].pair(company.id, company.number, self.wasim)
            self.companies.append(company)

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset(company.number for company in self.companies)

    # Traffic.

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Texts of every company, texts to every company, and requests that only owners can answer."""
        async with aiohttp.ClientSession(headers=_HEADERS) as http, asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._probe(http)), tasks.create_task(self._watch())]
            ended = asyncio.Event()
            sending = [tasks.create_task(self._write(http, company, ended)) for company in self.companies]
            sending += [tasks.create_task(self._receive(company, ended)) for company in self.companies]
            try:
                yield
            finally:
                ended.set()
                await asyncio.wait(sending)
                for task in running:
                    task.cancel()

    async def _write(self, http: aiohttp.ClientSession, company: Company, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await self.text(http, company)
            await _pause(_GAP_S, ended)

    async def text(self, http: aiohttp.ClientSession, company: Company) -> None:
        """Send the next text to the proxy until it is accepted."""
        text = f"{company.id} {len(company.sent):05}"
        self.observed.posted += 1
        is_first = True
        while (failure := await self._post(http, company, text)) is not None:
            if is_first:
                self.observed.first_failures[failure] += 1
            is_first = False
            await asyncio.sleep(_RETRY_S)
        company.sent.append(text)

    async def _post(self, http: aiohttp.ClientSession, company: Company, text: str) -> str | None:
        """None when it was accepted, else the cause."""
        asking = http.post(
            f"{self.url}/v1/sessions/{company.id}/messages",
            json={"to": company.contact, "text": text},
            headers={"Idempotency-Key": text},
        )
        answer = await _answer(asking)
        return None if answer == "202" else answer

    async def _receive(self, company: Company, ended: asyncio.Event) -> None:
        while not ended.is_set():
            text = f"to {company.id} {len(company.received):05}"
            await self.wasim.post(f"/phones/{company.contact}/send", {"to": company.number, "text": text})
            company.received.append(text)
            await _pause(1.0, ended)

    async def _probe(self, http: aiohttp.ClientSession) -> None:
        while True:
            for company in self.companies:
                url = f"{self.url}/webhook/whatsapp/baileys/health/{company.id}"
                self.observed.probes[await _answer(http.get(url))] += 1
                await asyncio.sleep(_PROBE_S)

    async def _watch(self) -> None:
        """Note when links open and close."""
        loop = asyncio.get_running_loop()
        while True:
            links = Counter([link["number"] for link in await self.wasim.get("/links") if link["state"] == "open"])
            is_open, now, seen = self.numbers & links.keys(), loop.time(), self.observed
            seen.most_links = max([seen.most_links, *links.values()])
            seen.ever_down |= self.numbers - is_open
            for number in is_open - self._seen_open:
                seen.back_at[number] = now
            self._seen_open = frozenset(is_open)
            await asyncio.sleep(_LOOK_S)

    async def until_all_open(self, *, within_s: float = 60) -> None:
        async def look() -> bool:
            links = [link["number"] for link in await self.wasim.get("/links") if link["state"] == "open"]
            return sorted(links) == sorted(self.numbers)

        await eventually(look, within_s=within_s, what="one open link for each number")

    # Verdicts.

    def replaced(self) -> int:
        """How often a login ended another link (440), by the logs."""
        return sum(len(node.log_lines("replaced")) for node in self.nodes)

    async def outcome(self) -> tuple[dict[str, int], dict[str, int]]:
        """Lost, doubled and disordered texts: those that companies sent, and those that they received."""
        sent, received = defaultdict(int, lost=0), defaultdict(int, lost=0)
        for company in self.companies:
            arrived = await self._arrived(company)
            stored = await self._stored(company)
            _compare(company.sent, arrived, sent)
            _compare(company.received, stored, received)
        return sent, received

    async def until_arrived(self, *, within_s: float = 60) -> None:
        async def look() -> bool:
            for company in self.companies:
                if set(company.sent) - set(await self._arrived(company)):
                    return False
                if set(company.received) - set(await self._stored(company)):
                    return False
            return True

        with contextlib.suppress(AssertionError):  # what is missing is counted as lost
            await eventually(look, within_s=within_s, what="the arrival of all messages")

    async def _arrived(self, company: Company) -> list[str]:
        return [message["text"] for message in await self.wasim.get(f"/phones/{company.contact}/inbox")]

    async def _stored(self, company: Company) -> list[str]:
        rows = await asyncio.to_thread(
            self.postgres.rows,
            self.database_url,
            f"SELECT text FROM inbox WHERE company_id = '{company.id}' ORDER BY seq",
        )
        return [str(text) for (text,) in rows]


def _compare(expected: Sequence[str], found: Sequence[str], counts: dict[str, int]) -> None:
    """Out of order: a text that comes after one that was sent later."""
    wanted = set(expected)
    found = [text for text in found if text in wanted]
    counts["lost"] += len(wanted - set(found))
    counts["doubled"] += len(found) - len(set(found))
    newest = ""
    for text in found:
        counts["disorder"] += text < newest
        newest = max(newest, text)


async def _answer(asking: Awaitable[aiohttp.ClientResponse]) -> str:
    """Status of the response, with the code of a problem; or what went wrong."""
    try:
        async with asyncio.timeout(_ATTEMPT_S):
            response = await asking
            async with response:
                body = await response.json(content_type=None) if response.status >= 400 else {}
                code = body.get("code") or body.get("status") if isinstance(body, dict) else None
                return f"{response.status} {code}" if code else str(response.status)
    except TimeoutError:
        return "timeout"
    except ValueError:
        return f"{response.status} by the proxy"
    except aiohttp.ClientError as error:
        return type(error).__name__


async def _pause(seconds: float, ended: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()


# Faults. Each returns when its cause is over; what it returns is the moment from which links are expected back.


async def kill(cluster: Cluster) -> None:
    """kill -9 of one node, which is started again."""
    await cluster.nodes[0].kill()
    await asyncio.sleep(12)
    await cluster.nodes[0].start()


async def sigterm(cluster: Cluster) -> None:
    """An orderly stop of one node, which is started again."""
    await cluster.nodes[1].stop()
    await asyncio.sleep(5)
    await cluster.nodes[1].start()


async def sigstop(cluster: Cluster) -> None:
    """One node stands still for 20 s."""
    cluster.nodes[2].freeze()
    await asyncio.sleep(20)
    cluster.nodes[2].thaw()


async def roll(cluster: Cluster) -> None:
    """Each node is stopped and started, one after the other."""
    for node in cluster.nodes:
        await node.stop()
        await node.start()
        await asyncio.sleep(3)


async def pg_restart(cluster: Cluster) -> None:
    """PostgreSQL is restarted."""
    await asyncio.to_thread(cluster.postgres.stop)
    await asyncio.to_thread(cluster.postgres.start)


async def pg_kill(cluster: Cluster) -> None:
    """PostgreSQL crashes and is back after two seconds."""
    await asyncio.to_thread(cluster.postgres.stop, mode="immediate")
    await asyncio.sleep(2)
    await asyncio.to_thread(cluster.postgres.start)


async def pg_stop(cluster: Cluster) -> None:
    """PostgreSQL stands still for 15 s."""
    cluster.postgres.freeze()
    await asyncio.sleep(15)
    cluster.postgres.thaw()


async def lock(cluster: Cluster) -> None:
    """The outbox is locked for 10 s, as by CREATE INDEX."""

    def hold() -> None:
        with cluster.postgres.operator(cluster.database_url) as connection, connection.transaction():
            connection.execute("LOCK TABLE outbox IN SHARE MODE")
            connection.execute("SELECT pg_sleep(10)")

    await asyncio.to_thread(hold)


async def db_stall(cluster: Cluster) -> None:
    """One node does not reach the database for 20 s, but WhatsApp: its connections hang."""
    cluster.to_database.stall()
    await asyncio.sleep(20)
    cluster.to_database.heal()


async def db_oneway(cluster: Cluster) -> None:
    """What the database answers to one node does not arrive for 20 s: it may have carried out what it was asked."""
    cluster.to_database.stall("back")
    await asyncio.sleep(20)
    cluster.to_database.heal()


async def wa_stall(cluster: Cluster) -> None:
    """One node does not reach WhatsApp for 20 s, but the database."""
    cluster.to_whatsapp.stall()
    await asyncio.sleep(20)
    cluster.to_whatsapp.heal()


async def redis_kill(cluster: Cluster) -> None:
    """Redis is away for 10 s."""
    await cluster.redis.kill()
    await asyncio.sleep(10)
    await cluster.redis.start()


FAULTS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    "kill": kill,
    "sigterm": sigterm,
    "sigstop": sigstop,
    "roll": roll,
    "pg-restart": pg_restart,
    "pg-kill": pg_kill,
    "pg-stop15": pg_stop,
    "lock10": lock,
    "redis-kill": redis_kill,
    "db-stall": db_stall,
    "db-oneway": db_oneway,
    "wa-stall": wa_stall,
}
_BACK_SINCE_END = {"pg-stop15", "pg-kill", "pg-restart", "wa-stall"}
"""Faults whose back times count from their end, because nothing can come back before."""


@asynccontextmanager
async def running_cluster(
    folder: Path, *, nodes: int, use_nginx: bool = True, pooler: str | None = None
) -> AsyncIterator[Cluster]:
    """Nodes that run no session yet. `pooler`: the mode of a PgBouncer between them and the database."""
    ports = [free_port() for _ in range(nodes)]
    (folder / "redis").mkdir()
    with running_postgres() as postgres:
        url = postgres.new_migrated()
        async with contextlib.AsyncExitStack() as stack:
            wasim = await stack.enter_async_context(running_wasim(folder / "wasim"))
            redis = await stack.enter_async_context(running_redis(folder / "redis"))
            made, whatsapp, database_url = [], urlsplit(wasim.url), url
            if pooler is not None:
                database_url = stack.enter_context(running_pgbouncer(parse(url), mode=pooler))
            to_database, link_port = await stack.enter_async_context(stalling_link(urlsplit(database_url).port or 0))
            to_whatsapp, whatsapp_port = await stack.enter_async_context(stalling_link(whatsapp.port or 0))
            for n, port in enumerate(ports):
                (folder / f"n{n}").mkdir()
                settings = {
                    "HOLDFAST_NODE": f"n{n}",
                    "HOLDFAST_PORT": str(port),
                    "HOLDFAST_DATABASE_URL": database_url,
                    "HOLDFAST_REDIS_URL": redis.url,
                }
                whatsapp_url = wasim.url
                if n == 0:
                    port_before = urlsplit(database_url).port
                    settings["HOLDFAST_DATABASE_URL"] = database_url.replace(f":{port_before}/", f":{link_port}/")
                    whatsapp_url = wasim.url.replace(f":{whatsapp.port}", f":{whatsapp_port}")
                node = Served(folder / f"n{n}", whatsapp_url=whatsapp_url, settings=settings)
                stack.push_async_callback(node.close)
                made.append(node)
            await asyncio.gather(*(node.start() for node in made))
            proxy = await stack.enter_async_context(round_robin(folder / "proxy", ports, use_nginx=use_nginx))
            cluster = Cluster(made, proxy, wasim, postgres, redis, url)
            cluster.to_database, cluster.to_whatsapp = to_database, to_whatsapp
            yield cluster


async def strike(cluster: Cluster, name: str) -> str:
    """One row of the table."""
    loop, replaced_before = asyncio.get_running_loop(), cluster.replaced()
    cluster.observed = Observed()
    async with cluster.traffic():
        await asyncio.sleep(2)
        cluster.observed.back_at.clear()
        cluster.observed.ever_down.clear()
        began_at = loop.time()
        await FAULTS[name](cluster)
        ended_at = loop.time()
        await asyncio.sleep(3)
        await cluster.until_all_open()
        await asyncio.sleep(2)
        observed = cluster.observed
    await cluster.until_arrived()
    sent, received = await cluster.outcome()
    since = ended_at if name in _BACK_SINCE_END else began_at
    back = sorted(observed.back_at[number] - since for number in observed.ever_down if number in observed.back_at)
    times = f"{back[0]:.1f}/{median(back):.1f}/{back[-1]:.1f}" if back else "–"
    pairs = [f"{sent[what]}/{received[what]}" for what in ("lost", "doubled", "disorder")]
    cells = [
        name,
        str(observed.posted),
        _counted(observed.first_failures),
        *pairs,
        f"≤ {observed.most_links}",
        str(cluster.replaced() - replaced_before),
        str(len(observed.ever_down)),
        times,
        _counted(observed.probes),
    ]
    return f"| {' | '.join(cells)} |"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common()) or "0"


_HEAD = """| fault | posted | first try failed | lost out/in | doubled | disorder | links | 440 | down | back | owner |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


async def main(names: Sequence[str], *, companies: int, folder: Path | None, pooler: str | None) -> None:
    """`folder`: where the logs of the nodes are kept."""
    with tempfile.TemporaryDirectory(prefix="holdfast-cluster-") as name:
        async with running_cluster(folder or Path(name), nodes=3, pooler=pooler) as cluster:
            await cluster.pair(companies)
            proxy = "nginx" if shutil.which("nginx") else "a proxy of our own"
            before = "" if pooler is None else f", PgBouncer in {pooler} mode"
            print(f"{companies} companies on three nodes behind {proxy}{before}\n{_HEAD}", flush=True)  # noqa: T201
            for fault in names:
                print(await strike(cluster, fault), flush=True)  # noqa: T201


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="all of them, if none is named")
    arguments.add_argument("--companies", type=int, default=12)
    arguments.add_argument(
        "--folder", type=Path, help="an empty folder for the nodes and their logs; unset: none is kept"
    )
    arguments.add_argument("--pooler", choices=["session", "transaction"], help="put PgBouncer before the database")
    given = arguments.parse_args()
    names = given.faults or list(FAULTS)
    asyncio.run(main(names, companies=given.companies, folder=given.folder, pooler=given.pooler))
