"""Live state in memory alone, for a Holdfast without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from holdfast.base.clock import Clock, iso
from holdfast.live.encoding import document
from holdfast.session.stores import Availability, LiveStatus, Record


class MemoryLive:
    """Implements `holdfast.session.stores.LiveState`."""

    def __init__(self, *, node: str, clock: Clock) -> None:
        self._node = node
        self._records: dict[str, Record] = {}
        self._status = LiveStatus(
            availability=Availability.OFF,
            since=iso(clock.now()),
            sentence="live state is in memory only: set HOLDFAST_REDIS_URL to show it to other programs",
        )

    @property
    def status(self) -> LiveStatus:
        return self._status

    def put(self, record: Record) -> None:
        self._records[record.company] = record

    def release(self, company: str) -> None:
        self._records.pop(company, None)

    def remove(self, company: str) -> None:
        self._records.pop(company, None)

    async def get(self, company: str) -> Mapping[str, object] | None:
        record = self._records.get(company)
        return None if record is None else document(record, node=self._node)

    async def run(self) -> None:
        await asyncio.Event().wait()
