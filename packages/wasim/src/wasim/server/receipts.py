"""Routes receipts: for delivered and read messages, and requests to send a message again.

A receipt is returned in the form, phone number or hidden id, in which the message's sender addressed the recipient.
"""

from __future__ import annotations

from collections.abc import Iterator

from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.fault_hooks import FaultHooks
from wasim.server.links import Links
from wasim.server.state import PHONE, Account, Address, Addressing, Device, Group
from wasim.wire.jids import LID, STATUS, Jid, parse_jid
from wasim.wire.nodes import Node

_CONFIRMS_RECEIPT = (None, "inactive", "delivery", "sender", "peer_msg", "hist_sync")
"""Types of receipts that acknowledge a message. A retry receipt is followed by an ack that does."""
_TO_ONE_DEVICE = ("retry", "sender", "enc_rekey_retry")
"""Types of receipts that go to a single device: a request to it, or a receipt for its own message."""
_TO_PHONE = "server-error"
"""A linked device requests media from its phone that the media host no longer has."""
_NOT_RELAYED = ("peer_msg", "hist_sync", "read-self", "played-self")
_READ_TYPES = ("read", "read-self", "played", "played-self")
"""Types of receipts by which the account's other linked devices are notified that messages were read."""


class Receipts:
    def __init__(self, directory: Directory, fault_hooks: FaultHooks, delivery: Delivery, links: Links) -> None:
        self._directory = directory
        self._fault_hooks = fault_hooks
        self._delivery = delivery
        self._links = links

    def receipt(self, sender: Device, stanza: Node, link: int | None, now: float) -> None:
        """Accept a receipt: acknowledge the messages in the device's queue, and relay the receipt to their sender."""
        kind = stanza.attrs.get("type")
        ids = [stanza.attrs.get("id", ""), *(item.attrs.get("id", "") for item in _items(stanza))]
        if kind in _CONFIRMS_RECEIPT:
            for id_ in ids:
                self._directory.acknowledge(sender.address, "message", id_)
        if link is not None:
            self._links.send_if_open(link, _receipt_ack(stanza))
        to = parse_jid(stanza.attrs.get("to", ""))
        group = self._directory.group(to)
        author = parse_jid(stanza.attrs.get("participant" if group is not None or to == STATUS else "to", ""))
        account = self._directory.find(author)
        if author is None or account is None or self._fault_hooks.drops_receipt(account.number, now=now):
            return
        if account.number != sender.number:
            self._count(account.number, ids, kind)
        node = self._relayed_receipt(sender, account, group, stanza, ids[0], now)
        delay_s = self._fault_hooks.receipt_delay(account.number, now=now)
        for target in self._receipt_targets(sender, Address(account.number, author.device), kind):
            self._delivery.deliver(target, "receipt", node, now, 0.0 if target.device == PHONE else delay_s)
        if kind in _READ_TYPES and sender.device != PHONE:
            self.synchronize_reading(sender, stanza, now)

    def synchronize_reading(self, reader: Device, receipt: Node, now: float) -> None:
        """Notify the account's other linked devices of what was read on this one.

        Not called when a phone reads automatically: its owner has not seen the message.
        """
        chat = parse_jid(receipt.attrs.get("to", ""))
        if chat is None:
            return
        attrs = {"id": receipt.attrs.get("id", ""), "t": str(int(now)), "type": receipt.attrs["type"]}
        group = self._directory.group(chat)
        if group is not None:
            own = str(self._directory.jid(reader.address, group.addressing))
            attrs |= {"from": str(group.jid), "participant": own}
        else:
            own = str(self._directory.jid(reader.address, "lid" if chat.server == LID else "pn"))
            attrs |= {"from": own, "recipient": str(Jid(chat.user, chat.server))}
        for device in self._directory.devices_of(reader.number):
            if device.device != PHONE and device.address != reader.address:
                node = Node("receipt", attrs, receipt.content)
                self._delivery.deliver(device.address, "receipt", node, now, 0.0)

    def _count(self, number: str, ids: list[str], kind: str | None) -> None:
        for id_ in ids:
            record = self._directory.messages.get((number, id_))
            if record is None:
                continue
            if kind in (None, "inactive", "delivery"):
                record.delivered += 1
            elif kind in ("read", "played"):
                record.read += 1
            self._directory.touch(record)

    def _relayed_receipt(
        self, sender: Device, account: Account, group: Group | None, stanza: Node, id_: str, now: float
    ) -> Node:
        attrs = {"id": id_, "t": str(int(now))}
        if group is not None:
            attrs["from"] = str(group.jid)
            attrs["participant"] = str(self._directory.jid(sender.address, group.addressing))
        elif parse_jid(stanza.attrs.get("to", "")) == STATUS:
            attrs["from"] = str(STATUS)
            attrs["participant"] = str(self._directory.jid(sender.address, account.addressing))
        else:
            mode = self._receipt_mode(sender, account, stanza, id_)
            attrs["from"] = str(self._directory.jid(sender.address, mode))
        kind = stanza.attrs.get("type")
        if kind not in (None, "inactive"):
            attrs["type"] = kind
        if "recipient" in stanza.attrs:
            attrs["recipient"] = stanza.attrs["recipient"]
        return Node("receipt", attrs, stanza.content)

    def _receipt_mode(self, sender: Device, account: Account, stanza: Node, id_: str) -> Addressing:
        """The form in which the message's sender addressed the account that now confirms it."""
        record = self._directory.messages.get((account.number, id_))
        if record is not None and account.number != sender.number:
            return record.addressing
        jid = parse_jid(stanza.attrs.get("to", ""))
        return "lid" if jid is not None and jid.server == LID else "pn"

    def _receipt_targets(self, sender: Device, to: Address, kind: str | None) -> Iterator[Address]:
        if kind in _TO_ONE_DEVICE and self._directory.device(to) is not None:
            yield to
        if kind == _TO_PHONE and to.number == sender.number:
            yield Address(to.number, PHONE)
        if kind in _TO_ONE_DEVICE or kind in _NOT_RELAYED or kind == _TO_PHONE:
            return
        for device in self._directory.devices_of(to.number):
            if device.device != PHONE and device.address != sender.address:
                yield device.address


def _items(stanza: Node) -> Iterator[Node]:
    return (item for listing in stanza.all("list") for item in listing.all("item"))


def _receipt_ack(stanza: Node) -> Node:
    attrs = {"class": "receipt", "id": stanza.attrs.get("id", ""), "from": stanza.attrs.get("to", "")}
    attrs |= {name: stanza.attrs[name] for name in ("type", "participant") if name in stanza.attrs}
    return Node("ack", attrs)
