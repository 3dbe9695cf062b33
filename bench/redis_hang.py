"""Measures how much slower the API is while Redis hangs: p50 and p99 of listing sessions and posting messages.

uv run python -m bench.redis_hang [--seconds 20]

Two companies on wasim write to each other five times a second each, first with a Redis that is well, then with one that
takes connections and never answers.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from tests.mail import COMPANIES, Mail
from tests.processes import running_wasim
from tests.redis_process import running_redis
from tests.served import served
from tests.traffic import LOOK, POST, Traffic


async def measure(seconds: float, folder: Path) -> None:
    async with AsyncExitStack() as held:
        redis = await held.enter_async_context(running_redis(folder))
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim, HOLDFAST_REDIS_URL=redis.url))
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        traffic = Traffic(gateway, Mail(gateway, wasim))
        async with traffic.flowing():
            begun = traffic.now()
            await asyncio.sleep(seconds)
            frozen = traffic.now()
            redis.freeze()
            await asyncio.sleep(seconds)
        _print_rates(traffic, "well", since=begun, until=frozen)
        _print_rates(traffic, "hanging", since=frozen, until=traffic.now())


def _print_rates(traffic: Traffic, redis: str, *, since: float, until: float) -> None:
    for what in (LOOK, POST):
        p50, p99 = (traffic.took_ms(what, since=since, until=until, percent=percent) for percent in (50, 99))
        print(f"Redis {redis}: {what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="How much slower is the API while Redis hangs?")
    parser.add_argument("--seconds", type=float, default=20, help="for each of the two times")
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(seconds, Path(folder)))


if __name__ == "__main__":
    main()
