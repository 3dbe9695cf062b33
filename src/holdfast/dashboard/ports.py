"""Interfaces that `app` connects to the API: keys and their management, media URLs, webhooks, removal of companies."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from holdfast.base.api_keys import ListedKey
from holdfast.delivery.stores import Received


class CompanyGrant(Protocol):
    """The companies that a key may access."""

    def covers(self, company: str) -> bool: ...

    @property
    def companies(self) -> frozenset[str] | None:
        """None means all companies."""


class KeyLookup(Protocol):
    """The API keys."""

    @property
    def grants(self) -> tuple[tuple[bytes, CompanyGrant], ...]:
        """Grants by the hash of their key."""

    def entry(self, key: str | None) -> tuple[bytes, CompanyGrant]:
        """The hash and the grant of a key. Raises a `HoldfastError` when the key is unknown."""


class KeyManagement(Protocol):
    """Lists, creates and revokes API keys."""

    def listed(self) -> list[ListedKey]: ...

    async def create(self, *, name: str, companies: Collection[str]) -> tuple[ListedKey, str]:
        """Create a key for these companies, and return it: it can't be shown again. Raises `BadInput`, `Conflict`."""

    async def revoke(self, key_id: str) -> ListedKey:
        """Raises `NotFound`, and `Conflict` for a key of the settings."""


class MediaAddresses(Protocol):
    def url(self, received: Received) -> str | None:
        """URL from which the file of an inbound message can be fetched without a key; None when it has no file."""


class WebhookSettings(Protocol):
    async def set_url(self, company: str, url: str | None) -> str | None:
        """Set or remove the webhook URL of a company. Returns the signing secret when a new one was created.

        Raises `BadInput` when the URL can't be used.
        """


class CompanyRemoval(Protocol):
    async def clear(self, company: str) -> object:
        """Back up a company, then delete it. Raises a `HoldfastError` when nothing was deleted."""


class SignOuts(Protocol):
    """Sessions that were signed out, stored for all nodes."""

    async def add(self, login_id: str, *, now: str, forget_at: str) -> None:
        """Store a session until `forget_at`, and remove those whose time is over at `now`."""

    async def has(self, login_id: str) -> bool: ...
