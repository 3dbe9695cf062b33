"""The shell's main guarantee: nothing is sent before it is stored."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from wasim.clock import Clock
from wasim.shell import SAVE_AGAIN_S, Simulator
from wasim.store import Store


class FullDisk(Store):
    """A store whose writes fail for a while."""

    full = False

    def write(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        super().write(changes)


def kinds(store: Store) -> set[str]:
    return {kind for kind, _, _ in store.records()}


async def test_nothing_is_sent_while_records_cannot_be_written(tmp_path: Path) -> None:
    """When the disk has space again, all changes in the meantime are written."""
    clock = Clock()
    with FullDisk(tmp_path) as store:
        simulator = Simulator(store=store, clock=clock, host="127.0.0.1", port=0)
        store.full = True
        with simulator.update() as (server, now):
            server.phone("962302", name="Alice", now=now)
        simulator.server.open_link(1, now=clock.now())
        with simulator.update() as (server, now):
            server.phone("962303", name="Bob", now=now)
        assert kinds(store) == set()
        store.full = False
        async with asyncio.timeout(20 * SAVE_AGAIN_S):
            while not kinds(store):
                await clock.sleep(SAVE_AGAIN_S / 4)
        accounts = {key for kind, key, _ in store.records() if kind == "account"}
        assert accounts == {"962302", "962303"}
