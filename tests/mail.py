"""Messages between two companies and a contact, and the check that each one arrived once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from holdfast.client import Json, NoServer
from tests.processes import Wasim
from tests.served import Served, eventually

COMPANIES = {"962302": "962790000002", "962303": "962790000003"}
CONTACT = "962790000099"
"""A person with a phone and no Holdfast."""

ARRIVED = frozenset({"delivered", "read"})
CHATS = [(company, to) for company in COMPANIES for to in [*COMPANIES.values(), CONTACT] if to != COMPANIES[company]]
"""Chats through the gateway: each company writes to the other one and to the contact."""
REPLIES = [(CONTACT, number) for number in COMPANIES.values()]
"""Chats by phone: the contact writes to both companies, whether or not a gateway runs."""


@dataclass(slots=True, kw_only=True)
class MailMessage:
    """One message, with a key so that repeating the request creates no second message."""

    sender: str
    """A company, or the contact."""
    to: str
    text: str
    asked: int = 0
    answer: Json | None = None

    @property
    def id(self) -> str:
        assert self.answer is not None
        return str(self.answer["id"])

    @property
    def whatsapp_id(self) -> str:
        assert self.answer is not None
        return str(self.answer["whatsappId"])


@dataclass(slots=True)
class Mail:
    """All messages of a test, in each chat in the order in which they were written."""

    gateway: Served
    wasim: Wasim
    messages: list[MailMessage] = field(default_factory=list)
    _asked_more: asyncio.Event = field(default_factory=asyncio.Event)

    async def post(self, messages: int) -> None:
        """Write that many more messages, and repeat requests until each is answered; chats keep their order."""
        chats = [*CHATS, *REPLIES]
        fresh: dict[tuple[str, str], list[MailMessage]] = {chat: [] for chat in chats}
        for n in range(messages):
            sender, to = chats[n % len(chats)]
            message = MailMessage(sender=sender, to=to, text=f"message {len(self.messages):04}")
            self.messages.append(message)
            fresh[sender, to].append(message)
        async with asyncio.TaskGroup() as tasks:
            for chat in CHATS:
                tasks.create_task(self._post_in_order(fresh[chat]))
            for chat in REPLIES:
                tasks.create_task(self._write_in_order(fresh[chat]))

    async def _post_in_order(self, messages: Sequence[MailMessage]) -> None:
        for message in messages:
            while message.answer is None:
                await self.gateway.up.wait()
                self._count_request(message)
                try:
                    message.answer = await self.gateway.send(message.sender, message.to, message.text, key=message.text)
                except (NoServer, aiohttp.ClientError):
                    continue  # the gateway was killed before it answered: try again as soon as one is up

    async def _write_in_order(self, messages: Sequence[MailMessage]) -> None:
        """Send the contact's messages from its phone."""
        for message in messages:
            self._count_request(message)
            await self.wasim.post(f"/phones/{CONTACT}/send", {"to": message.to, "text": message.text})

    def _count_request(self, message: MailMessage) -> None:
        message.asked += 1
        self._asked_more.set()

    async def until_requested(self, messages: int) -> None:
        """Returns as soon as that many requests have been made."""
        while self.asked < messages:
            self._asked_more.clear()
            await self._asked_more.wait()

    @property
    def asked(self) -> int:
        """Number of requests made so far."""
        return sum(message.asked > 0 for message in self.messages)

    @property
    def repeated_requests(self) -> int:
        return sum(message.asked > 1 for message in self.messages)

    async def delivered(self) -> int:
        """Number of messages that WhatsApp has delivered, whatever the gateway knows about them."""
        return sum(record["receipts"]["delivered"] > 0 for record in await self._records())

    async def _records(self) -> list[Json]:
        """WhatsApp's own records of messages."""
        records: list[Json] = await self.wasim.get("/messages")
        return [record for record in records if record["to"] in {to for _, to in CHATS}]

    # Checks.

    async def until_arrived(self, *, within_s: float) -> None:
        """Wait until every message has arrived: in the API, and in the inboxes of companies and contact.

        A receipt alone does not prove it: a company's phone sends receipts too, possibly before the linked device.
        """
        by_gateway = sum(message.sender in COMPANIES for message in self.messages)
        due = {"delivered": by_gateway, **{to: self._owed_to(to) for _, to in CHATS}}

        async def look() -> bool:
            seen.update(await self._arrived())
            return seen == due

        seen: dict[str, int] = {}
        try:
            await eventually(look, within_s=within_s, what="the arrival of every message")
        except AssertionError as error:
            raise AssertionError(f"{error}; due {due}, seen {seen}") from None

    async def _arrived(self) -> dict[str, int]:
        states = [message["state"] for company in COMPANIES for message in await self.gateway.messages(company)]
        arrived = {COMPANIES[company]: len(await self.gateway.inbox(company)) for company in COMPANIES}
        contact = {CONTACT: len(await self.wasim.get(f"/phones/{CONTACT}/inbox"))}
        return {"delivered": sum(state in ARRIVED for state in states), **arrived, **contact}

    def _owed_to(self, to: str) -> int:
        return sum(message.to == to for message in self.messages)

    async def check(self) -> None:
        """Check that each message arrived once, readable and in order. The error names those that did not."""
        await self._check_accepted_once()
        for company in COMPANIES:
            await self._check_inbox(company)
        await self._check_contact()
        await self._check_server()

    async def _check_accepted_once(self) -> None:
        """Repeating a request with the same key created no second message."""
        for company in COMPANIES:
            known = [message["id"] for message in await self.gateway.messages(company)]
            assert sorted(known) == sorted(message.id for message in self._of(sender=company))

    async def _check_inbox(self, company: str) -> None:
        items = await self.gateway.inbox(company)
        assert {item["type"] for item in items} <= {"text"}, "something came that nobody could read"
        for sender, number in [*COMPANIES.items(), (CONTACT, CONTACT)]:
            texts = [item["text"] for item in items if item["sender"].startswith(f"{number}@")]
            written = [message.text for message in self._of(sender=sender, to=COMPANIES[company])]
            assert texts == written, f"inbox of {company}: {_difference(written, texts)}"

    async def _check_contact(self) -> None:
        items = await self.wasim.get(f"/phones/{CONTACT}/inbox")
        for company, number in COMPANIES.items():
            texts = [item["text"] for item in items if item["from"] == number]
            written = [message.text for message in self._of(sender=company, to=CONTACT)]
            assert texts == written, f"the contact's phone: {_difference(written, texts)}"

    async def _check_server(self) -> None:
        """WhatsApp has the messages under the promised ids; no retry receipt was sent, and no key was reused."""
        records = await self._records()
        promised = {message.whatsapp_id for message in self.messages if message.sender in COMPANIES}
        assert {record["id"] for record in records if record["from"] != CONTACT} == promised
        unreadable = [record["id"] for record in records if record["resends"]]
        assert not unreadable, f"{len(unreadable)} messages could not be read at first and were asked for again"
        signal = {phone["number"]: phone["signal"] for phone in await self.wasim.get("/phones")}
        assert not any(counts["undecryptable"] or counts["reusedKeys"] for counts in signal.values()), signal

    def _of(self, *, sender: str, to: str | None = None) -> list[MailMessage]:
        return [message for message in self.messages if message.sender == sender and to in {None, message.to}]


def _difference(written: Sequence[str], seen: Sequence[str]) -> str:
    """Describe the differences in one line."""
    missing = sorted(set(written) - set(seen))
    twice = sorted({text for text in seen if seen.count(text) > 1})
    if missing or twice:
        return f"missing {missing}, twice {twice}"
    late = [text for text, due in zip(seen, written, strict=False) if text != due]
    return f"not in the order in which they were written: {late[:5]}"
