"""The actions of simulated phones: those requested for their owners, and their reactions to stanzas.

The server relays stanzas, the phones encrypt and decrypt them; this module connects the two and schedules delays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.server.message_builder import BadMessageRequest, MessageBuilder, MessageRequest
from wasim.server.phone_client import READ_AFTER_S, PhoneClients
from wasim.server.phone_sender import PhoneOutput
from wasim.server.state import PHONE, Account, Address, Device, Group, StatusAudience, status_audience
from wasim.wire.attachments import Media
from wasim.wire.jids import PN, STATUS, Jid, parse_jid
from wasim.wire.nodes import Node


class UnknownNumber(Exception):
    """There is no such account, no such device of it, or no such group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCallbacks:
    """What phones need from the server around them."""

    receive: Callable[[Device, Node, float], None]
    """Receives a stanza from a phone."""
    synchronize_reading: Callable[[Device, Node, float], None]
    """The owner has read a message: linked devices are notified."""
    schedule: Callable[[float, Callable[[float], None]], None]
    """Schedules an action."""
    low_on_prekeys: Callable[[Address, float], None]
    """Called when a phone has used up prekeys of this device."""


class PhoneActions:
    def __init__(
        self,
        directory: Directory,
        phone_clients: PhoneClients,
        callbacks: ServerCallbacks,
        entropy: Entropy,
        *,
        now: float,
    ) -> None:
        self._directory = directory
        self._phone_clients = phone_clients
        self._message_builder = MessageBuilder(directory, phone_clients, entropy)
        self._callbacks = callbacks
        for number, id_ in phone_clients.unread():
            callbacks.schedule(now + READ_AFTER_S, partial(self._read_later, number, id_))

    # Between server and phones

    def deliver(self, address: Address, node: Node, now: float) -> None:
        """Deliver a stanza to a phone."""
        self._send_output(address, self._phone_clients.receive(address.number, node, now=now), now)

    def send_initial_sync(self, device: Device, now: float) -> None:
        """The phone sends the key of its settings and its history to a newly linked device."""
        self._send_output(
            Address(device.number, PHONE), self._phone_clients.phone_sender.initial_sync(device, now=now), now
        )

    def _send_output(self, address: Address, outgoing: PhoneOutput, now: float) -> None:
        for device in outgoing.low_on_prekeys:
            self._callbacks.low_on_prekeys(device, now)
        for stanza in outgoing.stanzas:
            if stanza.after_s:
                self._callbacks.schedule(now + stanza.after_s, partial(self._send_stanza, address, stanza.node))
            else:
                self._send_stanza(address, stanza.node, now)

    def _send_stanza(self, address: Address, node: Node, now: float) -> None:
        device = self._directory.device(address)
        if device is None:
            return
        if node.tag == "receipt" and node.attrs.get("type") == "read":
            self._phone_clients.mark_read(address.number, node.attrs["id"])
        self._callbacks.receive(device, node, now)

    def _read_later(self, number: str, id_: str, now: float) -> None:
        receipt = self._phone_clients.read(number, id_)
        if receipt is not None:
            self._send_stanza(Address(number, PHONE), receipt, now)

    # Requested actions

    def send(
        self,
        number: str,
        to: str,
        request: MessageRequest,
        id_: str | None,
        *,
        media: Media | None = None,
        audience: Iterable[str] | None = None,
        now: float,
    ) -> str:
        """The phone of `number` sends something to another account or a group, or posts a status. Returns the message's
        id.

        audience: who gets the status; None: everybody the account has exchanged messages with. Raises UnknownNumber
        when somebody does not exist, BadMessageRequest when the request is not a valid message.
        """
        if number not in self._directory.accounts:
            raise UnknownNumber(f"there is no phone {number}")
        chat = self._status(number, audience, now) if to == str(STATUS) else self._chat(to)
        if isinstance(chat, Group) and number not in chat.members:
            raise BadMessageRequest(f"{number} is not a member of the group {to}")
        plaintext = self._message_builder.build(number, chat, request, media, now=now)
        id_ = id_ or self._phone_clients.phone_sender.new_id()
        self._send_output(
            Address(number, PHONE), self._phone_clients.phone_sender.send(number, chat, plaintext, id_), now
        )
        return id_

    def _status(self, number: str, audience: Iterable[str] | None, now: float) -> StatusAudience:
        account = self._directory.accounts[number]
        numbers = sorted(account.contacts) if audience is None else list(audience)
        for each in numbers:
            self._chat(each)
        return status_audience(number, numbers, now=now)

    def _chat(self, to: str) -> Account | Group:
        """The account of a number, or the group of an address."""
        jid = parse_jid(to)
        chat = self._directory.group(jid) if jid is not None else self._directory.accounts.get(to)
        if chat is None:
            raise UnknownNumber(f"there is no group {to}" if jid is not None else f"there is no phone {to}")
        return chat

    def send_typing(self, number: str, to: str, state: str, *, now: float) -> None:
        """The phone's owner is typing (`composing`), recording (`recording`), or has stopped (`paused`)."""
        chat = self._chat(to)
        name = str(chat.jid if isinstance(chat, Group) else Jid(chat.number, PN))
        chat_state = Node("composing", {"media": "audio"}) if state == "recording" else Node(state)
        self._send_stanza(Address(number, PHONE), Node("chatstate", {"to": name}, [chat_state]), now)

    def read(self, number: str, id_: str, *, now: float) -> None:
        """The phone's owner reads a message. Raises UnknownNumber when it is not in the inbox."""
        receipt = self._phone_clients.read(number, id_)
        if receipt is None:
            raise UnknownNumber(f"the phone {number} has no message {id_}")
        self._send_stanza(Address(number, PHONE), receipt, now)
        phone = self._directory.device(Address(number, PHONE))
        if phone is not None:
            self._callbacks.synchronize_reading(phone, receipt, now)
