"""API keys: what is listed of one, what is stored of one that was created while Holdfast runs, and the interface of
their storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    id: str
    name: str
    digest: str
    """SHA-256 of the key, in hexadecimal digits. The key itself is not stored."""
    companies: frozenset[str]
    created_at: str
    used_at: str | None
    """Time of the last use, to the minute; None: not used yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """What may be shown of a key."""

    id: str
    name: str
    companies: frozenset[str] | None
    """None: all companies."""
    source: Literal["settings", "created"]
    created_at: str | None
    """None for keys of the settings."""
    used_at: str | None
    """Time of the last use, to the minute. For keys of the settings, uses before the last start are not known."""


class CreatedKeys(Protocol):
    """Durable, and shared by all nodes."""

    async def all(self) -> list[CreatedKey]:
        """Oldest first."""

    async def add(self, key: CreatedKey) -> None: ...

    async def remove(self, key_id: str) -> None: ...

    async def mark_used(self, used: dict[str, str]) -> None:
        """Store the times of last uses, by digest."""
