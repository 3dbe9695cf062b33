"""WhatsApp refuses the client version of all sessions: logins that it refuses, and the time until all are back.

    uv run python -m bench.client_version [--sessions 50] [--cycles 0] [--json]

The sessions are paired with a simulated WhatsApp, which then raises its minimum revision and cuts them all. It
publishes a newer revision once every session waits, or after so many cycles of five minutes. Goals: at most 60 refused
logins, one in each cycle, and all sessions connected within 15 s of the newer revision.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.conftest import CACHE
from tests.processes import running_wasim
from tests.refused_version import CYCLE_S, Refusals, pair_many, refuse_and_publish
from tests.served import served


async def measure(folder: Path, *, sessions: int, cycles: int) -> Refusals:
    async with running_wasim(folder / "wasim") as wasim, served(folder, wasim=wasim) as gateway:
        await pair_many(gateway, wasim, sessions)
        return await refuse_and_publish(gateway, wasim, cycles=cycles)


def main() -> None:
    parser = argparse.ArgumentParser(description="What happens when WhatsApp refuses the client version of all?")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--cycles", type=int, default=0, help=f"of {CYCLE_S} s without a newer version")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    install(CACHE / "engine", node=find_node(), progress=lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), sessions=asked.sessions, cycles=asked.cycles))
    if asked.json:
        print(json.dumps({"sessions": asked.sessions, **asdict(found)}))
        return
    print(f"{asked.sessions} sessions; logins refused until all waited: {found.at_once}")
    for number, count in enumerate(found.by_cycle, start=1):
        print(f"cycle {number} of {CYCLE_S} s without a newer version: {count} refused")
    print(f"all connected {found.back_s:.1f} s after /sw.js showed a newer revision; refused in all: {found.total}")
    print(found.alert)


if __name__ == "__main__":
    main()
