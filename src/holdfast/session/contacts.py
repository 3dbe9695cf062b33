"""People that a company has to do with: what WhatsApp reported about each, and the port of the table that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PERSON, HIDDEN = "@s.whatsapp.net", "@lid"
"""Ends of the JID of a person: by phone number, and by hidden id (LID)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What WhatsApp's server asserted about one person. Never what the person wrote: a sender could claim anything.

    A field that is None is not known, and changes nothing.
    """

    jid: str
    """By number in WhatsApp's own spelling; by hidden id where the number is not known."""
    lid: str | None = None
    username: str | None = None
    push_name: str | None = None
    """The name that the person set."""
    saved_name: str | None = None
    """The name in the phone's address book."""
    business_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownContact:
    """What is known of one person."""

    jid: str
    """The canonical id of the chat: by number where it is known, else by hidden id."""
    number: str | None = None
    lid: str | None = None
    username: str | None = None
    push_name: str | None = None
    saved_name: str | None = None
    business_name: str | None = None
    updated_at: str | None = None
    """None for somebody of whom nothing is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactsPage:
    """A part of the list of contacts."""

    people: Sequence[KnownContact]
    next: str | None
    """The JID after which the next page starts; None: there are no more."""


class Contacts(Protocol):
    async def canonical(self, company: str, jid: str) -> str:
        """The canonical id of the chat that any name of a person belongs to; other chats are unchanged."""

    async def find(self, company: str, jid: str) -> KnownContact | None:
        """The person by any JID."""

    async def contacts(self, company: str, *, after: str, limit: int, words: str = "") -> ContactsPage:
        """People ordered by JID, after `after`.

        words: a part of a name or of the number. One page is a search of some thousand contacts, so it may have fewer
        than `limit`, or none, although there is a next one.
        """

    async def by_username(self, company: str, username: str) -> KnownContact | None: ...

    async def learn(self, company: str, identities: Sequence[Identity]) -> None:
        """Store what WhatsApp reported. Chats of one person become one."""

    async def learn_spellings(self, company: str, spellings: Sequence[tuple[str, str]]) -> None:
        """WhatsApp answered each first JID with the second: they are one account."""

    async def catch_up(self) -> bool:
        """Do a part of the work that was left for later; returns whether more is left.

        The history of chats that became one is moved in parts, and so is what older versions stored elsewhere.
        """
