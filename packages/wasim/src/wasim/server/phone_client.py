"""How simulated phones react to stanzas: they decrypt messages, store an inbox, and send receipts and retry receipts.

A phone is a correct client inside the server: it receives and returns stanzas, and reads only what is encrypted for it.
`phone_sender` sends messages on request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from wasim.server import keys as server_keys
from wasim.server import media_retry
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.server.groupkeys import GroupKeys
from wasim.server.phone_inbox import PhoneMessage, PhonePoll, apply, fill, media_of, poll_of
from wasim.server.phone_sender import RETRIES, DelayedStanza, PhoneOutput, PhoneSender
from wasim.server.phones import Phones
from wasim.server.signal_sessions import KeyReused, Redelivered, SignalSessions
from wasim.server.state import PHONE, Address, Device
from wasim.wire.content import Content, decode_padded
from wasim.wire.errors import WireError
from wasim.wire.jids import STATUS, parse_jid
from wasim.wire.nodes import Node
from wasim.wire.polls import EncryptedVote, VoteKey
from wasim.wire.ratchet import CannotDecrypt

READ_AFTER_S = 0.2
KEYS_FROM_RETRY = 2
"""From this retry on a phone includes its keys, so that the sender can start a new session."""
_MESSAGE_RECORD, _COUNTS_RECORD = "letter", "tally"


class DecryptionCounts(msgspec.Struct, kw_only=True):
    """How many messages a phone could and could not decrypt."""

    decrypted: int = 0
    undecryptable: int = 0
    redelivered: int = 0
    reused_keys: int = 0
    """Messages encrypted with a key that was used for another message; must stay 0."""


class Typing(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody is writing to the phone's owner, or has stopped."""

    sender: str
    chat: str
    """Address of the chat."""
    state: str
    """composing, recording or paused."""
    at: float


class PhoneClients:
    def __init__(
        self, directory: Directory, phones: Phones, sessions: SignalSessions, groups: GroupKeys, entropy: Entropy
    ) -> None:
        self.phone_sender = PhoneSender(directory, phones, sessions, groups, entropy)
        self._directory = directory
        self._phones = phones
        self._sessions = sessions
        self._groups = groups
        self._entropy = entropy
        self._inbox: dict[str, dict[str, PhoneMessage]] = {}
        self._counts: dict[str, DecryptionCounts] = {}
        self._typing: dict[str, Typing] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        number, _, id_ = key.partition(">")
        if kind == _MESSAGE_RECORD:
            self._inbox.setdefault(number, {})[id_] = msgspec.msgpack.decode(value, type=PhoneMessage)
        elif kind == _COUNTS_RECORD:
            self._counts[number] = msgspec.msgpack.decode(value, type=DecryptionCounts)
        else:
            self.phone_sender.restore(kind, key, value)

    def inbox(self, number: str) -> list[PhoneMessage]:
        """Received messages, oldest first."""
        return sorted(self._inbox.get(number, {}).values(), key=lambda phone_message: phone_message.first_at)

    def phone_message(self, number: str, id_: str) -> PhoneMessage | None:
        return self._inbox.get(number, {}).get(id_)

    def read(self, number: str, id_: str) -> Node | None:
        """The read receipt for a message in the inbox; None when there is no such message."""
        phone_message = self.phone_message(number, id_)
        return _read_receipt(phone_message) if phone_message is not None else None

    def mark_read(self, number: str, id_: str) -> None:
        """Record that the read receipt was sent."""
        phone_message = self.phone_message(number, id_)
        if phone_message is not None and not phone_message.read:
            phone_message.read = True
            self._save_message(number, phone_message)

    def unread(self) -> Iterator[tuple[str, str]]:
        """Numbers of phones with automatic reading, with the ids of unread messages: the process ended before they were
        read."""
        for number, phone_messages in self._inbox.items():
            if self._directory.accounts[number].auto_read:
                yield from (
                    (number, phone_message.id)
                    for phone_message in phone_messages.values()
                    if phone_message.count and not phone_message.read
                )

    def typing(self, number: str) -> Typing | None:
        """The last typing indicator that the phone received."""
        return self._typing.get(number)

    def decryption_counts(self, number: str) -> DecryptionCounts:
        return self._counts.setdefault(number, DecryptionCounts())

    # Receiving

    def receive(self, number: str, node: Node, *, now: float) -> PhoneOutput:
        """The phone's reaction to a stanza from the server."""
        sender = self._address(node.attrs.get("participant") or node.attrs.get("from", ""))
        if sender is None:
            return PhoneOutput()
        if node.tag == "message":
            return PhoneOutput(self._message(number, sender, node, now))
        if node.tag == "receipt" and node.attrs.get("type") == "retry":
            return self.phone_sender.resend(number, sender, node)
        if node.tag == "receipt" and node.attrs.get("type") == "server-error":
            return PhoneOutput([DelayedStanza(self._media_retry(number, node))])
        return PhoneOutput()

    def _media_retry(self, number: str, receipt: Node) -> Node:
        """The answer to a linked device that requests the media of one of the phone's messages again."""
        id_ = receipt.attrs.get("id", "")
        received, sent = self.phone_message(number, id_), self.phone_sender.sent(number, id_)
        media = received.media if received is not None else None if sent is None else media_of(sent)
        return media_retry.notification(receipt, media, iv=self._entropy(media_retry.IV_BYTES))

    def receive_typing(self, number: str, node: Node, *, now: float) -> None:
        """A `chatstate`: somebody is writing or recording, or has stopped."""
        sender = self._address(node.attrs.get("participant") or node.attrs["from"])
        if sender is None or not node.children:
            return
        state = node.children[0].tag
        if node.children[0].attrs.get("media") == "audio":
            state = "recording"
        self._typing[number] = Typing(sender=sender.number, chat=node.attrs["from"], state=state, at=now)

    def _address(self, text: str) -> Address | None:
        jid = parse_jid(text)
        account = self._directory.find(jid)
        return Address(account.number, jid.device) if account is not None and jid is not None else None

    def _message(self, number: str, sender: Address, node: Node, now: float) -> list[DelayedStanza]:
        counts = self.decryption_counts(number)
        try:
            content: Content | None = self._decrypt(number, sender, node)
            counts.decrypted += 1
        except Redelivered:
            content = None
            counts.redelivered += 1
        except WireError as error:
            counts.undecryptable += 1
            counts.reused_keys += isinstance(error, KeyReused)
            self._save_counts(number)
            return self._request_retry(number, sender, node, now)
        self._save_counts(number)
        return self._handle_decrypted(number, sender, node, content, now)

    def _save_counts(self, number: str) -> None:
        self._directory.put_record(_COUNTS_RECORD, number, msgspec.msgpack.encode(self.decryption_counts(number)))

    def _decrypt(self, number: str, sender: Address, node: Node) -> Content:
        """The content of the message. Raises CannotDecrypt, and KeyReused with priority."""
        content: Content | None = None
        failure: WireError | None = None
        for enc in node.all("enc"):
            try:
                message = self._decrypt_one(number, sender, enc, node.attrs["from"])
            except KeyReused:
                raise
            except WireError as error:
                failure = failure or error
                continue
            if message.sender_key is None or message.kind != "unknown":
                content = message
        if content is None:
            raise failure or CannotDecrypt("a message without anything encrypted")
        return content

    def _decrypt_one(self, number: str, sender: Address, enc: Node, chat: str) -> Content:
        kind = enc.attrs.get("type", "")
        group = self._sender_key_group(chat)
        if kind == "skmsg" and group is not None:
            return decode_padded(self._groups.decrypt(number, group, sender, enc.data))
        keys = self._phones.keys(number)
        plaintext = self._sessions.decrypt(keys, sender, kind, enc.data)
        if kind == "pkmsg":
            self._phones.save_keys(keys)
        message = decode_padded(plaintext)
        if message.sender_key is not None and group is not None:
            self._groups.accept(number, group, sender, message.sender_key.message or b"")
        return message

    def _sender_key_group(self, chat: str) -> str | None:
        """The name under which sender keys of this chat are stored; None: the chat has none."""
        jid = parse_jid(chat)
        group = self._directory.group(jid)
        return STATUS.user if jid == STATUS else None if group is None else group.id

    def _handle_decrypted(
        self, number: str, sender: Address, node: Node, content: Content | None, now: float
    ) -> list[DelayedStanza]:
        if node.attrs.get("category") == "peer":
            return [DelayedStanza(_receipt(node, type="peer_msg")), *self._answer_peer_request(sender, node, content)]
        if "recipient" in node.attrs:
            return [DelayedStanza(_receipt(node, type="sender", recipient=node.attrs["recipient"]))]
        if sender.number == number:
            return [DelayedStanza(_receipt(node, type="sender"))]
        phone_message = self._inbox_entry(number, sender, node, now)
        phone_message.count += 1
        if content is not None and phone_message.count == 1:
            self._fill(number, phone_message, content)
        self._save_message(number, phone_message)
        stanzas = [DelayedStanza(_receipt(node))]
        if self._directory.accounts[number].auto_read and not phone_message.read:
            stanzas.append(DelayedStanza(_read_receipt(phone_message), READ_AFTER_S))
        return stanzas

    def _answer_peer_request(self, sender: Address, node: Node, content: Content | None) -> list[DelayedStanza]:
        """Answer a linked device's request to this phone."""
        protocol, device = content.inner.protocol if content is not None else None, self._directory.device(sender)
        if protocol is None or protocol.peer_request is None or device is None:
            return []
        return self.phone_sender.answer(device, protocol.peer_request, node.attrs["id"]).stanzas

    def _fill(self, number: str, phone_message: PhoneMessage, content: Content) -> None:
        fill(phone_message, content)
        if content.inner.vote is not None and content.inner.vote.vote is not None:
            phone_message.chosen = self._chosen(number, phone_message, content.inner.vote.vote)
        older = self.phone_message(number, phone_message.target) if phone_message.target is not None else None
        if older is not None and apply(phone_message, older):
            self._save_message(number, older)

    def _chosen(self, number: str, phone_message: PhoneMessage, vote: EncryptedVote) -> tuple[str, ...] | None:
        """The chosen options of a poll that the phone received or sent. Votes are encrypted under numbers or hidden
        ids, and which of them is not visible."""
        poll, creator = self.poll(number, phone_message.target or "")
        if poll is None:
            return None
        for author in self._names(creator):
            for voter in self._names(phone_message.sender):
                key = VoteKey(secret=poll.secret, poll=phone_message.target or "", creator=author, voter=voter)
                with contextlib.suppress(WireError):
                    return key.decrypt(vote, poll.options)
        return None

    def poll(self, number: str, id_: str) -> tuple[PhonePoll | None, str]:
        """A poll that the phone received or sent, and the number of its author."""
        received, sent = self.phone_message(number, id_), self.phone_sender.sent(number, id_)
        if received is not None:
            return received.poll, received.sender
        return (poll_of(sent), number) if sent is not None else (None, "")

    def _names(self, number: str) -> tuple[str, str]:
        """The addresses of an account."""
        address = Address(number, PHONE)
        return str(self._directory.jid(address, "lid")), str(self._directory.jid(address, "pn"))

    def _inbox_entry(self, number: str, sender: Address, node: Node, now: float) -> PhoneMessage:
        phone_messages = self._inbox.setdefault(number, {})
        id_ = node.attrs["id"]
        if id_ not in phone_messages:
            participant = node.attrs.get("participant")
            author = parse_jid(participant or node.attrs["from"])
            phone_messages[id_] = PhoneMessage(
                id=id_,
                sender=sender.number,
                author=str(author.bare) if author is not None else "",
                reply_to=node.attrs["from"],
                participant=participant,
                first_at=now,
            )
        return phone_messages[id_]

    def _save_message(self, number: str, phone_message: PhoneMessage) -> None:
        self._directory.put_record(
            _MESSAGE_RECORD, f"{number}>{phone_message.id}", msgspec.msgpack.encode(phone_message)
        )

    def _request_retry(self, number: str, sender: Address, node: Node, now: float) -> list[DelayedStanza]:
        """Ask for the message again, up to five times."""
        phone_message = self._inbox_entry(number, sender, node, now)
        phone_message.undecryptable += 1
        self._save_message(number, phone_message)
        if phone_message.undecryptable > RETRIES:
            return []
        return [DelayedStanza(self._retry_receipt(number, node, phone_message.undecryptable))]

    def _retry_receipt(self, number: str, node: Node, count: int) -> Node:
        phone = self._device(number)
        attrs = _receipt(node, type="retry").attrs
        if "recipient" in node.attrs:
            attrs["recipient"] = node.attrs["recipient"]
        retry = {"count": str(count), "id": node.attrs["id"], "t": node.attrs.get("t", "0"), "v": "1"}
        children = [Node("retry", retry), Node("registration", {}, phone.registration_id.to_bytes(4, "big"))]
        if count >= KEYS_FROM_RETRY:
            children.append(self._own_keys(phone))
        return Node("receipt", attrs, children)

    def _own_keys(self, phone: Device) -> Node:
        children = [
            Node("type", {}, b"\x05"),
            Node("identity", {}, phone.identity),
            server_keys.one_time(*self._phones.new_prekey(phone.number)),
            server_keys.signed(phone.signed_prekey),
        ]
        return Node("keys", {}, children)

    def _device(self, number: str) -> Device:
        return self._directory.devices[number][PHONE]


def _read_receipt(phone_message: PhoneMessage) -> Node:
    attrs = {"id": phone_message.id, "to": phone_message.reply_to, "type": "read"}
    return Node("receipt", attrs | ({"participant": phone_message.participant} if phone_message.participant else {}))


def _receipt(node: Node, **attrs: str) -> Node:
    """A receipt for that message, addressed to its sender."""
    participant = {"participant": node.attrs["participant"]} if "participant" in node.attrs else {}
    return Node("receipt", {"id": node.attrs["id"], "to": node.attrs["from"]} | participant | attrs)
