"""Whether the owners of phones are online, and which connections are notified.

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
class Shown:
    available: bool = False
    last_at: float | None = None
    """When the owner was last online; None: never, or hidden."""


class Presences:
    def __init__(self, directory: Directory, links: Links) -> None:
        self._directory = directory
        self._links = links
        self._shown: dict[str, Shown] = {}

    def show(self, number: str, *, available: bool, now: float) -> None:
        """A phone's owner opens WhatsApp, or leaves it."""
        self._shown[number] = Shown(available, None if available else now)
        for link in self._links.logged_in():
            if number in link.subscriptions:
                self._tell(link, number)

    def subscribe(self, link: Link, jid: str) -> None:
        """A client asks for the presence of an account, and gets it at once."""
        account = self._directory.find(parse_jid(jid))
        if account is not None:
            link.subscriptions.add(account.number)
            self._tell(link, account.number)

    def now_available(self, link: Link) -> None:
        """A client has become available: it is notified of what it subscribed to."""
        for number in sorted(link.subscriptions):
            self._tell(link, number)

    def _tell(self, link: Link, number: str) -> None:
        if not link.available or link.address is None:
            return
        mode = self._directory.accounts[link.address.number].addressing
        attrs = {"from": str(self._directory.jid(Address(number, PHONE), mode))}
        shown = self._shown.get(number, Shown())
        if not shown.available:
            attrs |= {"type": "unavailable", "last": "deny" if shown.last_at is None else str(int(shown.last_at))}
        self._links.send(link, Node("presence", attrs))
