"""What a running gateway takes for pages, lists, searches and accepts with a large store, beside an empty one.

    nice -n 15 uv run python -m bench.big_store [--rows 2000000] [--companies 200] [--databases sqlite,postgres]

So many messages each way over 90 days, and events of the last week; the first company has a tenth of them. All sessions
are stopped: nothing here needs a link. Everything is asked by HTTP. PostgreSQL is a server of the bench's own.

Goal: each line within twice of the empty store, and while the large company is cleared the accepts of others have a p99
of at most three times that before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from sqlalchemy import URL, Connection, Index

from bench.figures import percentile, rss_mb
from holdfast.backup.rows import count_on
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.postgres import parse
from holdfast.store.tables import events, inbox, outbox, webhook_deliveries
from tests import filling
from tests.postgres_process import running_postgres
from tests.served import KEY, Served

STEP = 20_000
ROUNDS = 5
ACCEPTS = 300
EVENTS = 0.39
"""Of the number of messages each way: four a message, for a week."""
_FLEET_CACHE_S = 16
_NEAR_MS = 3.0
"""Two answers that differ by less are the same to a person, and to this machine's scheduler."""
BIG, SMALL, OTHERS = filling.company(0), filling.company(7), [filling.company(n) for n in range(10, 30)]
UNKNOWN = "962700000000@s.whatsapp.net"
PAGES = {
    "/metrics": "/metrics",
    "health route, small": f"/webhook/whatsapp/baileys/health/{SMALL}",
    "diagnostics, small": f"/webhook/whatsapp/baileys/diagnostics/{SMALL}",
    "diagnostics, big": f"/webhook/whatsapp/baileys/diagnostics/{BIG}",
    "company page, small": f"/companies/{SMALL}",
    "company page, big": f"/companies/{BIG}",
    "messages, big": f"/v1/sessions/{BIG}/messages",
    "messages?state=queued, big": f"/v1/sessions/{BIG}/messages?state=queued",
    "messages?state=failed, big": f"/v1/sessions/{BIG}/messages?state=failed",
    "messages?chat=, big": f"/v1/sessions/{BIG}/messages?chat=962790000001@s.whatsapp.net",
    "messages?chat=unknown, big": f"/v1/sessions/{BIG}/messages?chat={UNKNOWN}",
    "inbox?chat=unknown, big": f"/v1/sessions/{BIG}/inbox?chat={UNKNOWN}",
    "search out, nothing found": f"/companies/{BIG}/messages?words=nothing",
    "search out, in every message": f"/companies/{BIG}/messages?words=order",
    "search out, in every message, failed": f"/companies/{BIG}/messages?words=order&state=failed",
    "search out, one message": f"/companies/{BIG}/messages?words=msg_000000050000",
    "search in, nothing found": f"/companies/{BIG}/inbox?words=nothing",
    "search in, in every message": f"/companies/{BIG}/inbox?words=order",
    "webhooks/failed": "/v1/webhooks/failed",
    "webhooks page": "/webhooks",
    "/v1/sessions": "/v1/sessions",
}
FLEET = "fleet page, first after 15 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    ms: Mapping[str, float]
    clear: str


class Caller:
    """Asks one gateway, signed in to its dashboard."""

    def __init__(self, served: Served, http: aiohttp.ClientSession) -> None:
        self._url = served.url
        self._http = http
        self._number = 0

    async def sign_in(self) -> None:
        async with self._http.post(
            f"{self._url}/login", data={"key": KEY}, headers={"Origin": self._url}, allow_redirects=False
        ) as answer:
            assert answer.status == 303, await answer.text()

    async def get(self, path: str) -> float:
        """Milliseconds."""
        began_at = time.perf_counter()
        async with self._http.get(f"{self._url}{path}") as answer:
            await answer.read()
            assert answer.status in {200, 503}, (path, answer.status, await answer.text())
        return (time.perf_counter() - began_at) * 1000

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> float:
        began_at = time.perf_counter()
        async with self._http.post(f"{self._url}{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, (path, answer.status, text)
        return (time.perf_counter() - began_at) * 1000

    async def accept(self) -> float:
        """A text of one company after the other."""
        self._number += 1
        company = OTHERS[self._number % len(OTHERS)]
        body = {"to": f"96279{self._number % 1000:07}", "text": f"Your order number {self._number} is ready"}
        return await self.post(f"/v1/sessions/{company}/messages", body)


@contextlib.asynccontextmanager
async def gateway(folder: Path, place: Path | str) -> AsyncIterator[tuple[Served, Caller, float]]:
    """And how many milliseconds its start took."""
    settings = {"HOLDFAST_DATABASE_URL": place} if isinstance(place, str) else {}
    served = Served(folder, whatsapp_url="ws://127.0.0.1:9", settings=settings)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        began_at = time.perf_counter()
        await served.start()
        try:
            caller = Caller(served, http)
            while True:
                async with http.get(f"{served.url}/readyz") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.01)
            yield served, caller, (time.perf_counter() - began_at) * 1000
        finally:
            await served.stop()
            await served.close()


async def figures(folder: Path, place: Path | str) -> Figures:
    ms: dict[str, float] = {}
    async with gateway(folder, place) as (served, caller, start_ms):
        ms["start to /readyz"] = start_ms
        just_started = [await caller.accept() for _ in range(ACCEPTS)]
        ms["accept p50, just after a start"] = percentile(just_started, 50)
        ms["accept p99, just after a start"] = percentile(just_started, 99)
        await caller.sign_in()
        for name, path in PAGES.items():
            ms[name] = statistics.median([await caller.get(path) for _ in range(ROUNDS)])
        fleet = []
        for _ in range(2):
            await asyncio.sleep(_FLEET_CACHE_S)
            fleet.append(await caller.get("/"))
        ms[FLEET] = min(fleet)
        scrapes = asyncio.create_task(_scrape(caller))
        warm = [await caller.accept() for _ in range(ACCEPTS)]
        scrapes.cancel()
        ms["accept p50, warm, a scrape each second"] = percentile(warm, 50)
        ms["accept p99, warm, a scrape each second"] = percentile(warm, 99)
        clear = await _clear(caller)
        print(f"  memory of the gateway: {rss_mb(served.pid):.0f} MB")
    return Figures(ms=ms, clear=clear)


async def _scrape(caller: Caller) -> None:
    while True:
        await caller.get("/metrics")
        await asyncio.sleep(1)


async def _clear(caller: Caller) -> str:
    """What others' accepts take while the big company is cleared."""
    before = [await caller.accept() for _ in range(ACCEPTS)]
    clearing = asyncio.create_task(caller.post(f"/v1/sessions/{BIG}/clear"))
    during: list[float] = []
    while not clearing.done():
        during.append(await caller.accept())
        await asyncio.sleep(0.01)
    took_s = await clearing / 1000
    told = [
        f"p50 {percentile(ms, 50):.1f}, p99 {percentile(ms, 99):.1f}, longest {max(ms):.1f}" for ms in (before, during)
    ]
    times = percentile(during, 99) / percentile(before, 99)
    return f"cleared in {took_s:.1f} s; accepts of others before: {told[0]}; meanwhile: {told[1]} ms; p99 {times:.1f} x"


# Filling.


async def fill(place: Path | URL, *, rows: int, companies: int) -> None:
    """Add the rows."""
    now = datetime.now(UTC)
    history = filling.Filling(companies=companies, total=rows, first=now - timedelta(days=filling.DAYS))
    lately = filling.Filling(companies=companies, total=int(rows * EVENTS), first=now - timedelta(days=6.9), days=7)
    database = Database(place)
    try:
        await database.write(history.add_sessions)
        with _progress(rows) as show:
            await database.write(_drop_indexes)
            for add, each in ((history.add_messages, history), (lately.add_events, lately)):
                for start in range(0, each.total, STEP):
                    numbers = range(start, min(each.total, start + STEP))
                    await database.write(functools.partial(add, numbers=numbers))
                    show(f"{add.__name__} {numbers.stop}")
            show("indexes")
            await database.write(_create_indexes)
        await database.write(count_on)
        await database.write(lambda connection: connection.exec_driver_sql("ANALYZE").close())
    finally:
        database.close()


@contextlib.contextmanager
def _progress(rows: int) -> Iterator[Callable[[str], None]]:
    began_at = time.monotonic()

    def show(done: str) -> None:
        if sys.stderr.isatty() or "00000 " in f"{done} ":
            print(f"  {time.monotonic() - began_at:5.0f} s: {done} of {rows}", file=sys.stderr, flush=True)

    yield show
    print(f"  filled in {time.monotonic() - began_at:.0f} s", file=sys.stderr, flush=True)


def _secondary() -> list[Index]:
    return [index for table in (outbox, inbox, events, webhook_deliveries) for index in table.indexes]


def _drop_indexes(connection: Connection) -> None:
    """Filling goes several times faster without."""
    for index in _secondary():
        index.drop(connection)
    search_index.drop_lookup(connection)


def _create_indexes(connection: Connection) -> None:
    for index in _secondary():
        index.create(connection)
    search_index.create_lookup(connection)


# Telling.


def compare(name: str, empty: Figures, full: Figures) -> None:
    print(f"\n{name}: {'':40} {'empty':>9} {'full':>9} ms")
    for question, ms in full.ms.items():
        before = empty.ms[question]
        times = ms / before
        verdict = "" if times <= 2 or ms - before <= _NEAR_MS else "  TOO SLOW"
        print(f"{name}: {question:40} {before:9.1f} {ms:9.1f}, {times:5.1f} x{verdict}")
    print(f"{name}, the big company {full.clear}")


async def measure(
    name: str, folder: Path, new_place: Callable[[str], Path | str], *, rows: int, companies: int
) -> None:
    found = {}
    for which, count in (("empty", 0), ("full", rows)):
        print(f"{name}, {which}", file=sys.stderr, flush=True)
        own = folder / which
        (own / "data").mkdir(parents=True)
        place = new_place(which)
        await fill(place if isinstance(place, Path) else parse(place), rows=count, companies=companies)
        found[which] = await figures(own, place)
    compare(name, found["empty"], found["full"])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--companies", type=int, default=200)
    parser.add_argument("--databases", default="sqlite,postgres")
    given = parser.parse_args()
    wanted = given.databases.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "sqlite" in wanted:
            await measure(
                "SQLite", folder / "sqlite", lambda which: folder / "sqlite" / which / "data" / "holdfast.db",
                rows=given.rows, companies=given.companies,
            )  # fmt: skip
        if "postgres" in wanted:
            with running_postgres() as server:
                await measure(
                    "PostgreSQL", folder / "postgres", lambda _: server.new_database(),
                    rows=given.rows, companies=given.companies,
                )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
