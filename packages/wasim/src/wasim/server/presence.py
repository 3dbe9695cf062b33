"""Whether the owners of phones are online, and which connections are notified of it.

A client subscribes to an account on each connection, and is notified while it is available itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from wasim.server.directory import Directory
from wasim.server.link import Link
from wasim.server.links import Links
from wasim.server.state import PHONE, Address
from wasim.wire.jids import parse_jid
from wasim.wire.nodes import Node


@dataclass(slots=True)
class Presence:
    available: bool = False
    last_at: float | None = None
    """When the owner was last online; None: never, or hidden."""


class Presences:
    def __init__(self, directory: Directory, links: Links) -> None:
        self._directory = directory
        self._links = links
        self._presences: dict[str, Presence] = {}

    def set(self, number: str, *, available: bool, now: float) -> None:
        """A phone's owner opens WhatsApp, or leaves it."""
        self._presences[number] = Presence(available, None if available else now)
        for link in self._links.logged_in():
            if number in link.subscriptions:
                self._send_presence(link, number)

    def subscribe(self, link: Link, jid: str) -> None:
        """A client subscribes to the presence of an account, and gets the current one."""
        account = self._directory.find(parse_jid(jid))
        if account is not None:
            link.subscriptions.add(account.number)
            self._send_presence(link, account.number)

    def now_available(self, link: Link) -> None:
        """A client has become available: it gets the presences that it subscribed to."""
        for number in sorted(link.subscriptions):
            self._send_presence(link, number)

    def _send_presence(self, link: Link, number: str) -> None:
        if not link.available or link.address is None:
            return
        mode = self._directory.accounts[link.address.number].addressing
        attrs = {"from": str(self._directory.jid(Address(number, PHONE), mode))}
        presence = self._presences.get(number, Presence())
        if not presence.available:
            attrs |= {"type": "unavailable", "last": "deny" if presence.last_at is None else str(int(presence.last_at))}
        self._links.send(link, Node("presence", attrs))
