"""The durable state of alerts, so that a restart neither repeats nor loses one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.base.errors import HoldfastError


class AlertsNotStored(HoldfastError):
    """The store failed to read or write alert rows."""

    code = "alerts-not-stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlert:
    """An alert that has not reached one of its addresses. Id and address together are unique."""

    id: str
    address: str
    """A fingerprint of the address, never the address itself, which holds a secret."""
    subject: str
    """What the alert is about. Alerts with the same subject reach an address in order."""
    title: str
    body: str
    severity: str
    """A `conditions.Severity`, or `over`."""
    made_at: str
    """ISO 8601, UTC, `Z`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """An alert that has not reached an address, for diagnostics."""

    address: str
    """The address without its secret."""
    title: str
    made_at: str
    tries: int
    error: str | None


class AlertRows(Protocol):
    """The alert book and the undelivered alerts. Each change is durable when its method returns.

    Changes are applied in call order, even when a call is made before an earlier one has returned.
    Every method raises `AlertsNotStored` when the store fails.
    """

    async def book(self) -> str | None:
        """The alert book as last stored; None when there is none."""

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        """Store the new book and its alerts in one transaction. An alert that is already stored stays unchanged."""

    async def pending(self) -> list[PendingAlert]:
        """The undelivered alerts, in the order in which they were stored; of several nodes, those of this one."""

    async def adopt(self, addresses: Collection[str], *, before: str) -> list[PendingAlert]:
        """Take over the undelivered alerts of nodes that have stopped, in the order in which they were stored.

        Only those for `addresses`, and all that are older than `before` (ISO 8601), because perhaps no node has their
        address any more. No other node gets them afterwards. Always empty for a process that has its database for
        itself.
        """

    async def is_owned(self, alert_id: str, address: str) -> bool:
        """Whether a stored alert is still to be delivered by this node: not delivered, and not adopted by another."""

    async def settle(self, alert_id: str, address: str) -> None:
        """Remove an alert that was delivered or given up. A missing alert is ignored."""
