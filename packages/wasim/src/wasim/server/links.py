"""The open connections: which device is logged in on which, their output, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wasim.server.link import HandshakeDone, Link, Phase
from wasim.server.state import Address
from wasim.server.timers import Timers
from wasim.wire import nodes
from wasim.wire.nodes import Node

CLOSE_AFTER_S = 1.0
"""How long a client that was asked to disconnect may take to close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Output for one connection: frames to send, in order, and whether to close it."""

    link: int
    frames: list[bytes]
    close: bool


class Links:
    """Iterates over all connections, including those that are not logged in."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._links: dict[int, Link] = {}
        self._logged_in: dict[Address, Link] = {}
        self._dirty: dict[int, Link] = {}
        """Links that may have output."""
        self._closing: set[int] = set()

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

    def remove(self, link: int) -> None:
        """A connection was closed, by whichever side."""
        removed = self._links.pop(link, None)
        self._dirty.pop(link, None)
        self._closing.discard(link)
        if removed is not None:
            self._log_out(removed)

    def log_in(self, link: Link, address: Address) -> None:
        link.phase, link.address, link.passive = Phase.OPEN, address, True
        self._logged_in[address] = link

    def _log_out(self, link: Link) -> None:
        if link.address is not None and self.of(link.address) is link:
            del self._logged_in[link.address]

    # Bytes

    def receive(self, link: Link, data: bytes) -> list[HandshakeDone | Node]:
        """What the client sent. Raises WireError when it violates the protocol."""
        self._dirty[link.id] = link  # a handshake is answered immediately
        return link.receive(data)

    def take_output(self) -> list[Outgoing]:
        dirty, self._dirty = self._dirty, {}
        output = []
        for link in dirty.values():
            frames, link.outgoing = link.outgoing, []
            if frames or link.id in self._closing:
                output.append(Outgoing(link=link.id, frames=frames, close=link.id in self._closing))
        return output

    # Sending and closing

    def send(self, link: Link, node: Node) -> None:
        self.send_encoded(link, nodes.encode(node))

    def send_encoded(self, link: Link, stanza: bytes) -> None:
        link.send_encoded(stanza)
        self._dirty[link.id] = link

    def send_if_connected(self, address: Address, node: Node) -> None:
        link = self.of(address)
        if link is not None:
            self.send(link, node)

    def send_later(self, link: int, node: Node, at: float) -> None:
        self._timers.schedule(at, lambda _: self.send_if_open(link, node))

    def send_if_open(self, link: int, node: Node) -> None:
        """Send a node, unless the connection has ended in the meantime or is ending."""
        known = self.get(link)
        if known is not None and known.phase is Phase.OPEN:
            self.send(known, node)

    def close(self, link: Link) -> None:
        link.phase = Phase.CLOSING
        self._closing.add(link.id)
        self._dirty[link.id] = link

    def close_with(self, link: Link, node: Node, *, now: float) -> None:
        """Send a last node, such as the reason, and close the link a little later unless the client does."""
        self.send(link, node)
        link.phase = Phase.CLOSING
        self._log_out(link)
        self._timers.schedule(now + CLOSE_AFTER_S, lambda _: self.close(link) if link.id in self._links else None)

    def end_stream(
        self, link: int, *, code: str | None, attrs: dict[str, str], reason: Node | None, now: float
    ) -> None:
        """End a link with a `stream:error`."""
        content = [reason] if reason is not None else None
        self._end(link, Node("stream:error", ({"code": code} if code else {}) | attrs, content), now)

    def end_stream_without_error(self, link: int, *, now: float) -> None:
        """End a link without a reason, as WhatsApp does when it moves clients to another server."""
        self._end(link, Node("xmlstreamend"), now)

    def _end(self, link: int, node: Node, now: float) -> None:
        known = self.get(link)
        if known is not None and known.transport is not None and known.phase is not Phase.CLOSING:
            self.close_with(known, node, now=now)
