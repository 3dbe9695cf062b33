"""Several nodes behind a round-robin proxy, with traffic in both directions and its outcome: for `tests.chaos.cluster`.

The proxy is nginx, or one of our own where nginx is not installed (it balances connections instead of requests). It
must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
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

_ATTEMPT_S = 10.0
_RETRY_S = 0.3
_OPEN_POLL_S = 0.2
_ARRIVAL_POLL_S = 1.0
"""Each check requests the messages of every company: more often, it would be a load of its own."""
_HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds between two requests of the same kind."""

    sent_s: float = 0.15
    """Seconds from the acceptance of a text to the next text of the same company."""
    received_s: float = 1.0
    """Seconds between two texts to the same company."""
    probe_s: float = 0.1
    look_s: float = 0.1
    """Seconds between two checks of the links."""


@dataclass(slots=True)
class Company:
    id: str
    number: str
    contact: str
    sent: list[str] = field(default_factory=list)
    """Texts in the order in which they were accepted."""
    received: list[str] = field(default_factory=list)
    """Texts that the contact sent."""
    arrived: list[str] = field(default_factory=list)
    """Texts on the contact's phone, as far as they have been read."""


@dataclass(slots=True)
class Observed:
    """What happened during one fault."""

    posted: int = 0
    first_failures: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    """Answers to requests that only an owner can answer, by status and code."""
    max_links: int = 0
    """The most links of one number at once."""
    ever_down: set[str] = field(default_factory=set)
    back_at: dict[str, float] = field(default_factory=dict)
    """When the link of each number opened last."""


class Cluster:
    """Nodes on one database, behind a proxy, with one linked company per contact."""

    to_database: StallingLink
    """The TCP link between the first node and the database."""
    to_whatsapp: StallingLink
    """The TCP link between the first node and WhatsApp."""

    def __init__(
        self, nodes: list[Served], url: str, wasim: Wasim, postgres: PostgresProcess, redis: RedisProcess, db: str
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
            await self.pair_one(n)

    async def pair_one(self, n: int) -> None:
        company = Company(id=f"co{n:02}", number=f"9627900000{n:02}", contact=f"9627911000{n:02}")
        await self.wasim.post("/phones", {"number": company.contact})
        await self.nodes[n % len(self.nodes)].pair(company.id, company.number, self.wasim)
        self.companies.append(company)

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset(company.number for company in self.companies)

    # Traffic.

    @asynccontextmanager
    async def traffic(self, pace: Pace = Pace()) -> AsyncIterator[None]:
        """Texts of every company, texts to every company, and requests that only owners can answer."""
        async with aiohttp.ClientSession(headers=_HEADERS) as http, asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._probe(http, pace)), tasks.create_task(self._watch(pace))]
            ended, sending = asyncio.Event(), list[asyncio.Task[None]]()
            for company in self.companies:
                sending.append(tasks.create_task(self._write(http, company, pace, ended)))
                sending.append(tasks.create_task(self._receive(company, pace, ended)))
            try:
                yield
            finally:
                ended.set()
                await asyncio.wait(sending)
                for task in running:
                    task.cancel()

    async def _write(self, http: aiohttp.ClientSession, company: Company, pace: Pace, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await self.text(http, company)
            await _pause(pace.sent_s, ended)

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

    async def _receive(self, company: Company, pace: Pace, ended: asyncio.Event) -> None:
        while not ended.is_set():
            text = f"to {company.id} {len(company.received):05}"
            await self.wasim.post(f"/phones/{company.contact}/send", {"to": company.number, "text": text})
            company.received.append(text)
            await _pause(pace.received_s, ended)

    async def _probe(self, http: aiohttp.ClientSession, pace: Pace) -> None:
        while True:
            for company in self.companies:
                url = f"{self.url}/webhook/whatsapp/baileys/health/{company.id}"
                self.observed.probes[await _answer(http.get(url))] += 1
                await asyncio.sleep(pace.probe_s)

    async def _watch(self, pace: Pace) -> None:
        """Note when links open and close."""
        loop = asyncio.get_running_loop()
        while True:
            links = Counter([link["number"] for link in await self.wasim.get("/links") if link["state"] == "open"])
            is_open, now, seen = self.numbers & links.keys(), loop.time(), self.observed
            seen.max_links = max([seen.max_links, *links.values()])
            seen.ever_down |= self.numbers - is_open
            for number in is_open - self._seen_open:
                seen.back_at[number] = now
            self._seen_open = frozenset(is_open)
            await asyncio.sleep(pace.look_s)

    async def until_all_open(self, *, within_s: float = 60) -> None:
        async def look() -> bool:
            links = [link["number"] for link in await self.wasim.get("/links") if link["state"] == "open"]
            return sorted(links) == sorted(self.numbers)

        await eventually(look, within_s=within_s, what="one open link for each number", every_s=_OPEN_POLL_S)

    # Verdicts.

    def replaced(self) -> int:
        """How often a login ended another link (440), by the logs."""
        return sum(len(node.log_lines("replaced")) for node in self.nodes)

    async def outcome(self) -> tuple[dict[str, int], dict[str, int]]:
        """Lost, duplicated and disordered texts, of those that companies sent and of those that they received."""
        sent, received = defaultdict(int, lost=0), defaultdict(int, lost=0)
        stored = await self._stored()
        for company in self.companies:
            _compare(company.sent, await self._arrived(company), sent)
            _compare(company.received, stored[company.id], received)
        return sent, received

    async def until_arrived(self, *, within_s: float = 60) -> list[str]:
        """Wait for all texts that were accepted until now; those that have not arrived by then are returned."""
        unsent = {company.id: set(company.sent).difference(company.arrived) for company in self.companies}
        unread = {company.id: set(company.received) for company in self.companies}

        async def look() -> bool:
            for company in self.companies:
                if unsent[company.id]:
                    unsent[company.id].difference_update(await self._arrived(company))
            if any(unread.values()):
                for id_, texts in (await self._stored()).items():
                    unread[id_].difference_update(texts)
            return not any(unsent.values()) and not any(unread.values())

        with contextlib.suppress(AssertionError):
            await eventually(look, within_s=within_s, what="the arrival of all messages", every_s=_ARRIVAL_POLL_S)
        return [text for texts in (*unsent.values(), *unread.values()) for text in sorted(texts)]

    async def _arrived(self, company: Company) -> list[str]:
        """Only new messages on the phone are requested."""
        path = f"/phones/{company.contact}/inbox"
        company.arrived += [message["text"] for message in await self.wasim.get(path, after=str(len(company.arrived)))]
        return company.arrived

    async def _stored(self) -> dict[str, list[str]]:
        statement = "SELECT company_id, text FROM inbox ORDER BY seq"
        stored: dict[str, list[str]] = defaultdict(list)
        for company, text in await asyncio.to_thread(self.postgres.rows, self.database_url, statement):
            stored[str(company)].append(str(text))
        return stored

    async def shares(self) -> list[int]:
        """How many sessions each node runs."""
        statement = "SELECT count(*) FROM leases WHERE holder <> '' AND expires_at > now() GROUP BY holder"
        rows = await asyncio.to_thread(self.postgres.rows, self.database_url, statement)
        return sorted((int(str(count)) for (count,) in rows), reverse=True)


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


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common()) or "0"


async def _answer(asking: Awaitable[aiohttp.ClientResponse]) -> str:
    """The status of the response with the code of a problem, or the network error."""
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
