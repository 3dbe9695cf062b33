"""Resolves names of people: each becomes the canonical id of the chat. Queries WhatsApp if necessary.

What WhatsApp answers is stored, so that all names of one person lead to one chat from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.base.errors import BadInput, HoldfastError, NotFound
from holdfast.delivery.recipient import jid as jid_of
from holdfast.delivery.recipient import parse_recipient, username_in
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.session_queries import SessionQueries
from holdfast.session.contacts import HIDDEN, PERSON, Contacts, Identity, KnownContact
from holdfast.session.queries import GroupMember, find_hidden, find_username

_LEARNED_AT_ONCE = 100
"""People of one write, so that a large group delays no other writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Whether somebody is on WhatsApp."""

    given: str
    chat: str | None = None
    """The canonical id of the chat; None: not on WhatsApp."""
    number: str | None = None
    lid: str | None = None
    username: str | None = None


class People:
    def __init__(self, gateway: Gateway, contacts: Contacts) -> None:
        self._gateway = gateway
        self._contacts = contacts

    async def chat(self, company: str, text: str, *, field: str) -> str:
        """The canonical id of the chat that a caller names. Asks WhatsApp only about a username.

        Raises `BadInput`, naming `field`, and for a username what a query raises.
        """
        username = username_in(text)
        if username is not None:
            return await self.by_username(company, username, field=field)
        _, jid = parse_recipient(text, field=field)
        return await self._contacts.canonical(company, jid)

    async def by_username(self, company: str, username: str, *, field: str) -> str:
        """The canonical id of the person who has this username now; when WhatsApp can't be asked, who had it last.

        Raises `BadInput` when nobody has it, or when its owner protects it with a key.
        """
        try:
            found = await self._find_username(company, await self._queries(company), username)
        except HoldfastError:
            known = await self._contacts.by_username(company, username)
            if known is None:
                raise
            return known.jid
        if found is None:
            raise BadInput(
                f'{field} "@{username}" is not the username of anybody on WhatsApp, or needs a key: ask its owner for '
                "the phone number, or to write first",
                field=field,
            )
        return found

    async def check(self, company: str, inputs: Sequence[str], *, field: str) -> list[Checked]:
        """Which of them are on WhatsApp, in their order: numbers, hidden ids and usernames.

        Raises `BadInput`, naming `field`, and what queries raise.
        """
        names = [_Name.of(text, field=field) for text in inputs]
        queries = await self._queries(company)
        numbers = await self._numbers(company, queries, [name.number for name in names if name.number])
        hidden = await self._hidden(company, queries, [name.lid for name in names if name.lid])
        usernames = {
            name.username: await self._find_username(company, queries, name.username) for name in names if name.username
        }
        return [await self._checked(company, name, numbers | hidden | usernames) for name in names]

    async def contact(self, company: str, text: str, *, field: str) -> KnownContact:
        """The known names of a person; queries WhatsApp when one is missing. Raises `NotFound` for somebody who is not
        on WhatsApp, `BadInput`, and what queries raise.
        """
        chat = await self.chat(company, text, field=field)
        if not chat.endswith((PERSON, HIDDEN)):
            raise BadInput(
                f'{field} "{text[:60]}" is not a person: give a number, a hidden id or a username', field=field
            )
        known = await self._contacts.find(company, chat)
        if known is not None and known.lid is not None and (known.number is not None or known.username is not None):
            return known
        try:
            (checked,) = await self.check(company, [chat], field=field)
        except HoldfastError:
            if known is None:
                raise
            return known
        if checked.chat is None:
            raise NotFound(f'"{chat}" is not on WhatsApp', field=field)
        return await self._contacts.find(company, checked.chat) or known or KnownContact(jid=checked.chat)

    async def learn_members(self, company: str, members: Sequence[GroupMember]) -> None:
        """Store which number and which hidden id are one person, as WhatsApp reports it about members of a group."""
        known = [Identity(jid=each.jid, lid=each.lid) for each in members if each.lid not in {None, each.jid}]
        for start in range(0, len(known), _LEARNED_AT_ONCE):
            await self._contacts.learn(company, known[start : start + _LEARNED_AT_ONCE])

    async def _queries(self, company: str) -> SessionQueries:
        return (await self._gateway.actor(company)).work.queries

    async def _numbers(self, company: str, queries: SessionQueries, numbers: Sequence[str]) -> dict[str, str | None]:
        """The canonical id of each number that is on WhatsApp."""
        if not numbers:
            return {}
        rows = await queries.check(numbers)
        found = [row for row in rows if row.chat is not None]
        await self._contacts.learn(company, [Identity(jid=row.chat or "", lid=row.lid) for row in found])
        spellings = [(jid_of(row.number), row.chat) for row in found if row.chat and row.chat != jid_of(row.number)]
        await self._contacts.learn_spellings(company, spellings)
        return {row.number: row.chat for row in rows}

    async def _hidden(self, company: str, queries: SessionQueries, lids: Sequence[str]) -> dict[str, str | None]:
        if not lids:
            return {}
        rows = await queries.ask(find_hidden(sorted(set(lids))))
        there = [row for row in rows if row.exists]
        known = [Identity(jid=row.number or row.lid, lid=row.lid, username=row.username) for row in there]
        await self._contacts.learn(company, known)
        return {row.lid: await self._contacts.canonical(company, row.lid) for row in there}

    async def _find_username(self, company: str, queries: SessionQueries, username: str) -> str | None:
        found = await queries.ask(find_username(username))
        if found.jid is None:
            return None
        await self._contacts.learn(company, [Identity(jid=found.jid, lid=found.lid, username=username)])
        return await self._contacts.canonical(company, found.jid)

    async def _checked(self, company: str, name: _Name, chats: Mapping[str, str | None]) -> Checked:
        chat = chats.get(name.number or name.lid or name.username or "")
        if chat is None:
            return Checked(given=name.given)
        known = await self._contacts.find(company, chat) or KnownContact(jid=chat)
        return Checked(given=name.given, chat=chat, number=known.number, lid=known.lid, username=known.username)


def check_people(inputs: Sequence[str], *, field: str) -> None:
    """Raises `BadInput`, naming `field`, for what `People.check` can't look up."""
    for text in inputs:
        _Name.of(text, field=field)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What a caller gave: one of the three."""

    given: str
    number: str | None = None
    lid: str | None = None
    username: str | None = None

    @classmethod
    def of(cls, given: str, *, field: str) -> _Name:
        if (username := username_in(given)) is not None:
            return cls(given=given, username=username)
        _, jid = parse_recipient(given, field=field)
        if jid.endswith(HIDDEN):
            return cls(given=given, lid=jid)
        if not jid.endswith(PERSON):
            raise BadInput(f'{field} "{given[:60]}" is a group: give people', field=field)
        return cls(given=given, number=jid.removesuffix(PERSON))
