"""Routes messages, notifications and typing from one device to others; `receipts.py` routes receipts.

Addressing: a sender names the recipient by phone number or hidden id. The recipient's account determines in which form
it sees the sender. The router never removes duplicate messages.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator

from wasim.server import groups
from wasim.server.channels import Channel, Channels
from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.fault_hooks import MESSAGE_DELIVERED, FaultHooks, LinkEnd, MessageVerdict
from wasim.server.links import Links
from wasim.server.state import PHONE, STANZA_KINDS, Account, Address, Addressing, Device, Group, MessageRecord
from wasim.wire import ratchet
from wasim.wire.jids import BROADCAST, GROUP, LID, NEWSLETTER, PN, STATUS, Jid, parse_jid
from wasim.wire.nodes import Node

UNKNOWN_RECIPIENT = "404"
NOT_A_MEMBER = "403"
_NOT_FORWARDED = {"participants", "enc", "device-identity", "tctoken", "reporting"}
_FORWARDED_ATTRS = ("type", "category", "edit", "verified_name")


class Router:
    """`end_link` carries out a fault, `typing` shows a phone who is typing, `random_fraction` returns 0 to 1."""

    def __init__(
        self,
        directory: Directory,
        channels: Channels,
        fault_hooks: FaultHooks,
        delivery: Delivery,
        links: Links,
        *,
        end_link: Callable[[int, LinkEnd, float], None],
        typing: Callable[[str, Node, float], None],
        random_fraction: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._channels = channels
        self._fault_hooks = fault_hooks
        self._delivery = delivery
        self._links = links
        self._end_link = end_link
        self._typing = typing
        self._random_fraction = random_fraction

    # Messages

    def message(self, sender: Device, stanza: Node, link: int | None, now: float) -> None:
        """Accept a message stanza: ack it, and deliver it to every device that it is encrypted for."""
        chat = parse_jid(stanza.attrs.get("recipient") or stanza.attrs.get("to", ""))
        group, account = self._directory.group(chat), self._directory.find(chat)
        channel = self._channels.find(chat)
        verdict = MessageVerdict()
        if link is not None:
            known = (
                group is not None or channel is not None or chat == STATUS or self._have_chatted(sender.number, account)
            )
            to = _recipient(chat, account)
            verdict = self._fault_hooks.on_message(sender.address, chat=to, known=known, now=now)
        if link is not None and verdict.ends_link is not None:
            self._end_link(link, verdict.ends_link, now)
        if not verdict.accepted:
            return
        error = verdict.error or self._refusal(sender, chat, account, group, channel)
        record = self._record(sender, stanza, chat, account, group, now)
        record.error = error
        targets = [] if group is not None or channel is not None else list(_targets(stanza))
        if link is None:
            record.acked = error is None
        else:
            self._ack(sender, stanza, link, verdict, error, self._phash(sender, account, targets), record)
        if stanza.attrs.get("category") != "peer":
            self._directory.touch(record)
        if error is not None or not verdict.relayed:
            return
        if group is not None:
            for device, copy in groups.device_copies(self._directory, sender, group, stanza, now):
                self._deliver_message(device.address, copy, now)
        elif channel is not None:
            self._channels.post(channel, sender, stanza, now)
        elif chat == STATUS:
            for jid, recipient_node in targets:
                self._relay_status(sender, stanza, jid, recipient_node, now)
        elif account is not None:
            self._add_contacts(sender.number, account.number)
            for jid, recipient_node in targets:
                self._relay(sender, account, stanza, jid, recipient_node, now)

    def _refusal(
        self, sender: Device, chat: Jid | None, account: Account | None, group: Group | None, channel: Channel | None
    ) -> str | None:
        """The error for a message without a recipient, to a group that its sender is not in, or to a channel of
        others."""
        if group is not None:
            return None if sender.number in group.members else NOT_A_MEMBER
        if channel is not None:
            return None if self._channels.may_post(channel, sender.number) else NOT_A_MEMBER
        return UNKNOWN_RECIPIENT if account is None and chat != STATUS else None

    def _have_chatted(self, number: str, account: Account | None) -> bool:
        """Whether they have exchanged messages before."""
        return account is not None and (account.number == number or account.number in self._contacts_of(number))

    def _contacts_of(self, number: str) -> set[str]:
        return self._directory.accounts[number].contacts

    def _deliver_message(self, to: Address, message: Node, now: float) -> None:
        """Deliver a message to a device, changed by faults unless it is between devices of one account."""
        verdict = MESSAGE_DELIVERED
        if message.attrs.get("category") != "peer":
            verdict = self._fault_hooks.on_delivery(to, is_resend=_is_resend(message), now=now)
        if verdict.damaged:
            message = _damaged(message)
        for _ in range(1 + verdict.repeated):
            self._delivery.deliver(to, "message", message, now, 0.0)

    def _record(
        self,
        sender: Device,
        stanza: Node,
        chat: Jid | None,
        account: Account | None,
        group: Group | None,
        now: float,
    ) -> MessageRecord:
        key = (sender.number, stanza.attrs.get("id", ""))
        record = self._directory.messages.get(key)
        if record is None:
            to = _recipient(chat, account)
            addressing: Addressing = "lid" if chat is not None and chat.server == LID else "pn"
            record = MessageRecord(sender=key[0], id=key[1], to=to, addressing=addressing, first_at=now, last_at=now)
            if stanza.attrs.get("category") != "peer":
                self._directory.messages[key] = record
        record.last_at = now
        if _is_resend(stanza):
            record.resends += 1
        else:
            record.count += 1
        return record

    def _ack(
        self,
        sender: Device,
        stanza: Node,
        link: int,
        verdict: MessageVerdict,
        error: str | None,
        phash: str | None,
        record: MessageRecord,
    ) -> None:
        attrs = {"class": "message", "id": record.id, "from": stanza.attrs.get("to", ""), "t": str(int(record.last_at))}
        if error is not None:
            attrs["error"] = error
        elif phash is not None:
            attrs["phash"] = phash
        ack = Node("ack", attrs)
        if not verdict.acks:
            self._fault_hooks.ack_withheld(sender.address, link, ack)
            return
        record.acked = error is None
        for _ in range(verdict.acks):
            delay_s = verdict.ack_delay_s + verdict.ack_jitter_s * self._random_fraction()
            if delay_s > 0:
                self._links.send_later(link, ack, record.last_at + delay_s)
            else:
                self._links.send_if_open(link, ack)

    def _phash(self, sender: Device, account: Account | None, targets: list[tuple[Jid, Node]]) -> str | None:
        """The server's own participant hash, if the sender left out a device; a client then refreshes its device
        list."""
        if account is None or len(targets) < 2:
            return None
        numbers = {sender.number, account.number}
        existing = {device.address for number in numbers for device in self._directory.devices_of(number)}
        existing.discard(sender.address)
        named = {Address(owner.number, jid.device) for jid, _ in targets if (owner := self._directory.find(jid))}
        if existing <= named:
            return None
        names = sorted(str(self._directory.jid(address, "pn")) for address in existing)
        return "2:" + base64.b64encode(hashlib.sha256("".join(names).encode()).digest()).decode()[:6]

    def _relay(self, sender: Device, chat: Account, stanza: Node, jid: Jid, recipient_node: Node, now: float) -> None:
        owner = self._directory.find(jid)
        target = Address(owner.number, jid.device) if owner else None
        if owner is None or target is None or target == sender.address or self._directory.device(target) is None:
            return
        if sender.number in owner.blocked:
            return
        attrs = {key: stanza.attrs[key] for key in _FORWARDED_ATTRS if key in stanza.attrs}
        attrs |= {"id": stanza.attrs.get("id", ""), "t": str(int(now))}
        attrs |= self._sender_attrs(sender, owner, chat, stanza)
        if sender.push_name:
            attrs["notify"] = sender.push_name
        self._deliver_message(target, Node("message", attrs, _copied_content(stanza, recipient_node)), now)

    def _relay_status(self, sender: Device, stanza: Node, jid: Jid, recipient_node: Node, now: float) -> None:
        """Deliver a status post to one device of its audience; the sender encrypted its sender key for each of them."""
        owner = self._directory.find(jid)
        target = Address(owner.number, jid.device) if owner else None
        if owner is None or target is None or target == sender.address or self._directory.device(target) is None:
            return
        if sender.number in owner.blocked:
            return
        other: Addressing = "pn" if owner.addressing == "lid" else "lid"
        attrs = {key: stanza.attrs[key] for key in _FORWARDED_ATTRS if key in stanza.attrs}
        attrs |= {
            "from": str(STATUS),
            "id": stanza.attrs.get("id", ""),
            "t": str(int(now)),
            "participant": str(self._directory.jid(sender.address, owner.addressing)),
            f"participant_{other}": str(self._directory.jid(Address(sender.number, PHONE), other)),
        }
        if sender.push_name:
            attrs["notify"] = sender.push_name
        self._deliver_message(
            target, Node("message", attrs, [*_copied_content(stanza, recipient_node), *stanza.all("enc")]), now
        )

    def _sender_attrs(self, sender: Device, owner: Account, chat: Account, stanza: Node) -> dict[str, str]:
        """Attributes with the sender's addresses and, for its own other devices, the chat of the message."""
        account = self._directory.accounts[sender.number]
        mode: Addressing = "lid" if account.hides_number or chat.hides_number else owner.addressing
        names = {"from": str(self._directory.jid(sender.address, mode)), "addressing_mode": mode}
        if owner.number != sender.number:
            return names | ({} if account.hides_number else _alternate_address("sender", account, mode))
        if stanza.attrs.get("category") == "peer":
            return names
        names["recipient"] = str(self._directory.jid(Address(chat.number, PHONE), mode))
        if chat.hides_number:
            return names | ({"peer_recipient_username": chat.username} if chat.username else {})
        return names | _alternate_address("peer_recipient", chat, mode) | _alternate_address("recipient", chat, mode)

    def _add_contacts(self, one: str, other: str) -> None:
        if one == other:
            return
        for number, contact in ((one, other), (other, one)):
            account = self._directory.accounts[number]
            if contact not in account.contacts:
                account.contacts.add(contact)
                self._directory.touch(account)

    def notify(self, phone: Device, stanza: Node, now: float) -> None:
        """A phone notifies one of its linked devices."""
        to = parse_jid(stanza.attrs.get("to", ""))
        target = None if to is None else Address(phone.number, to.device)
        if target is None or self._directory.device(target) is None:
            return
        attrs = {name: value for name, value in stanza.attrs.items() if name != "to"}
        attrs |= {"from": str(self._directory.jid(phone.address, "pn")), "t": str(int(now))}
        self._delivery.deliver(target, "notification", Node("notification", attrs, stanza.content), now, 0.0)

    def ack(self, sender: Device, stanza: Node) -> None:
        """A device acknowledged a stanza, with or without an error."""
        kind = STANZA_KINDS.get(stanza.attrs.get("class", ""))
        if kind is not None:
            self._directory.acknowledge(sender.address, kind, stanza.attrs.get("id", ""))

    # Typing

    def chat_state(self, sender: Device, stanza: Node, now: float) -> None:
        """Relay typing and recording to phones, and to devices that are available now."""
        chat = parse_jid(stanza.attrs.get("to", ""))
        group, account = self._directory.group(chat), self._directory.find(chat)
        if group is not None:
            author = str(self._directory.jid(sender.address, group.addressing))
            node = Node("chatstate", {"from": str(group.jid), "participant": author}, stanza.content)
            self._show_typing(sender, self._directory.members(group), node, now)
        elif account is not None:
            author = str(self._directory.jid(sender.address, account.addressing))
            node = Node("chatstate", {"from": author}, stanza.content)
            self._show_typing(sender, self._directory.devices_of(account.number), node, now)

    def _show_typing(self, sender: Device, devices: list[Device], node: Node, now: float) -> None:
        for device in devices:
            if device.number == sender.number:
                continue
            if device.device == PHONE:
                self._typing(device.number, node, now)
            elif self._links.is_available(device.address):
                self._links.send_if_connected(device.address, node)


def _recipient(chat: Jid | None, account: Account | None) -> str:
    """A phone number, or the address of a chat of several people."""
    if account is not None:
        return account.number
    if chat is not None and chat.server in (GROUP, BROADCAST, NEWSLETTER):
        return str(chat)
    return chat.user if chat is not None else ""


def _damaged(message: Node) -> Node:
    """The message with one bit inverted, so that it can't be decrypted."""
    last = next((node for node in reversed(message.children) if node.tag == "enc"), None)
    if last is None:
        return message
    broken = Node("enc", last.attrs, ratchet.damaged(last.attrs.get("type", ""), last.data))
    return Node("message", message.attrs, [broken if node is last else node for node in message.children])


def _targets(stanza: Node) -> Iterator[tuple[Jid, Node]]:
    """The devices a message is encrypted for, each with the node that contains its `enc` nodes."""
    participants = stanza.child("participants")
    recipient_nodes = list(participants.all("to")) if participants is not None else []
    for recipient_node in recipient_nodes:
        jid = parse_jid(recipient_node.attrs.get("jid", ""))
        if jid is not None:
            yield jid, recipient_node
    to = parse_jid(stanza.attrs.get("to", ""))
    if not recipient_nodes and to is not None:
        yield to, stanza


def _is_resend(stanza: Node) -> bool:
    """Whether it answers a retry receipt: encrypted again for one device, under the same id."""
    enc = stanza.child("enc")
    return enc is not None and "count" in enc.attrs


def _copied_content(stanza: Node, recipient_node: Node) -> list[Node]:
    encs = list(recipient_node.all("enc"))
    content = [node for node in stanza.children if node.tag not in _NOT_FORWARDED]
    if any(enc.attrs.get("type") == "pkmsg" for enc in encs):
        content += stanza.all("device-identity")
    return encs + content


def _alternate_address(role: str, account: Account, mode: Addressing) -> dict[str, str]:
    """The address in the form that `mode` does not use, as an attribute of a stanza."""
    if mode == "lid":
        return {f"{role}_pn": f"{account.number}@{PN}"}
    return {f"{role}_lid": f"{account.lid}@{LID}"}
