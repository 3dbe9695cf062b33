"""Link-up time and memory of a company with many groups and contacts, beside an empty one.

    uv run python -m bench.large_account [--groups 2000] [--contacts 20000] [--logins 5] [--json]

Each has a gateway of its own, with one engine host and real Baileys; wasim has the groups, and the contacts among the
account's settings. *Link* lasts from the scanned code to the open link, *contacts stored* until the last contact can be
found, and *login* from the decision to connect to the open link, in turn, by the gateways' logs. Memory is resident
memory some seconds after the last login.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.figures import percentile, rss_mb
from tests.processes import Wasim, running_wasim
from tests.served import Served, eventually, served

COMPANY = "company"
_FRIEND = "962799999999"
_CHANGES_AT_ONCE = 1000
_SETTLE_S = 10
_LOGIN_S, _STORED_S = 60, 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    link_ms: float
    contacts_stored_ms: float
    login_median_ms: float
    gateway_mb: float
    host_mb: float


class LargeAccountBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, number: str) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._number = number
        self._link_ms = self._contacts_ms = 0.0
        self._logins_ms: list[float] = []

    async def prepare(self, *, groups: int, contacts: int) -> None:
        await self._wasim.post("/phones", {"number": self._number})
        for n in range(groups):
            await self._wasim.post("/groups", {"subject": f"Group {n}", "members": [self._number, _FRIEND]})
        names = [{"contact": _person(n), "name": f"Person {n}"} for n in range(contacts)]
        for start in range(0, contacts, _CHANGES_AT_ONCE):
            changes = {"changes": names[start : start + _CHANGES_AT_ONCE]}
            await self._wasim.post(f"/phones/{self._number}/settings", changes)

    async def link(self, *, contacts: int) -> None:
        began = time.perf_counter()
        await self._gateway.pair(COMPANY, self._number, self._wasim)
        self._link_ms = (time.perf_counter() - began) * 1000
        if contacts:
            await eventually(lambda: self._has(contacts - 1), within_s=_STORED_S, what="the last contact")
        self._contacts_ms = (time.perf_counter() - began) * 1000

    async def _has(self, n: int) -> bool:
        found = await self._gateway.client.get(f"/v1/sessions/{COMPANY}/contacts?q=Person%20{n}")
        return bool(found["items"])

    async def log_in(self) -> None:
        await self._gateway.client.post(f"/v1/sessions/{COMPANY}/stop")
        await self._gateway.client.post(f"/v1/sessions/{COMPANY}/start")
        await self._gateway.until_state(COMPANY, "connected", within_s=_LOGIN_S)
        began = _at(self._gateway.log_lines(f"Session {COMPANY} stopped → connecting")[-1])
        opened = _at(self._gateway.log_lines(f"Session {COMPANY} connecting → connected")[-1])
        self._logins_ms.append((opened - began).total_seconds() * 1000)

    def figures(self) -> Figures:
        return Figures(
            link_ms=self._link_ms,
            contacts_stored_ms=self._contacts_ms,
            login_median_ms=percentile(self._logins_ms, 50),
            gateway_mb=rss_mb(self._gateway.pid),
            host_mb=sum(rss_mb(pid) for pid in self._gateway.hosts()),
        )


def _person(n: int) -> str:
    return f"9627{n:08}@s.whatsapp.net"


def _at(line: str) -> datetime:
    return datetime.fromisoformat(line.split(" ", 1)[0])


async def measure(*, groups: int, contacts: int, logins: int) -> dict[str, Figures]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wasim = await stack.enter_async_context(running_wasim(folder / "wasim"))
        await wasim.post("/phones", {"number": _FRIEND})
        benchmarks = {}
        for name, number in (("empty", "962780000001"), ("large", "962780000002")):
            (folder / name).mkdir()
            one_host = {"HOLDFAST_ENGINE_HOSTS": "1", "NODE_EXTRA_CA_CERTS": wasim.ca}
            gateway = await stack.enter_async_context(served(folder / name, wasim=wasim, **one_host))
            benchmarks[name] = LargeAccountBenchmark(wasim, gateway, number)
        await benchmarks["large"].prepare(groups=groups, contacts=contacts)
        await benchmarks["empty"].prepare(groups=0, contacts=0)
        await benchmarks["empty"].link(contacts=0)
        await benchmarks["large"].link(contacts=contacts)
        for _ in range(logins):
            for benchmark in benchmarks.values():
                await benchmark.log_in()
        await asyncio.sleep(_SETTLE_S)
        return {name: benchmark.figures() for name, benchmark in benchmarks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=2000)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--logins", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = asyncio.run(measure(groups=options.groups, contacts=options.contacts, logins=options.logins))
    if options.json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))
        return
    for key, value in asdict(found["large"]).items():
        print(f"{key:20} {asdict(found['empty'])[key]:8.1f} empty, {value:8.1f} large")


if __name__ == "__main__":
    main()
