"""Delivers stanzas to devices: they stay in the device's queue until it acknowledges them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wasim.server import notices
from wasim.server.directory import Directory
from wasim.server.link import Link
from wasim.server.links import Links
from wasim.server.state import PHONE, STANZA_KINDS, Address, QueuedStanza, StanzaKind
from wasim.server.timers import Timers
from wasim.wire import nodes
from wasim.wire.nodes import Node


class Delivery:
    """`to_phone` gets the stanzas for phones, which are always reachable."""

    def __init__(
        self, directory: Directory, links: Links, timers: Timers, *, to_phone: Callable[[Address, Node, float], None]
    ) -> None:
        self._directory = directory
        self._links = links
        self._timers = timers
        self._to_phone = to_phone

    def deliver(self, address: Address, kind: StanzaKind, node: Node, now: float, after_s: float = 0.0) -> None:
        """Queue a stanza for a device, and send it, after a delay of `after_s`, if the device is connected."""
        if address.device == PHONE:
            self._to_phone(address, node, now)
            return
        stanza = nodes.encode(node)
        seq = self._directory.enqueue(address, QueuedStanza(kind=kind, id=node.attrs["id"], stanza=stanza))
        link = self._links.of(address)
        if link is None or link.passive:
            return
        if after_s:
            self._timers.schedule(now + after_s, partial(self._deliver_late, link, address, seq, stanza))
        else:
            self._links.send_encoded(link, stanza)
        link.delivered = seq + 1

    def _deliver_late(self, link: Link, address: Address, seq: int, stanza: bytes, now: float) -> None:
        """Deliver, unless the device has logged in again in the meantime and got the stanza then."""
        if self._links.of(address) is link and seq in self._directory.queue(address):
            self._links.send_encoded(link, stanza)

    def deliver_waiting(self, link: Link, address: Address) -> None:
        """Send everything that waits for a device, marked `offline`, followed by an end marker."""
        waiting = [(seq, entry) for seq, entry in self._directory.queue(address) if seq >= link.delivered]
        for at, (seq, entry) in enumerate(waiting):
            node = nodes.decode(entry.stanza)
            node.attrs["offline"] = str(at)
            self._links.send(link, node)
            link.delivered = seq + 1
        self._links.send(link, notices.offline_done(len(waiting)))

    def send_unchanged(self, number: str, stanza: Node | bytes, *, now: float) -> int:
        """Send a stanza, or bytes instead of one, unchanged to the linked devices of an account; returns to how many.

        Messages, receipts and notifications with an id wait until they are acknowledged, everything else is sent now.
        """
        devices = self._directory.linked_devices(number)
        for device in devices:
            link = self._links.of(device.address)
            if isinstance(stanza, Node) and stanza.tag in STANZA_KINDS and stanza.attrs.get("id"):
                self.deliver(device.address, STANZA_KINDS[stanza.tag], stanza, now)
            elif link is not None:
                self._links.send_encoded(link, stanza if isinstance(stanza, bytes) else nodes.encode(stanza))
        return len(devices)
