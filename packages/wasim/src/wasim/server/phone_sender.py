"""Messages that simulated phones send to people and groups, encrypted for each device, and resends on request."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import msgspec

from wasim.server import keys as server_keys
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.server.groupkeys import GroupKeys
from wasim.server.phone_history import PhoneHistories
from wasim.server.phones import Phones
from wasim.server.signal_sessions import SignalSessions
from wasim.server.state import PHONE, Account, Address, Device, Group, StatusAudience
from wasim.wire import content
from wasim.wire.attachments import GroupSenderKey
from wasim.wire.blobs import HISTORY, Blob, encrypt_blob
from wasim.wire.content import Content, ProtocolMessage, encode_padded
from wasim.wire.jids import PN, Jid, parse_jid
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode
from wasim.wire.ratchet import Bundle

Plaintext = Content | bytes
"""A message, or a padded plaintext that is encrypted unchanged and need not be a valid message."""
RETRIES = 5
MAX_SENT = 2000
"""How many sent messages of each phone are stored for resends."""
_SENT = "said"
_INLINE_BYTES = 64 * 1024
_OWN_EDIT, _OWN_DELETION = "1", "7"


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    to: str
    """Phone number, or the address of a group."""
    plaintext: bytes = msgspec.field(name="words")
    """The encoded `Message`; with `verbatim`, the unchanged plaintext. Stored as `words`."""
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class DelayedStanza:
    """A stanza that a phone sends, after a delay in seconds."""

    node: Node
    after_s: float = 0.0


@dataclass(slots=True)
class PhoneOutput:
    """Stanzas that a phone sends, and the linked devices whose prekeys it used up."""

    stanzas: list[DelayedStanza] = field(default_factory=list)
    low_on_prekeys: list[Address] = field(default_factory=list)


class PhoneSender:
    def __init__(
        self, directory: Directory, phones: Phones, sessions: SignalSessions, groups: GroupKeys, entropy: Entropy
    ) -> None:
        self._directory = directory
        self._phones = phones
        self._sessions = sessions
        self._groups = groups
        self._entropy = entropy
        self._sent: dict[str, dict[str, SentMessage]] = {}
        self.histories = PhoneHistories(directory)
        self.blobs: list[Blob] = []
        """Files for the media host, to be written before the next bytes are sent; the writer clears the list."""

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        self.histories.restore(kind, key, value)
        if kind == _SENT:
            number, _, id_ = key.partition(">")
            self._sent.setdefault(number, {})[id_] = msgspec.msgpack.decode(value, type=SentMessage)

    def sent(self, number: str, id_: str) -> Content | None:
        """The content that the phone sent under this id, if it is still kept."""
        message = self._sent.get(number, {}).get(id_)
        return None if message is None or message.verbatim else decode(Content, message.plaintext)

    def _save_sent(self, number: str, id_: str, to: str, plaintext: Plaintext) -> None:
        messages = self._sent.setdefault(number, {})
        verbatim = isinstance(plaintext, bytes)
        messages[id_] = SentMessage(
            to=to, plaintext=plaintext if isinstance(plaintext, bytes) else encode(plaintext), verbatim=verbatim
        )
        self._directory.put_record(_SENT, f"{number}>{id_}", msgspec.msgpack.encode(messages[id_]))
        while len(messages) > MAX_SENT:
            oldest = next(iter(messages))
            del messages[oldest]
            self._directory.put_record(_SENT, f"{number}>{oldest}", None)

    # Messages

    def send(self, number: str, to: Account | Group, plaintext: Plaintext, id_: str) -> PhoneOutput:
        """A message to all devices of an account and all own devices, or to a group."""
        if isinstance(to, Group):
            return self._to_group(number, to, plaintext, id_)
        self._save_sent(number, id_, to.number, plaintext)
        outgoing = PhoneOutput()
        recipients = [
            Node(
                "to",
                {"jid": str(self._directory.jid(device.address, "pn"))},
                [self._enc(number, device, what, outgoing)],
            )
            for device, what in self._for_each(number, to, plaintext)
        ]
        attrs = {"to": str(Jid(to.number, PN)), "id": id_} | _stanza_attrs(plaintext)
        outgoing.stanzas.append(DelayedStanza(Node("message", attrs, [Node("participants", {}, recipients)])))
        return outgoing

    def _for_each(self, number: str, to: Account, plaintext: Plaintext) -> Iterator[tuple[Device, Plaintext]]:
        """Every device that gets the message, with its content: own devices get a copy that names the chat."""
        for device in self._directory.devices_of(to.number):
            if device.address != Address(number, PHONE):
                yield device, plaintext
        if to.number == number or isinstance(plaintext, bytes):
            return
        copy = Content(device_sent=content.DeviceSent(destination=str(Jid(to.number, PN)), message=plaintext))
        for device in self._directory.devices_of(number):
            if device.device != PHONE:
                yield device, copy

    def _to_group(self, number: str, group: Group, plaintext: Plaintext, id_: str) -> PhoneOutput:
        """One ciphertext for all members, and the sender key for those who don't have it."""
        self._save_sent(number, id_, str(group.jid), plaintext)
        outgoing = PhoneOutput()
        devices = [one for one in self._directory.members(group) if one.address != Address(number, PHONE)]
        without_key = self._groups.without_key(number, group.id, devices)
        distribution = Content(sender_key=self._sender_key(number, group))
        distributions = []
        for device in without_key:
            jid = str(self._directory.jid(device.address, group.addressing))
            distributions.append(Node("to", {"jid": jid}, [self._enc(number, device, distribution, outgoing)]))
            self._groups.mark_distributed(number, group.id, device.address)
        data = self._groups.encrypt(number, group.id, self._padded(plaintext))
        children = [Node("participants", {}, distributions)] if distributions else []
        children.append(Node("enc", {"v": "2", "type": "skmsg"} | _enc_attrs(plaintext), data))
        attrs = {"to": str(group.jid), "id": id_} | _stanza_attrs(plaintext)
        if not isinstance(group, StatusAudience):
            attrs["addressing_mode"] = group.addressing
        outgoing.stanzas.append(DelayedStanza(Node("message", attrs, children)))
        return outgoing

    def _sender_key(self, number: str, group: Group) -> GroupSenderKey:
        return GroupSenderKey(group=str(group.jid), message=self._groups.distribution(number, group.id))

    def _enc(self, number: str, device: Device, what: Plaintext, outgoing: PhoneOutput, **attrs: str) -> Node:
        if not self._sessions.has_session(number, device.address):
            self._start_session(number, device, outgoing)
        kind, data = self._sessions.encrypt(number, device.address, self._padded(what))
        return Node("enc", {"v": "2", "type": kind} | _enc_attrs(what) | attrs, data)

    def _padded(self, plaintext: Plaintext) -> bytes:
        return plaintext if isinstance(plaintext, bytes) else encode_padded(plaintext, pad=self._entropy(1)[0] % 16 + 1)

    def _start_session(self, number: str, device: Device, outgoing: PhoneOutput) -> None:
        consumed = server_keys.consume_prekey(self._directory, device)
        if consumed.is_running_low and device.device != PHONE:
            outgoing.low_on_prekeys.append(device.address)
        if device.device == PHONE:
            self._phones.refill(device.number)
        prekey_id, prekey = consumed.prekey or (None, None)
        signed = device.signed_prekey
        bundle = Bundle(device.identity, signed.id, signed.public, prekey_id, prekey)
        self._sessions.start(self._phones.keys(number), device.address, bundle)

    # Resends

    def resend(self, number: str, to: Address, receipt: Node) -> PhoneOutput:
        """Answer a retry receipt: encrypt the message again, in a new session."""
        id_ = receipt.attrs.get("id", "")
        sent = self._sent.get(number, {}).get(id_)
        device = self._directory.device(to)
        retry = receipt.child("retry")
        count = int(retry.attrs.get("count", "1")) if retry is not None else 1
        if sent is None or device is None or count > RETRIES:
            return PhoneOutput()
        outgoing = PhoneOutput()
        self._start_session(number, device, outgoing)
        before = sent.plaintext if sent.verbatim else decode(Content, sent.plaintext)
        plaintext, attrs = self._resend_content(number, device, sent, before)
        enc = self._enc(number, device, plaintext, outgoing, count=str(count))
        outgoing.stanzas.append(DelayedStanza(Node("message", {"id": id_} | attrs, [enc])))
        return outgoing

    def _resend_content(
        self, number: str, device: Device, sent: SentMessage, plaintext: Plaintext
    ) -> tuple[Plaintext, dict[str, str]]:
        """The content for that device, and the attributes of its stanza."""
        attrs = _stanza_attrs(plaintext)
        group = self._directory.group(parse_jid(sent.to))
        if group is not None:
            self._groups.mark_distributed(number, group.id, device.address)
            participant = str(self._directory.jid(device.address, group.addressing))
            distribution = self._sender_key(number, group)
            resent = plaintext if isinstance(plaintext, bytes) else _with_sender_key(plaintext, distribution)
            return resent, attrs | {"to": sent.to, "participant": participant}
        attrs |= {"to": str(self._directory.jid(device.address, "pn")), "device_fanout": "false"}
        if device.number == number and sent.to != number and isinstance(plaintext, Content):
            destination = str(Jid(sent.to, PN))
            copy = Content(device_sent=content.DeviceSent(destination=destination, message=plaintext))
            return copy, attrs | {"recipient": destination}
        return plaintext, attrs

    # Settings and history

    def initial_sync(self, device: Device, *, now: float) -> PhoneOutput:
        """The first messages to a newly linked device: the key of its settings, and its history."""
        parts = self.histories.parts(device.number, full=device.wants_full_history, now=now)
        notes = [self._sync_keys(device, now), *(self._history(part.sync_type, part.history) for part in parts)]
        return self._to_own(device, notes)

    def answer(self, device: Device, request: content.PeerRequest, request_id: str) -> PhoneOutput:
        """Answer a linked device's request for older messages of a chat."""
        if request.on_demand is None:
            return PhoneOutput()
        history = self.histories.before(device.number, request.on_demand)
        return self._to_own(device, [self._history(content.ON_DEMAND, history, request=request_id)])

    def _to_own(self, device: Device, notes: list[content.ProtocolMessage]) -> PhoneOutput:
        outgoing = PhoneOutput()
        for note in notes:
            enc = self._enc(device.number, device, Content(protocol=note), outgoing)
            attrs = {"to": str(self._directory.jid(device.address, "pn")), "id": self.new_id()}
            outgoing.stanzas.append(DelayedStanza(Node("message", attrs | {"type": "text", "category": "peer"}, [enc])))
        return outgoing

    def _history(self, sync_type: int, history: content.HistorySync, *, request: str | None = None) -> ProtocolMessage:
        """The notification of a part of the history: in the message itself when it is short, else a file."""
        order, progress = history.chunk_order or 1, 100 if history.progress is None else history.progress
        whole = replace(history, sync_type=sync_type, chunk_order=order, progress=progress)
        compressed = zlib.compress(encode(whole))
        notice = content.HistorySyncNotification(
            sync_type=sync_type, chunk_order=order, progress=progress, request=request
        )
        if sync_type == content.INITIAL_BOOTSTRAP and len(compressed) <= _INLINE_BYTES:
            notice = replace(notice, inline=compressed)
        else:
            blob = encrypt_blob(compressed, content=HISTORY, key=self._entropy(32))
            self.blobs.append(blob)
            notice = replace(
                notice,
                sha256=blob.sha256,
                length=blob.length,
                key=blob.key,
                encrypted_sha256=blob.encrypted_sha256,
                direct_path=blob.direct_path,
            )
        return ProtocolMessage(type=content.HISTORY_SYNC_NOTIFICATION, history=notice)

    def _sync_keys(self, device: Device, now: float) -> content.ProtocolMessage:
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
        return content.ProtocolMessage(
            type=content.APP_STATE_SYNC_KEY_SHARE, sync_keys=content.SyncKeyShare(keys=(key,))
        )

    def new_id(self) -> str:
        """A message id as phones generate them."""
        return f"3A{self._entropy(9).hex().upper()}"


def _with_sender_key(plaintext: Content, distribution: GroupSenderKey) -> Content:
    return decode(Content, encode(Content(sender_key=distribution)) + encode(plaintext))


def _stanza_attrs(plaintext: Plaintext) -> dict[str, str]:
    """The attributes of a message stanza: its type, and whether it changes an older message."""
    if isinstance(plaintext, bytes):
        return {"type": "text"}
    if plaintext.kind == "reaction":
        return {"type": "reaction"}
    if plaintext.media is not None or plaintext.kind == "contact":
        return {"type": "media"}
    if plaintext.kind in ("poll", "vote"):
        return {"type": "poll"}
    edit = {"edit": _OWN_EDIT, "delete": _OWN_DELETION}.get(plaintext.kind)
    return {"type": "text"} | ({"edit": edit} if edit is not None else {})


def _enc_attrs(plaintext: Plaintext) -> dict[str, str]:
    if isinstance(plaintext, bytes):
        return {}
    if plaintext.kind == "reaction":
        return {"decrypt-fail": "hide"}
    if plaintext.kind == "contact":
        return {"mediatype": "vcard"}
    media = plaintext.media
    if media is None:
        return {}
    kind = "ptt" if media.voice else "gif" if media.gif else plaintext.kind
    return {"mediatype": kind}
