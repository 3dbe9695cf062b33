"""How much a company has stored, as quotas count it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxUsage:
    """Messages of a company that are not sent yet."""

    messages: int
    bytes: int
    """Size of their contents, without media."""


class Usage(Protocol):
    """What companies have stored."""

    async def outbox(self, company: str) -> OutboxUsage: ...

    async def media_bytes(self, company: str) -> int:
        """Bytes of the stored media of a company, inbound and outbound."""
