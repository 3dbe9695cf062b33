"""Measures a gateway on a flapping network, and on a stable one: connects, delays, budget, alerts.

uv run python -m bench.flapping [--minutes 10] [--lives 2] [--after 3] [--quiet]

Each link of three sessions is reset so many seconds after its login, for so many minutes; then the network is well for
some more. With `--quiet` nothing is done to anything. Works on wasim alone, never on WhatsApp.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from holdfast.client import Json
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

COMPANIES = {"flap-1": "962790000101", "flap-2": "962790000102", "flap-3": "962790000103"}
POLL_INTERVAL_S = 5
_PLAN = re.compile(r"Session (\S+) .*; attempt (\d+) in ([\d.]+) s")
_OPENED = re.compile(r"^(\S+) .*Session (\S+) .*→ connected")
_LOST = re.compile(r"^(\S+) .*Session (\S+) connected →")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    minutes: float
    link_lives_s: float
    after_minutes: float
    is_quiet: bool


async def measure(run: Run, folder: Path) -> None:
    async with AsyncExitStack() as held:
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim, HOLDFAST_HEALTH_INTERVAL_S="5"))
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        before = await _logins(wasim)
        began_at = datetime.now(UTC).timestamp()
        if not run.is_quiet:
            await wasim.fault("flap", afterMs=round(run.link_lives_s * 1000), seconds=run.minutes * 60)
            await wasim.fault("cut")
        await _minutes(run.minutes, gateway, wasim, before)
        _print_uptime(gateway, began_at, datetime.now(UTC).timestamp())
        _print_delays(gateway)
        during = await _logins(wasim)
        print(f"connects in {run.minutes:g} min: {during - before} of {len(COMPANIES)} sessions")
        if not run.is_quiet:
            print(f"the network is stable for {run.after_minutes:g} min")
            await _minutes(run.after_minutes, gateway, wasim, during)
            print(f"connects in them: {await _logins(wasim) - during}")
        for line in gateway.log_lines("Alert "):
            print(line)
        words = ("Alert raised", "Alert cleared")
        print(", ".join(f"{word}: {len(gateway.log_lines(word))}" for word in words))


async def _minutes(minutes: float, gateway: Served, wasim: Wasim, before: int) -> None:
    """Print a line each minute: the connects in it, budget left and state of each session."""
    for minute in range(round(minutes)):
        await asyncio.sleep(60)
        now = await _logins(wasim)
        found = [await _diagnosis(gateway, company) for company in COMPANIES]
        budgets = [each["budget"]["left"] for each in found]
        attempts = [each["session"]["reconnectAttempts"] for each in found]
        states = Counter(f"{each['session']['state']} {each['status']}" for each in found)
        seen = ", ".join(f"{count} {state}" for state, count in states.items())
        print(f"minute {minute + 1}: {now - before} connects, attempts {attempts}, budget left {budgets}, {seen}")
        before = now


async def _diagnosis(gateway: Served, company: str) -> Json:
    found: Json = await gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{company}")
    return found


async def _logins(wasim: Wasim) -> int:
    """Return how many connections wasim has accepted so far."""
    stats = await wasim.get("/stats")
    return int(stats["connects"])


def _print_uptime(gateway: Served, since: float, until: float) -> None:
    """Print the share of time from `since` to `until` (Unix seconds) that each session was connected, by the log."""
    up_s = dict.fromkeys(COMPANIES, 0.0)
    open_since = dict.fromkeys(COMPANIES, since)
    for line in gateway.log_lines("Session "):
        if lost := _LOST.search(line):
            up_s[lost[2]] += max(_unix(lost[1]) - open_since.pop(lost[2], since), 0)
        elif opened := _OPENED.search(line):
            open_since[opened[2]] = max(_unix(opened[1]), since)
    for company, at in open_since.items():
        up_s[company] += max(until - at, 0)
    print(", ".join(f"{company} up {up_s[company] / (until - since):.1%}" for company in COMPANIES))


def _unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _print_delays(gateway: Served) -> None:
    """Print the planned delays of each session, and the seconds between its connects."""
    plans: dict[str, list[str]] = {company: [] for company in COMPANIES}
    starts: dict[str, list[float]] = {company: [] for company in COMPANIES}
    for line in gateway.log_lines("Session "):
        if plan := _PLAN.search(line):
            plans[plan[1]].append(plan[3])
        if opened := _OPENED.search(line):
            starts[opened[2]].append(_unix(opened[1]))
    for company, delays in plans.items():
        apart = [round(after - at, 1) for at, after in zip(starts[company], starts[company][1:], strict=False)]
        print(f"{company}: planned {' '.join(delays) or 'nothing'}; connects apart by {apart} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--lives", type=float, default=2, help="seconds from the login of a link to its reset")
    parser.add_argument("--after", type=float, default=3, help="minutes with a good network afterwards")
    parser.add_argument("--quiet", action="store_true", help="no faults at all")
    args = parser.parse_args()
    run = Run(minutes=args.minutes, link_lives_s=args.lives, after_minutes=args.after, is_quiet=args.quiet)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(run, Path(folder)))


if __name__ == "__main__":
    main()
