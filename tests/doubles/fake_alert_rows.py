"""Alert rows in memory, for tests: they outlive a sender, and fail on request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from holdfast.health.stores import AlertsNotStored, PendingAlert


class FakeAlertRows:
    """A `holdfast.health.stores.AlertRows`."""

    def __init__(self) -> None:
        self.fails = False
        self.torn = False
        """Adoptions take effect, but their results are lost."""
        self.stale: asyncio.Event | None = None
        """`pending` reads at once, and returns when this is set."""
        self.writes = 0
        self.orphans: list[PendingAlert] = []
        """Alerts of a node that is gone."""
        self._book: str | None = None
        self._pending: dict[tuple[str, str], PendingAlert] = {}

    async def book(self) -> str | None:
        self._answer()
        return self._book

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        self._answer()
        self._book = book
        for alert in added:
            self._pending.setdefault((alert.id, alert.address), alert)
        self.writes += 1

    async def pending(self) -> list[PendingAlert]:
        self._answer()
        found = list(self._pending.values())
        if self.stale is not None:
            await self.stale.wait()
        return found

    async def adopt(self, addresses: Collection[str], *, before: str) -> list[PendingAlert]:
        self._answer()
        taken = [each for each in self.orphans if each.address in addresses or each.made_at < before]
        self.orphans = [each for each in self.orphans if each not in taken]
        self._pending |= {(alert.id, alert.address): alert for alert in taken}
        if self.torn:
            raise AlertsNotStored("the connection was lost")
        return taken

    async def is_owned(self, alert_id: str, address: str) -> bool:
        self._answer()
        return (alert_id, address) in self._pending

    async def settle(self, alert_id: str, address: str) -> None:
        self._answer()
        self._pending.pop((alert_id, address), None)
        self.writes += 1

    def _answer(self) -> None:
        if self.fails:
            raise AlertsNotStored("the alert rows were told to fail")
