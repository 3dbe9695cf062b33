"""How much a company has stored, as quotas count it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxUsage:
    """Messages of a company that were not sent yet."""

    messages: int
    bytes: int
    """Of their contents, without media."""


class Usage(Protocol):
    """What companies have stored."""

    async def outbox(self, company: str) -> OutboxUsage: ...

    async def media_bytes(self, company: str) -> int:
        """Of both directions."""
