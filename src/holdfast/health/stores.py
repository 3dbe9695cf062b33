"""What alerts need kept, so that a restart neither repeats nor loses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.base.errors import HoldfastError


class NotKept(HoldfastError):
    """The store took no alert rows just now."""

    code = "alerts-not-kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlert:
    """An alert that has not reached one of its addresses. Id and address together are unique."""

    id: str
    address: str
    """A fingerprint of the address, never the address: that holds a secret."""
    subject: str
    """What it is about; alerts with one subject reach an address in their order."""
    title: str
    body: str
    severity: str
    """A `conditions.Severity`, or `over`."""
    made_at: str
    """ISO 8601, UTC, `Z`."""


class AlertRows(Protocol):
    """The alert book and the alerts that are under way. Each change is on the disk when its method returns.

    Changes take effect in the order in which they were asked for, also while an earlier one is waited for.
    Every method raises `NotKept` when the store fails.
    """

    async def book(self) -> str | None:
        """The alert book as it was last kept."""

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        """The new book and the alerts that come with it: all or nothing. One that is there already stays as it is."""

    async def pending(self) -> list[PendingAlert]:
        """What is under way, in the order in which it was kept."""

    async def settle(self, alert_id: str, address: str) -> None:
        """Delivered, or given up. One that is not there is passed over."""
