"""What alerts need kept, also while the store fails: what it did not take is given to it again.

Alerts about a failing database must get out while it fails. So a store that fails costs durability, never an alert.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from holdfast.health.stores import AlertRows, NotKept, PendingAlert

log = logging.getLogger(__name__)


class AlertQueue:
    """The rows, and what they still lack."""

    def __init__(self, rows: AlertRows) -> None:
        self._rows = rows
        self._book: str | None = None
        self._added: list[PendingAlert] = []
        self._settled: list[tuple[str, str]] = []

    async def begin(self) -> tuple[str | None, list[PendingAlert]]:
        """The book and the alerts under way, as they were kept. Raises `NotKept`."""
        self._book = await self._rows.book()
        return self._book, await self._rows.pending()

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        """Keep the new book with the alerts that come with it; nothing is written when nothing changed."""
        self._added += added
        if book == self._book and not self._added:
            return
        taken = list(self._added)
        try:
            await self._rows.keep(book, taken)
        except NotKept as error:
            log.error("Alerts are not kept, and a restart may repeat them: %s", error)  # noqa: TRY400
            return
        self._book, self._added = book, [alert for alert in self._added if alert not in taken]
        await self._settle_late()

    async def settle(self, alert: PendingAlert) -> None:
        """It needs no further delivery. If it is being kept at this moment, the store takes the one after the other."""
        self._added = [each for each in self._added if each != alert]
        self._settled.append((alert.id, alert.address))
        await self._settle_late()

    async def _settle_late(self) -> None:
        while self._settled:
            settled = self._settled.pop(0)
            try:
                await self._rows.settle(*settled)
            except NotKept as error:
                self._settled.insert(0, settled)
                log.error("An alert is still kept as undelivered: %s", error)  # noqa: TRY400
                return
