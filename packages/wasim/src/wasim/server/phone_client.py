"""How simulated phones react to stanzas: they decrypt messages, keep an inbox, send receipts, and send retry receipts.

A phone is a correct client that lives inside the server: it receives and returns stanzas, and reads only what is
encrypted for it. `phone_sender` has what it sends on request.
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
from wasim.server.phone_inbox import PhoneMessage, PhonePoll, apply, enclosure, fill, poll_of
from wasim.server.phone_sender import RETRIES, DelayedStanza, PhoneOutput, PhoneSender
from wasim.server.phones import Phones
from wasim.server.signal_sessions import KeyReused, Redelivered, SignalSessions
from wasim.server.state import PHONE, Address, Device
from wasim.wire.content import Content, unseal
from wasim.wire.errors import WireError
from wasim.wire.jids import STATUS, parse_jid
from wasim.wire.nodes import Node
from wasim.wire.polls import EncryptedVote, VoteKey
from wasim.wire.ratchet import CannotOpen

READ_AFTER_S = 0.2
KEYS_FROM_RETRY = 2
"""From this retry on a phone includes its keys, so that the sender can start a new session."""
_LETTER, _TALLY = "letter", "tally"


class ReceiptTally(msgspec.Struct, kw_only=True):
    """What a phone has counted about a sender."""

    decrypted: int = 0
    undecryptable: int = 0
    redelivered: int = 0
    reused_keys: int = 0
    """Messages encrypted with a key that was used for another message: must stay 0."""


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
        self._tallies: dict[str, ReceiptTally] = {}
        self._typing: dict[str, Typing] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        number, _, id_ = key.partition(">")
        match kind:
            case "letter":
                self._inbox.setdefault(number, {})[id_] = msgspec.msgpack.decode(value, type=PhoneMessage)
            case "tally":
                self._tallies[number] = msgspec.msgpack.decode(value, type=ReceiptTally)
            case _:
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

    def was_read(self, number: str, id_: str) -> None:
        """The read receipt was sent."""
        phone_message = self.phone_message(number, id_)
        if phone_message is not None and not phone_message.read:
            phone_message.read = True
            self._note_letter(number, phone_message)

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

    def tally(self, number: str) -> ReceiptTally:
        return self._tallies.setdefault(number, ReceiptTally())

    # Receiving

    def receive(self, number: str, node: Node, *, now: float) -> PhoneOutput:
        """The phone's reaction to a stanza from the server."""
        sender = self._address(node.attrs.get("participant") or node.attrs.get("from", ""))
        if sender is None:
            return PhoneOutput()
        if node.tag == "message":
            return PhoneOutput(self._message(number, sender, node, now))
        if node.tag == "receipt" and node.attrs.get("type") == "retry":
            return self.phone_sender.again(number, sender, node)
        if node.tag == "receipt" and node.attrs.get("type") == "server-error":
            return PhoneOutput([DelayedStanza(self._uploaded_again(number, node))])
        return PhoneOutput()

    def _uploaded_again(self, number: str, receipt: Node) -> Node:
        """The answer to a linked device that asks for the file of a message which the phone received or sent."""
        id_ = receipt.attrs.get("id", "")
        received, sent = self.phone_message(number, id_), self.phone_sender.sent(number, id_)
        media = received.media if received is not None else None if sent is None else enclosure(sent)
        return media_retry.notification(receipt, media, iv=self._entropy(media_retry.IV_BYTES))

    def see_typing(self, number: str, node: Node, *, now: float) -> None:
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
        tally = self.tally(number)
        try:
            opened: Content | None = self._open(number, sender, node)
            tally.decrypted += 1
        except Redelivered:
            opened = None
            tally.redelivered += 1
        except WireError as error:
            tally.undecryptable += 1
            tally.reused_keys += isinstance(error, KeyReused)
            self._note_tally(number)
            return self._failed(number, sender, node, now)
        self._note_tally(number)
        return self._took(number, sender, node, opened, now)

    def _note_tally(self, number: str) -> None:
        self._directory.note(_TALLY, number, msgspec.msgpack.encode(self.tally(number)))

    def _open(self, number: str, sender: Address, node: Node) -> Content:
        """The content of the message. Raises CannotOpen, and KeyReused with priority."""
        opened: Content | None = None
        failure: WireError | None = None
        for enc in node.all("enc"):
            try:
                message = self._open_one(number, sender, enc, node.attrs["from"])
            except KeyReused:
                raise
            except WireError as error:
                failure = failure or error
                continue
            if message.sender_key is None or message.kind != "unknown":
                opened = message
        if opened is None:
            raise failure or CannotOpen("a message without anything encrypted")
        return opened

    def _open_one(self, number: str, sender: Address, enc: Node, chat: str) -> Content:
        kind = enc.attrs.get("type", "")
        group = self._sender_key_group(chat)
        if kind == "skmsg" and group is not None:
            return unseal(self._groups.decrypt(number, group, sender, enc.data))
        keys = self._phones.keys(number)
        plaintext = self._sessions.decrypt(keys, sender, kind, enc.data)
        if kind == "pkmsg":
            self._phones.keep(keys)
        message = unseal(plaintext)
        if message.sender_key is not None and group is not None:
            self._groups.accept(number, group, sender, message.sender_key.message or b"")
        return message

    def _sender_key_group(self, chat: str) -> str | None:
        """Under which name sender keys of this chat are kept; None: the chat has none."""
        jid = parse_jid(chat)
        group = self._directory.group(jid)
        return STATUS.user if jid == STATUS else None if group is None else group.id

    def _took(
        self, number: str, sender: Address, node: Node, opened: Content | None, now: float
    ) -> list[DelayedStanza]:
        if node.attrs.get("category") == "peer":
            return [DelayedStanza(_receipt(node, type="peer_msg")), *self._given(sender, node, opened)]
        if "recipient" in node.attrs:
            return [DelayedStanza(_receipt(node, type="sender", recipient=node.attrs["recipient"]))]
        if sender.number == number:
            return [DelayedStanza(_receipt(node, type="sender"))]
        phone_message = self._letter(number, sender, node, now)
        phone_message.count += 1
        if opened is not None and phone_message.count == 1:
            self._fill(number, phone_message, opened)
        self._note_letter(number, phone_message)
        stanzas = [DelayedStanza(_receipt(node))]
        if self._directory.accounts[number].auto_read and not phone_message.read:
            stanzas.append(DelayedStanza(_read_receipt(phone_message), READ_AFTER_S))
        return stanzas

    def _given(self, sender: Address, node: Node, opened: Content | None) -> list[DelayedStanza]:
        """What a linked device asked this phone for."""
        note, device = opened.inner.protocol if opened is not None else None, self._directory.device(sender)
        if note is None or note.peer_request is None or device is None:
            return []
        return self.phone_sender.answer(device, note.peer_request, node.attrs["id"]).stanzas

    def _fill(self, number: str, phone_message: PhoneMessage, opened: Content) -> None:
        fill(phone_message, opened)
        if opened.inner.vote is not None and opened.inner.vote.vote is not None:
            phone_message.chosen = self._chosen(number, phone_message, opened.inner.vote.vote)
        older = self.phone_message(number, phone_message.target) if phone_message.target is not None else None
        if older is not None and apply(phone_message, older):
            self._note_letter(number, older)

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
                    return key.open(vote, poll.options)
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

    def _letter(self, number: str, sender: Address, node: Node, now: float) -> PhoneMessage:
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

    def _note_letter(self, number: str, phone_message: PhoneMessage) -> None:
        self._directory.note(_LETTER, f"{number}>{phone_message.id}", msgspec.msgpack.encode(phone_message))

    def _failed(self, number: str, sender: Address, node: Node, now: float) -> list[DelayedStanza]:
        """Ask for the message again, up to five times."""
        phone_message = self._letter(number, sender, node, now)
        phone_message.undecryptable += 1
        self._note_letter(number, phone_message)
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
