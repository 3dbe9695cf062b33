"""What the dashboard needs of its sibling, the API: keys and addresses of media. Only `app` joins them."""

from __future__ import annotations

from typing import Protocol

from holdfast.delivery.stores import Received


class CompanyGrant(Protocol):
    """What a key allows."""

    def covers(self, company: str) -> bool: ...

    @property
    def companies(self) -> frozenset[str] | None:
        """None: all."""


class KeyLookup(Protocol):
    """The keys in force."""

    @property
    def grants(self) -> tuple[tuple[bytes, CompanyGrant], ...]:
        """By the hash of each."""

    def entry(self, key: str | None) -> tuple[bytes, CompanyGrant]:
        """The key's hash and what it allows; raises a `HoldfastError` of the caller's for one that is unknown."""


class MediaAddresses(Protocol):
    def url(self, received: Received) -> str | None:
        """Where the file of an inbound message can be fetched without a key; None when it has none."""


class WebhookSettings(Protocol):
    async def set_url(self, company: str, url: str | None) -> str | None:
        """Give the company a webhook of its own, or take it away; its secret where that is new.

        Raises `BadInput` for an address that can't be used.
        """


class CompanyRemoval(Protocol):
    async def clear(self, company: str) -> object:
        """Make a backup, then remove the company and all it has. Raises a `HoldfastError` with all kept."""


class SignOuts(Protocol):
    """Sessions of the dashboard that were signed out, durable and for all processes."""

    async def add(self, login_id: str, *, now: str, forget_at: str) -> None:
        """Remember a session until `forget_at`; those that were to be forgotten by `now` go."""

    async def has(self, login_id: str) -> bool: ...
