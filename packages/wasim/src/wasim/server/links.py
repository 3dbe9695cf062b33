"""The open connections: which device is logged in on which, what has to be sent, and how connections end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wasim.server.link import Introduced, Link, Phase
from wasim.server.state import Address
from wasim.server.timers import Timers
from wasim.wire import nodes
from wasim.wire.nodes import Node

CLOSE_AFTER_S = 1.0
"""A client that was asked to disconnect has this long to close the connection itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What has to happen on one connection: frames to send, in order, and possibly its end."""

    link: int
    frames: list[bytes]
    hang_up: bool


class Links:
    """Iterating gives all connections, also those that are not logged in."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._links: dict[int, Link] = {}
        self._logged_in: dict[Address, Link] = {}
        self._dirty: dict[int, Link] = {}
        """Those that may have something to send."""
        self._doomed: set[int] = set()

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def __len__(self) -> int:
        return len(self._links)

    def get(self, link: int) -> Link | None:
        return self._links.get(link)

    def of(self, address: Address) -> Link | None:
        """The connection on which this device is logged in."""
        return self._logged_in.get(address)

    def logged_in(self) -> list[Link]:
        return list(self._logged_in.values())

    def is_available(self, address: Address) -> bool:
        link = self.of(address)
        return link is not None and link.available

    # Connections

    def open(self, link: Link) -> None:
        self._links[link.id] = link

    def close(self, link: int) -> None:
        """A connection is gone, whichever side ended it."""
        gone = self._links.pop(link, None)
        self._dirty.pop(link, None)
        self._doomed.discard(link)
        if gone is not None:
            self._log_out(gone)

    def log_in(self, link: Link, address: Address) -> None:
        link.phase, link.address, link.passive = Phase.OPEN, address, True
        self._logged_in[address] = link

    def _log_out(self, link: Link) -> None:
        if link.address is not None and self.of(link.address) is link:
            del self._logged_in[link.address]

    # Bytes

    def receive(self, link: Link, data: bytes) -> list[Introduced | Node]:
        """What the client said. Raises WireError when it violates the protocol."""
        self._dirty[link.id] = link  # a handshake is answered at once
        return link.receive(data)

    def take_output(self) -> list[Outgoing]:
        dirty, self._dirty = self._dirty, {}
        output = []
        for link in dirty.values():
            frames, link.outgoing = link.outgoing, []
            if frames or link.id in self._doomed:
                output.append(Outgoing(link=link.id, frames=frames, hang_up=link.id in self._doomed))
        return output

    # Sending and ending

    def send(self, link: Link, node: Node) -> None:
        self.send_encoded(link, nodes.encode(node))

    def send_encoded(self, link: Link, stanza: bytes) -> None:
        link.send_encoded(stanza)
        self._dirty[link.id] = link

    def send_if_connected(self, address: Address, node: Node) -> None:
        link = self.of(address)
        if link is not None:
            self.send(link, node)

    def inject_later(self, link: int, node: Node, at: float) -> None:
        self._timers.schedule(at, lambda _: self.inject(link, node))

    def inject(self, link: int, node: Node) -> None:
        """Send any node, unless the connection has ended since or is ending."""
        known = self.get(link)
        if known is not None and known.phase is Phase.OPEN:
            self.send(known, node)

    def hang_up(self, link: Link) -> None:
        link.phase = Phase.CLOSING
        self._doomed.add(link.id)
        self._dirty[link.id] = link

    def dismiss(self, link: Link, node: Node, *, now: float) -> None:
        """Send the reason why the link is ending, and end it a little later unless the client does."""
        self.send(link, node)
        link.phase = Phase.CLOSING
        self._log_out(link)
        self._timers.schedule(now + CLOSE_AFTER_S, lambda _: self.hang_up(link) if link.id in self._links else None)

    def end_stream(
        self, link: int, *, code: str | None, attrs: dict[str, str], reason: Node | None, now: float
    ) -> None:
        """End a link with a `stream:error`."""
        content = [reason] if reason is not None else None
        self._end(link, Node("stream:error", ({"code": code} if code else {}) | attrs, content), now)

    def finish_stream(self, link: int, *, now: float) -> None:
        """End a link without a reason, as WhatsApp does when it moves clients to another server."""
        self._end(link, Node("xmlstreamend"), now)

    def _end(self, link: int, node: Node, now: float) -> None:
        known = self.get(link)
        if known is not None and known.transport is not None and known.phase is not Phase.CLOSING:
            self.dismiss(known, node, now=now)
