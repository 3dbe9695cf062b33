"""Response times of a running gateway with a large store, compared with an empty one.

    uv run python -m bench.big_store [--rows 2000000] [--companies 200] [--databases sqlite,postgres] [--keep FOLDER]

The large store has `--rows` messages in each direction over 90 days, and the events of the last week; the first
company has a tenth of them. All sessions are stopped: nothing here needs a link. All requests are HTTP requests, except
the query of the health check, which the gateway runs every 30 s. PostgreSQL is a server of the bench's own with default
settings.

Each page is requested once in a process that has just started (cold), then several times (warm, the median). Goals:
each line is at most twice as slow as with the empty store; while the large company is cleared, the p99 of other
companies' accepts is at most three times that before. A backup reads everything, so only the accepts during it have a
goal. A store of 10,000 messages, whose lists have as many rows as those of the large store, is shown beside them: it
tells what the size costs from what the rows of a full page cost.

`--keep` keeps the filled databases in a folder: the next run copies them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import URL

from bench.big_store_fill import PostgresStores, Size, SqliteStores, address, postgres_stores, sqlite_stores
from bench.figures import percentile, rss_mb
from holdfast.store.database import Database
from holdfast.store.figures import FigureRows
from tests import filling
from tests.served import KEY, Served

FULL_PAGES = 10_000
"""Messages with which the lists of the large company have a whole page."""
ROUNDS = 15
ACCEPTS = 2000
"""Enough that the p99 does not depend on how many of them meet one of the few scrapes."""
FLEET_ROUNDS = 3
_FLEET_CACHE_S = 16
_NEAR_MS = 3.0
"""Smaller differences count as none: they are within the noise of a machine's scheduler."""
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
    "inbox, big": f"/v1/sessions/{BIG}/inbox",
    "inbox?chat=unknown, big": f"/v1/sessions/{BIG}/inbox?chat={UNKNOWN}",
    "search out, nothing found": f"/companies/{BIG}/messages?words=nothing",
    "search out, in every message": f"/companies/{BIG}/messages?words=order",
    "search out, in every message, failed": f"/companies/{BIG}/messages?words=order&state=failed",
    "search out, in every message, queued": f"/companies/{BIG}/messages?words=order&state=queued",
    "search out, in every message, none such": f"/companies/{BIG}/messages?words=order&state=played",
    "search out, one message": f"/companies/{BIG}/messages?words=msg_000000050000",
    "search in, nothing found": f"/companies/{BIG}/inbox?words=nothing",
    "search in, in every message": f"/companies/{BIG}/inbox?words=order",
    "webhooks/failed": "/v1/webhooks/failed",
    "webhooks page": "/webhooks",
    "/v1/sessions": "/v1/sessions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    cold: dict[str, float]
    """Milliseconds of the first answer."""
    warm: dict[str, float]
    """Median of those after it."""
    once: dict[str, float]
    """Milliseconds of what is neither."""
    notes: list[str]


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

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> tuple[float, Any]:
        """Milliseconds and the answer."""
        began_at = time.perf_counter()
        async with self._http.post(f"{self._url}{path}", json=body) as answer:
            assert answer.status < 300, (path, answer.status, await answer.text())
            content = await answer.json()
        return (time.perf_counter() - began_at) * 1000, content

    async def accept(self) -> float:
        """Milliseconds for a text of one company after the other."""
        self._number += 1
        company = OTHERS[self._number % len(OTHERS)]
        body = {"to": f"96279{self._number % 1000:07}", "text": f"Your order number {self._number} is ready"}
        took_ms, _ = await self.post(f"/v1/sessions/{company}/messages", body)
        return took_ms

    async def accepts(self) -> list[float]:
        return [await self.accept() for _ in range(ACCEPTS)]

    async def accepts_during(self, work: Coroutine[Any, Any, tuple[float, Any]]) -> tuple[list[float], float, Any]:
        """Milliseconds of each accept beside `work`, and what that took and answered."""
        working = asyncio.create_task(work)
        took = []
        while not working.done():
            took.append(await self.accept())
            await asyncio.sleep(0.01)
        return took, *(await working)


@contextlib.asynccontextmanager
async def gateway(folder: Path, place: Path | URL) -> AsyncIterator[tuple[Served, Caller, float]]:
    """A gateway, a caller of it, and the milliseconds that its start took."""
    served = Served(folder, whatsapp_url="ws://127.0.0.1:9", settings=_settings(place))
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(
        headers=headers,
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(total=None),  # a backup takes minutes
    ) as http:
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


def _settings(place: Path | URL) -> dict[str, str]:
    return {} if isinstance(place, Path) else {"HOLDFAST_DATABASE_URL": address(place)}


async def figures(folder: Path, place: Path | URL) -> Figures:
    """Each figure is also written to stderr as soon as it is known."""
    found = Figures(cold={}, warm={}, once={}, notes=[])
    await _health_check(place, found)
    starts = []
    for _ in range(2):
        async with gateway(folder, place) as (_, _, start_ms):
            starts.append(start_ms)
    async with gateway(folder, place) as (served, caller, start_ms):
        found.once["start to /readyz"] = min(*starts, start_ms)
        _accepts("just after a start", await caller.accepts(), found)
        await caller.sign_in()
        await _pages(caller, found)
        scrapes = asyncio.create_task(_scrape(caller))
        _accepts("warm, a scrape each second", await caller.accepts(), found)
        scrapes.cancel()
        calm = await caller.accepts()
        backed_up, backup_ms, made = await caller.accepts_during(caller.post("/v1/backups"))
        _accepts("during a backup", backed_up, found)
        _tell(found, f"backup: {backup_ms / 1000:.1f} s, {made['sizeBytes'] / 1e6:.1f} MB")
        _tell(found, f"accepts of others before the big company is cleared: {_spread(calm)}")
        clearing, clear_ms, _ = await caller.accepts_during(caller.post(f"/v1/sessions/{BIG}/clear"))
        _tell(found, f"clear of the big company: {clear_ms / 1000:.1f} s")
        _tell(found, f"accepts of others during it: {_spread(clearing)}")
        _tell(found, f"p99 during it to before it: {percentile(clearing, 99) / percentile(calm, 99):.1f} x")
        _tell(found, f"memory of the gateway: {rss_mb(served.pid):.0f} MB")
    return found


def _accepts(when: str, ms: list[float], found: Figures) -> None:
    for percent in (50, 99):
        found.once[f"accept p{percent}, {when}"] = percentile(ms, percent)
    _progress(f"accepts {when}: {_spread(ms)}")


def _tell(found: Figures, note: str) -> None:
    found.notes.append(note)
    _progress(note)


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


async def _health_check(place: Path | URL, found: Figures) -> None:
    database = Database(place)
    try:
        took = []
        for _ in range(ROUNDS + 1):
            began_at = time.perf_counter()
            await FigureRows(database).backlogs()
            took.append((time.perf_counter() - began_at) * 1000)
    finally:
        database.close()
    _note("health check query, each 30 s", took, found)


async def _pages(caller: Caller, found: Figures) -> None:
    for name, path in PAGES.items():
        _note(name, [await caller.get(path) for _ in range(ROUNDS + 1)], found)
    fleet = []
    for _ in range(FLEET_ROUNDS + 1):
        fleet.append(await caller.get("/"))
        await asyncio.sleep(_FLEET_CACHE_S)
    _note("fleet page, first after 15 s", fleet, found)


def _note(name: str, took: list[float], found: Figures) -> None:
    found.cold[name], found.warm[name] = took[0], statistics.median(took[1:])
    _progress(f"{name}: {took[0]:.1f} ms at first, then {found.warm[name]:.1f} ms")


async def _scrape(caller: Caller) -> None:
    while True:
        await caller.get("/metrics")
        await asyncio.sleep(1)


def _spread(ms: list[float]) -> str:
    return f"p50 {percentile(ms, 50):.1f}, p99 {percentile(ms, 99):.1f}, longest {max(ms):.1f} ms"


def compare(name: str, empty: Figures, small: Figures, full: Figures) -> None:
    print(f"\n{name}: {'':48} {'empty':>9} {FULL_PAGES:>9} {'full':>9} ms, full by empty and small")
    for kind, *columns in (
        ("", empty.once, small.once, full.once),
        (" (warm)", empty.warm, small.warm, full.warm),
        (" (cold)", empty.cold, small.cold, full.cold),
    ):
        for question in columns[-1]:
            least, some, ms = (column[question] for column in columns)
            times = f"{ms / least:.1f}, {ms / some:.1f}"
            verdict = "" if ms <= 2 * least or ms - least <= _NEAR_MS else "  TOO SLOW"
            shown = f"{least:9.1f} {some:9.1f} {ms:9.1f}"
            print(f"{name}: {question + kind:48} {shown}, {times} x{verdict}")
    for which, found in (("empty", empty), (str(FULL_PAGES), small), ("full", full)):
        for note in found.notes:
            print(f"{name}, {which}: {note}")


def measure(stores: SqliteStores | PostgresStores, size: Size) -> None:
    found = []
    with tempfile.TemporaryDirectory() as name:
        for rows in (0, FULL_PAGES, size.rows):
            print(f"{stores.name}, {rows} messages each way", file=sys.stderr, flush=True)
            folder = Path(name) / str(rows)
            place = stores.filled(Size(rows=rows, companies=size.companies), folder / "data")
            found.append(asyncio.run(figures(folder, place)))
    compare(stores.name, *found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--companies", type=int, default=200)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    opening: Mapping[str, Callable[[Path], AbstractContextManager[SqliteStores | PostgresStores]]]
    opening = {"sqlite": sqlite_stores, "postgres": postgres_stores}
    with tempfile.TemporaryDirectory(prefix="holdfast-big-store-") as name:
        kept: Path = given.keep or Path(name)
        kept.mkdir(parents=True, exist_ok=True)
        for database in given.databases.split(","):
            with opening[database](kept) as stores:
                measure(stores, Size(rows=given.rows, companies=given.companies))


if __name__ == "__main__":
    main()
