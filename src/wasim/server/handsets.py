"""What simulated phones hear and say: they open messages, keep an inbox, send receipts, ask again, and write texts.

A phone is an honest client that lives inside the server: it takes stanzas and gives stanzas, and reads nothing that is
not encrypted for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from wasim.server import keys as server_keys
from wasim.server.conversations import Conversations, KeyReused, Redelivered
from wasim.server.entropy import Entropy
from wasim.server.phones import Phones
from wasim.server.state import PHONE, Account, Address, Device, Directory
from wasim.wire import content
from wasim.wire.content import Content, seal, unseal
from wasim.wire.errors import WireError
from wasim.wire.jids import PN, Jid, parse_jid
from wasim.wire.nodes import Node
from wasim.wire.protobuf import encode
from wasim.wire.ratchet import Bundle, CannotOpen

READ_AFTER_S = 0.2
RETRIES = 5
KEYS_FROM_RETRY = 2
"""From the second time on a phone sends its keys along, so that the sender can begin anew."""
_INBOX, _TALLY, _SENT = "inbox", "tally", "sent"


class Letter(msgspec.Struct, kw_only=True):
    """A message in a phone's inbox, by its id."""

    id: str
    sender: str
    reply_to: str
    """The address its receipts go to."""
    first_at: float
    text: str | None = None
    kind: str = "unknown"
    count: int = 0
    """How often it arrived and was opened."""
    undecryptable: int = 0
    """How often it arrived and was not."""


class Tally(msgspec.Struct, kw_only=True):
    """What a phone can say about those who write to it."""

    decrypted: int = 0
    undecryptable: int = 0
    redelivered: int = 0
    reused_keys: int = 0
    """Messages encrypted with a key that another message had used: must stay 0."""


class SentText(msgspec.Struct, frozen=True, kw_only=True):
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A stanza that a phone sends, after a while."""

    node: Node
    after_s: float = 0.0


@dataclass(slots=True)
class Spoken:
    """What a phone says now, and linked devices whose prekeys it used up on the way."""

    said: list[Said] = field(default_factory=list)
    low: list[Address] = field(default_factory=list)


class Handsets:
    def __init__(self, directory: Directory, phones: Phones, talks: Conversations, entropy: Entropy) -> None:
        self._directory = directory
        self._phones = phones
        self._talks = talks
        self._entropy = entropy
        self._inbox: dict[str, dict[str, Letter]] = {}
        self._tallies: dict[str, Tally] = {}
        self._sent: dict[tuple[str, str], SentText] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Takes back a record that was noted; others are passed over."""
        number, _, id_ = key.partition(">")
        match kind:
            case "inbox":
                self._inbox.setdefault(number, {})[id_] = msgspec.msgpack.decode(value, type=Letter)
            case "tally":
                self._tallies[number] = msgspec.msgpack.decode(value, type=Tally)
            case "sent":
                self._sent[number, id_] = msgspec.msgpack.decode(value, type=SentText)

    def inbox(self, number: str) -> list[Letter]:
        """What arrived, oldest first."""
        return sorted(self._inbox.get(number, {}).values(), key=lambda letter: letter.first_at)

    def tally(self, number: str) -> Tally:
        return self._tallies.setdefault(number, Tally())

    # Hearing

    def receive(self, number: str, node: Node, *, now: float) -> Spoken:
        """What the phone says to a stanza that the server brings it."""
        sender = self._address(node.attrs.get("from", ""))
        if sender is None:
            return Spoken()
        if node.tag == "message":
            return Spoken(self._message(number, sender, node, now))
        if node.tag == "receipt" and node.attrs.get("type") == "retry":
            return self._send_again(number, sender, node)
        return Spoken()

    def _address(self, text: str) -> Address | None:
        jid = parse_jid(text)
        account = self._directory.find(jid)
        return Address(account.number, jid.device) if account is not None and jid is not None else None

    def _message(self, number: str, sender: Address, node: Node, now: float) -> list[Said]:
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
        keys = self._phones.keys(number)
        enc = node.child("enc")
        if enc is None:
            raise CannotOpen("a message without anything encrypted")
        plaintext = self._talks.decrypt(keys, sender, enc.attrs.get("type", ""), enc.data)
        if enc.attrs.get("type") == "pkmsg":
            self._phones.keep(keys)
        return unseal(plaintext)

    def _took(self, number: str, sender: Address, node: Node, opened: Content | None, now: float) -> list[Said]:
        attrs = {"id": node.attrs["id"], "to": node.attrs["from"]}
        if node.attrs.get("category") == "peer":
            return [Said(Node("receipt", attrs | {"type": "peer_msg"}))]
        if "recipient" in node.attrs:
            return [Said(Node("receipt", attrs | {"type": "sender", "recipient": node.attrs["recipient"]}))]
        letter = self._letter(number, sender, node, now)
        letter.count += 1
        if opened is not None and letter.count == 1:
            letter.text, letter.kind = opened.text, opened.kind
        self._note_letter(number, letter)
        said = [Said(Node("receipt", attrs))]
        if self._directory.accounts[number].auto_read:
            said.append(Said(read_receipt(letter), READ_AFTER_S))
        return said

    def _letter(self, number: str, sender: Address, node: Node, now: float) -> Letter:
        letters = self._inbox.setdefault(number, {})
        id_ = node.attrs["id"]
        if id_ not in letters:
            letters[id_] = Letter(id=id_, sender=sender.number, reply_to=node.attrs["from"], first_at=now)
        return letters[id_]

    def _note_letter(self, number: str, letter: Letter) -> None:
        self._directory.note(_INBOX, f"{number}>{letter.id}", msgspec.msgpack.encode(letter))

    def _failed(self, number: str, sender: Address, node: Node, now: float) -> list[Said]:
        """Asks for the message again, up to five times."""
        letter = self._letter(number, sender, node, now)
        letter.undecryptable += 1
        self._note_letter(number, letter)
        if letter.undecryptable > RETRIES:
            return []
        return [Said(self._retry_receipt(number, node, letter.undecryptable))]

    def _retry_receipt(self, number: str, node: Node, count: int) -> Node:
        phone = self._device(number)
        attrs = {"id": node.attrs["id"], "to": node.attrs["from"], "type": "retry"}
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

    # Saying

    def read(self, number: str, id_: str) -> Node | None:
        """The read receipt for a message in the inbox; None when there is no such message."""
        letter = self._inbox.get(number, {}).get(id_)
        return read_receipt(letter) if letter is not None else None

    def write(self, number: str, to: Account, text: str, id_: str) -> Spoken:
        """A text to another account: encrypted for all of its devices, and copies for one's own."""
        self._sent[number, id_] = SentText(to=to.number, text=text)
        self._directory.note(_SENT, f"{number}>{id_}", msgspec.msgpack.encode(self._sent[number, id_]))
        spoken = Spoken()
        holders = [
            Node(
                "to", {"jid": str(self._directory.jid(device.address, "pn"))}, [self._enc(number, device, what, spoken)]
            )
            for device, what in self._copies(number, to, text)
        ]
        attrs = {"to": str(Jid(to.number, PN)), "id": id_, "type": "text"}
        spoken.said.append(Said(Node("message", attrs, [Node("participants", {}, holders)])))
        return spoken

    def _copies(self, number: str, to: Account, text: str) -> Iterator[tuple[Device, Content]]:
        words = Content(conversation=text)
        for device in self._directory.devices_of(to.number):
            if device.address != Address(number, PHONE):
                yield device, words
        if to.number == number:
            return
        copy = Content(device_sent=content.DeviceSent(destination=str(Jid(to.number, PN)), message=words))
        for device in self._directory.devices_of(number):
            if device.device != PHONE:
                yield device, copy

    def _enc(self, number: str, device: Device, what: Content, spoken: Spoken, **attrs: str) -> Node:
        if not self._talks.knows(number, device.address):
            self._begin(number, device, spoken)
        pad = self._entropy(1)[0] % 16 + 1
        kind, data = self._talks.encrypt(number, device.address, seal(what, pad=pad))
        return Node("enc", {"v": "2", "type": kind, **attrs}, data)

    def _begin(self, number: str, device: Device, spoken: Spoken) -> None:
        given = server_keys.take(self._directory, device)
        if given.low and device.device != PHONE:
            spoken.low.append(device.address)
        if device.device == PHONE:
            self._phones.refill(device.number)
        prekey_id, prekey = given.prekey or (None, None)
        signed = device.signed_prekey
        bundle = Bundle(device.identity, signed.id, signed.public, prekey_id, prekey)
        self._talks.begin(self._phones.keys(number), device.address, bundle)

    def _send_again(self, number: str, to: Address, node: Node) -> Spoken:
        """Somebody could not open a text of ours: it is encrypted anew, on a new session."""
        sent = self._sent.get((number, node.attrs.get("id", "")))
        device = self._directory.device(to)
        retry = node.child("retry")
        count = int(retry.attrs.get("count", "1")) if retry is not None else 1
        spoken = Spoken()
        if sent is None or device is None or count > RETRIES:
            return spoken
        self._begin(number, device, spoken)
        words = Content(conversation=sent.text)
        attrs = {"to": str(self._directory.jid(to, "pn")), "id": node.attrs["id"], "type": "text"}
        if to.number == number:
            destination = str(Jid(sent.to, PN))
            words = Content(device_sent=content.DeviceSent(destination=destination, message=words))
            attrs["recipient"] = destination
        enc = self._enc(number, device, words, spoken, count=str(count))
        spoken.said.append(Said(Node("message", attrs | {"device_fanout": "false"}, [enc])))
        return spoken

    def welcome(self, device: Device, *, now: float) -> Spoken:
        """What a phone tells a device that was just linked: the key of its settings, and its (empty) history."""
        spoken = Spoken()
        for note in (self._sync_keys(device, now), _history()):
            enc = self._enc(device.number, device, Content(protocol=note), spoken)
            attrs = {"to": str(self._directory.jid(device.address, "pn")), "id": self.new_id()}
            spoken.said.append(Said(Node("message", attrs | {"type": "text", "category": "peer"}, [enc])))
        return spoken

    def _sync_keys(self, device: Device, now: float) -> content.ProtocolNote:
        keys = self._phones.keys(device.number)
        fingerprint = content.SyncKeyFingerprint(
            raw_id=self._directory.accounts[device.number].raw_id,
            current_index=device.key_index,
            device_indexes=(0, device.key_index),
        )
        key = content.SyncKey(
            key_id=content.SyncKeyId(key_id=keys.sync_key_id),
            key_data=content.SyncKeyData(key=keys.sync_key, fingerprint=fingerprint, timestamp=int(now)),
        )
        return content.ProtocolNote(type=content.APP_STATE_SYNC_KEY_SHARE, sync_keys=content.SyncKeyShare(keys=(key,)))

    def new_id(self) -> str:
        """An id as phones make them."""
        return f"3A{self._entropy(9).hex().upper()}"


def read_receipt(letter: Letter) -> Node:
    return Node("receipt", {"id": letter.id, "to": letter.reply_to, "type": "read"})


def _history() -> content.ProtocolNote:
    history = content.HistorySync(sync_type=content.INITIAL_BOOTSTRAP, chunk_order=1, progress=100)
    notice = content.HistorySyncNotification(
        sync_type=content.INITIAL_BOOTSTRAP, chunk_order=1, progress=100, inline=zlib.compress(encode(history))
    )
    return content.ProtocolNote(type=content.HISTORY_SYNC_NOTIFICATION, history=notice)
