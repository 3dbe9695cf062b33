"""The durable state of alerts, also while the store fails: failed writes are repeated with the next one.

Alerts about a failing database must be sent while it fails. A failing store therefore costs durability, never an alert.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from holdfast.health.stores import AlertRows, AlertsNotStored, PendingAlert

log = logging.getLogger(__name__)


class AlertQueue:
    """The stored rows, and the changes that are not stored yet."""

    def __init__(self, rows: AlertRows) -> None:
        self._rows = rows
        self._book: str | None = None
        self._added: list[PendingAlert] = []
        self._settled: list[tuple[str, str]] = []

    async def begin(self) -> tuple[str | None, list[PendingAlert]]:
        """The stored alert book and the undelivered alerts. Raises `AlertsNotStored`."""
        self._book = await self._rows.book()
        return self._book, await self._rows.pending()

    async def adopt(self, addresses: Collection[str], *, before: str) -> list[PendingAlert]:
        """The undelivered alerts of nodes that are gone, which are this node's from now on, as `AlertRows` says."""
        try:
            return await self._rows.adopt(addresses, before=before)
        except AlertsNotStored as error:
            log.error("Can't look for alerts of nodes that are gone: %s", error)  # noqa: TRY400
            return []

    async def is_owned(self, alert: PendingAlert) -> bool:
        """Whether this node must still deliver an alert. True while the store fails: rather twice than not at all."""
        if alert in self._added:
            return True
        try:
            return await self._rows.is_owned(alert.id, alert.address)
        except AlertsNotStored:
            return True

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        """Store the new alert book and its alerts. Writes nothing if nothing changed."""
        self._added += added
        if book == self._book and not self._added:
            return
        taken = list(self._added)
        try:
            await self._rows.keep(book, taken)
        except AlertsNotStored as error:
            log.error("Alerts can't be stored, and a restart may repeat them: %s", error)  # noqa: TRY400
            return
        self._book, self._added = book, [alert for alert in self._added if alert not in taken]
        await self._settle_all()

    async def settle(self, alert: PendingAlert) -> None:
        """Record that an alert needs no further delivery. The store applies this after a write that is in progress."""
        self._added = [each for each in self._added if each != alert]
        self._settled.append((alert.id, alert.address))
        await self._settle_all()

    async def _settle_all(self) -> None:
        while self._settled:
            settled = self._settled.pop(0)
            try:
                await self._rows.settle(*settled)
            except AlertsNotStored as error:
                self._settled.insert(0, settled)
                log.error("Can't record that an alert was delivered, so a restart may send it again: %s", error)  # noqa: TRY400
                return
