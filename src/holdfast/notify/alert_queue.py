"""The durable state of alerts, also while the store fails: failed writes are repeated with the next one, or by
`catch_up`.

Alerts about a failing database must be sent while it fails. A failing store therefore costs durability, never an alert.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Sequence

from holdfast.health.stores import AlertRows, AlertsNotStored, PendingAlert

log = logging.getLogger(__name__)


class AlertQueue:
    """The stored rows, and the changes that are not stored yet."""

    def __init__(self, rows: AlertRows) -> None:
        self._rows = rows
        self._book: str | None = None
        """The stored alert book."""
        self._newest_book: str | None = None
        """The alert book to be stored."""
        self._added: list[PendingAlert] = []
        self._settled: list[tuple[str, str]] = []
        self.may_lack_adopted = False
        """Whether alerts may be stored as this node's that it does not know of: an adoption failed, which may have been
        committed all the same."""

    async def begin(self) -> tuple[str | None, list[PendingAlert]]:
        """The stored alert book and the undelivered alerts. Raises `AlertsNotStored`."""
        self._book = self._newest_book = await self._rows.book()
        return self._book, await self._rows.pending()

    async def adopt(self, addresses: Collection[str], *, before: str) -> list[PendingAlert]:
        """The undelivered alerts of nodes that have stopped, which this node delivers from now on (see `AlertRows`).

        After an adoption that failed: all undelivered alerts of this node, of which it may know some.
        """
        try:
            adopted = await self._rows.adopt(addresses, before=before)
            found = await self._rows.pending() if self.may_lack_adopted else adopted
        except AlertsNotStored as error:
            if not self.may_lack_adopted:
                log.error("Can't look for alerts of nodes that are gone: %s", error)  # noqa: TRY400
            self.may_lack_adopted = True
            return []
        self.may_lack_adopted = False
        return [alert for alert in found if (alert.id, alert.address) not in self._settled]

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
        self._newest_book = book
        try:
            await self._store()
        except AlertsNotStored as error:
            log.error("Alerts can't be stored, and a restart may repeat them: %s", error)  # noqa: TRY400

    async def settle(self, alert: PendingAlert) -> None:
        """Record that an alert needs no further delivery. The store applies this after a write that is in progress."""
        self._added = [each for each in self._added if each != alert]
        self._settled.append((alert.id, alert.address))
        try:
            await self._settle_all()
        except AlertsNotStored as error:
            log.error("Can't record that an alert was delivered, so a restart may send it again: %s", error)  # noqa: TRY400

    async def catch_up(self) -> None:
        """Repeat the writes that failed. While they keep failing, nothing is logged: it was, when they first failed."""
        with contextlib.suppress(AlertsNotStored):
            await self._store()
            await self._settle_all()

    async def _store(self) -> None:
        """Raises `AlertsNotStored`."""
        book, taken = self._newest_book, list(self._added)
        if book is None or (book == self._book and not taken):
            return
        await self._rows.keep(book, taken)
        self._book, self._added = book, [alert for alert in self._added if alert not in taken]
        await self._settle_all()

    async def _settle_all(self) -> None:
        """Raises `AlertsNotStored`."""
        for settled in list(self._settled):
            await self._rows.settle(*settled)
            if settled in self._settled:  # another task may have settled it meanwhile
                self._settled.remove(settled)
