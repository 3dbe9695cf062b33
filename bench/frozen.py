"""Measures the time from a frozen link with a pending send to a new link, for Holdfast and bare Baileys concurrently.

    uv run bench/frozen.py [--sessions 6] [--json]

A frozen link silently stops carrying data, as behind a router that lost its state. The links of a pair, one session of
each, are frozen at the same time, and each gets a text to send. Pairs start five seconds apart, because Baileys checks
every thirty seconds. Bare Baileys has its default options and opens a new socket after each close, as in its own
example. WhatsApp's view counts: an open link that is not frozen. A session that has none after two minutes is given up.
At the end the texts that arrived are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bare import Bare, bare_baileys
from bench.figures import Row, Spread, table
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

CONTACT = "962790000099"
GIVEN_UP_S = 120.0
_APART_S = 5.0
_POLL_INTERVAL_S = 0.05
_SETTLE_S = 5.0
_ACKED_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thawed:
    """The result of one session."""

    after_s: float
    """At most `GIVEN_UP_S`."""
    text_arrived: bool


class FrozenLinkBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, bare: Bare) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._bare = bare

    async def prepare(self, pair: int) -> None:
        """Link a phone to a session of each, and send a first message to the contact from both."""
        name = f"bench-{pair}"
        await self._gateway.pair(name, _number(pair, bare=False), self._wasim)
        await self._bare.pair(name, _number(pair, bare=True))
        await self._bare.open(name)
        sent = await self._gateway.send(name, CONTACT, "before")
        await self._gateway.until_message(sent["id"], "sent", "delivered", "read", within_s=_ACKED_S)
        await self._bare.send(name, CONTACT, "before", whatsapp_id=f"3EB0BE{pair:016}")

    async def freeze(self, pair: int) -> tuple[Thawed, Thawed]:
        """Return the results of Holdfast and bare Baileys."""
        name, text = f"bench-{pair}", f"amid {pair}"
        await asyncio.sleep(pair * _APART_S)

        async def by_holdfast() -> None:
            await self._gateway.send(name, CONTACT, f"{text} by Holdfast")

        async def by_bare() -> None:
            await self._bare.write(name, CONTACT, f"{text} by bare Baileys")

        ours, theirs = await asyncio.gather(
            self._fate(_number(pair, bare=False), by_holdfast), self._fate(_number(pair, bare=True), by_bare)
        )
        await asyncio.sleep(_SETTLE_S)
        inbox = {item["text"] for item in await self._wasim.get(f"/phones/{CONTACT}/inbox")}
        return (
            Thawed(after_s=ours, text_arrived=f"{text} by Holdfast" in inbox),
            Thawed(after_s=theirs, text_arrived=f"{text} by bare Baileys" in inbox),
        )

    async def _fate(self, number: str, send: Callable[[], Awaitable[None]]) -> float:
        """Return the seconds from the freeze, which a send follows, to the new link."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._wasim.fault("freeze", number=number)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_attempt(send))
            while not await self._is_up(number) and clock() < began + GIVEN_UP_S:  # noqa: ASYNC110 – asked by HTTP
                await asyncio.sleep(_POLL_INTERVAL_S)
            took_s = clock() - began
            sending.cancel()
        return took_s

    async def _is_up(self, number: str) -> bool:
        links = await self._wasim.get("/links")
        return any(link["number"] == number and link["state"] == "open" and not link["frozen"] for link in links)


async def _attempt(send: Callable[[], Awaitable[None]]) -> None:
    """Send a text; a failure is only printed, because the measurement is of the link."""
    try:
        await send()
    except Exception as error:  # noqa: BLE001 – printed, and the text counts as not arrived
        print(f"a send failed: {error}", file=sys.stderr)


def _number(pair: int, *, bare: bool) -> str:
    return str((962790001000 if bare else 962780001000) + pair)


async def measure(sessions: int) -> tuple[Row, dict[str, int]]:
    """Return the times, and how many texts arrived."""
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim))
        bare = await held.enter_async_context(bare_baileys(folder / "bare", wasim))
        await wasim.post("/phones", {"number": CONTACT})
        benchmark = FrozenLinkBenchmark(wasim, gateway, bare)
        for pair in range(sessions):
            await benchmark.prepare(pair)
        fates = await asyncio.gather(*(benchmark.freeze(pair) for pair in range(sessions)))
        ours, theirs = zip(*fates, strict=True)
        row = Row(
            key="frozenToNewLinkS",
            what="freeze with a send waiting → new link",
            unit="s",
            holdfast=Spread([fate.after_s for fate in ours]),
            bare=Spread([fate.after_s for fate in theirs]),
        )
        return row, {"holdfast": _arrived(ours), "bare": _arrived(theirs)}


def _arrived(fates: tuple[Thawed, ...]) -> int:
    return sum(fate.text_arrived for fate in fates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    row, arrived = asyncio.run(measure(options.sessions))
    if options.json:
        found: dict[str, Any] = {"sessions": options.sessions, row.key: row.as_json(), "textsArrived": arrived}
        print(json.dumps(found))
        return
    print(f"{options.sessions} links of each were frozen; median (min–max)\n\n{table([row])}\n")
    counts = " · ".join(f"{name} {count} of {options.sessions}" for name, count in arrived.items())
    print(f"pending texts that arrived: {counts}")


if __name__ == "__main__":
    main()
