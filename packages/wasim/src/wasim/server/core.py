"""The simulated WhatsApp server: connections, logins, pairing, and the wiring of everything else.

Sans I/O. The caller reports connections and bytes with the time (Unix seconds), and then collects what has to be done:
`take_output()` (bytes to send, links to close), `take_events()` (facts for logs and waiting callers),
`directory.take_changes()` (records to store on disk, before the bytes are sent), `next_deadline` (when to call `tick`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from wasim.server import events, notices, queries
from wasim.server.app_state import AppState
from wasim.server.calls import Calls
from wasim.server.channels import Channels
from wasim.server.entropy import Entropy, new_key, word
from wasim.server.fault_hooks import FaultHooks, LinkEnd
from wasim.server.groupkeys import GroupKeys
from wasim.server.groups import Groups
from wasim.server.identity import make_identity, restore_identity
from wasim.server.link import Introduced, Link, Phase
from wasim.server.pairing_flow import PairingFlow
from wasim.server.phone_actions import PhoneActions, PhoneLine, UnknownNumber
from wasim.server.phone_client import PhoneClients
from wasim.server.phone_settings import Change, PhoneSettings
from wasim.server.phones import Phones
from wasim.server.picture_files import PictureFiles
from wasim.server.presence import Presences
from wasim.server.router import Carrier, Router
from wasim.server.signal_sessions import KeyUses, SignalSessions
from wasim.server.state import PHONE, STANZA_KINDS, Account, Address, Device, Directory, Pending, StanzaKind
from wasim.server.timers import Action, Timers
from wasim.wire import nodes
from wasim.wire.errors import WireError
from wasim.wire.jids import LID, PN, Jid
from wasim.wire.messages import ClientPayload
from wasim.wire.nodes import Node

CLOSE_AFTER_S = 1.0
"""A client that was asked to disconnect has this long to close the connection itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What has to happen on one connection: frames to send, in order, and possibly its end."""

    link: int
    frames: list[bytes]
    hang_up: bool


class Server:
    def __init__(
        self,
        *,
        entropy: Entropy,
        fault_hooks: FaultHooks,
        records: Iterable[tuple[str, str, bytes]],
        now: float,
    ) -> None:
        self.directory, foreign = Directory.load(records)
        self.phones = Phones(self.directory, entropy)
        uses = KeyUses(self.directory)
        sessions = SignalSessions(self.directory, uses, entropy)
        group_keys = GroupKeys(self.directory, uses, entropy)
        self.phone_clients = PhoneClients(self.directory, self.phones, sessions, group_keys, entropy)
        self.app_state = AppState(self.directory, entropy)
        self.phone_settings = PhoneSettings(self.directory, self.phones, self.app_state, entropy)
        self.channels = Channels(self.directory, entropy, self._deliver)
        parts = (uses, sessions, group_keys, self.phone_clients, self.app_state, self.phone_settings, self.channels)
        for kind, key, value in foreign:
            self.phones.restore(kind, value)
            for part in parts:
                part.restore(kind, key, value)
        self.pictures = PictureFiles()
        self.links: dict[int, Link] = {}
        self.media_host: str | None = None
        """Host and port of the media host; None when there is none."""
        self._entropy = entropy
        self._fault_hooks = fault_hooks
        self._online: dict[Address, Link] = {}
        self._events: list[events.Event] = []
        self._doomed: set[int] = set()
        self._dirty: dict[int, Link] = {}
        self._timers = Timers()
        self.identity = restore_identity(foreign) or make_identity(self.directory, entropy, now=now)
        self.gate = PairingFlow(self.directory, self.phones, entropy, self, fault_hooks)
        carrier = Carrier(
            deliver=self._deliver,
            send_if_connected=self._send_if_connected,
            ack=self._ack,
            end_link=self._end_link,
            available=self._is_available,
            typing=lambda number, node, at: self.phone_clients.see_typing(number, node, now=at),
            chance=lambda: entropy(1)[0] / 255,
        )
        self._router = Router(self.directory, self.channels, fault_hooks, carrier)
        self.groups = Groups(self.directory, entropy, self._deliver)
        self.calls = Calls(self.directory, entropy, self._deliver)
        self.presences = Presences(self.directory, self._online.values, self.send)
        line = PhoneLine(
            take=self._from_phone,
            synchronize_reading=self._router.synchronize_reading,
            schedule=self._timers.schedule,
            low_on_prekeys=self._low_on_prekeys,
        )
        self.phone_actions = PhoneActions(self.directory, self.phone_clients, line, entropy, now=now)

    # Collected by the caller

    def take_output(self) -> list[Outgoing]:
        dirty, self._dirty = self._dirty, {}
        output = []
        for link in dirty.values():
            frames, link.outgoing = link.outgoing, []
            output.append(Outgoing(link=link.id, frames=frames, hang_up=link.id in self._doomed))
        return output

    def take_events(self) -> list[events.Event]:
        taken, self._events = self._events, []
        return taken

    def take_files(self) -> dict[str, bytes]:
        """Files for the media host by name, written before the next bytes are sent."""
        sender, state, pictures = self.phone_clients.phone_sender, self.app_state, self.pictures
        blobs, sender.blobs, state.blobs = [*sender.blobs, *state.blobs], [], []
        taken, pictures.files = pictures.files, {}
        return taken | {blob.name: blob.sealed for blob in blobs}

    def report(self, event: events.Event) -> None:
        self._events.append(event)

    @property
    def next_deadline(self) -> float | None:
        return self._timers.next_deadline

    def tick(self, *, now: float) -> None:
        """Do what is due by now."""
        self._timers.tick(now=now)

    # Connections

    def open_link(self, link: int, *, now: float) -> None:
        """A client connected."""
        allows_resuming = self._fault_hooks.allows_resuming
        responder = self.identity.responder(new_key(self._entropy), allows_resuming=allows_resuming)
        self.links[link] = Link(id=link, responder=responder, since=now)

    def close_link(self, link: int) -> None:
        """A connection is gone, whichever side ended it."""
        gone = self.links.pop(link, None)
        self._dirty.pop(link, None)
        self._doomed.discard(link)
        if gone is not None and gone.address is not None and self._online.get(gone.address) is gone:
            del self._online[gone.address]

    def receive(self, link: int, data: bytes, *, now: float) -> None:
        """Bytes arrived on a connection. Bytes of an unknown or a closing one are dropped."""
        known = self.links.get(link)
        if known is None or known.phase is Phase.CLOSING:
            return
        try:
            for said in known.receive(data):
                self._heard(known, said, now)
        except WireError as error:
            self.report(events.ProtocolBroken(link=link, detail=str(error)))
            self.hang_up(known)
        if known.outgoing:
            self._dirty[link] = known

    def _heard(self, link: Link, said: Introduced | Node, now: float) -> None:
        if link.phase is Phase.CLOSING:
            return
        if isinstance(said, Introduced):
            self._introduce(link, said, now)
        elif link.phase is Phase.PAIRING:
            self.gate.receive(link, said, now=now)
        elif link.address is not None:
            device = self.directory.device(link.address)
            assert device is not None, "an open link belongs to a device"
            self._stanza(device, said, link, now)

    def schedule(self, when: float, action: Action) -> None:
        """Schedule an action; one that is due already is done by the next `tick`."""
        self._timers.schedule(when, action)

    def send(self, link: Link, node: Node) -> None:
        link.send(node)
        self._dirty[link.id] = link

    def hang_up(self, link: Link) -> None:
        link.phase = Phase.CLOSING
        self._doomed.add(link.id)
        self._dirty[link.id] = link

    def dismiss(self, link: Link, node: Node, *, now: float) -> None:
        """Send the reason why the link is ending, and end it a little later unless the client does."""
        self.send(link, node)
        link.phase = Phase.CLOSING
        if link.address is not None and self._online.get(link.address) is link:
            del self._online[link.address]
        self._timers.schedule(now + CLOSE_AFTER_S, lambda _: self.hang_up(link) if link.id in self.links else None)

    def _is_available(self, address: Address) -> bool:
        link = self._online.get(address)
        return link is not None and link.available

    # Login and pairing

    def _introduce(self, link: Link, said: Introduced, now: float) -> None:
        if _revision(said.payload) < self._fault_hooks.minimum_revision:
            self._refuse(link, None, "405", {"location": "wasim"}, now)
        elif said.payload.pairing is not None:
            self.gate.register(link, said.peer, said.payload.pairing)
        else:
            self._log_in(link, said, now)

    def _log_in(self, link: Link, said: Introduced, now: float) -> None:
        address = Address(str(said.payload.username or ""), said.payload.device or 0)
        device = self.directory.device(address)
        if device is None or not device.noise_key or device.noise_key != said.peer:
            return self._refuse(link, None, "401", {"location": "wasim"}, now)
        failure = self._fault_hooks.on_login(address, now=now)
        if failure is not None:
            return self._refuse(link, address, failure.reason, failure.attrs, now)
        self._replace(address, now)
        self._welcome(link, device, said.payload, now)
        return None

    def _refuse(self, link: Link, address: Address | None, reason: str, attrs: dict[str, str], now: float) -> None:
        self.report(events.LoginRefused(address=address, link=link.id, reason=reason))
        self.dismiss(link, Node("failure", {"reason": reason, **attrs}), now=now)

    def _replace(self, address: Address, now: float) -> None:
        """The same device connected again: the older link is closed."""
        older = self._online.get(address)
        if older is not None:
            self.end_stream(older.id, code=None, attrs={}, reason=Node("conflict", {"type": "replaced"}), now=now)

    def _welcome(self, link: Link, device: Device, payload: ClientPayload, now: float) -> None:
        link.phase, link.address, link.passive = Phase.OPEN, device.address, True
        self._online[device.address] = link
        if payload.push_name:
            device.push_name = payload.push_name
        device.logins += 1
        self.directory.touch(device)
        self.report(events.LoggedIn(address=device.address, link=link.id))
        for node in notices.greeting(self.directory, device, now=now):
            self.send(link, node)
        if not payload.passive:
            self._activate(link, device, now)

    def _activate(self, link: Link, device: Device, now: float) -> None:
        """The device is ready: everything that waits is delivered, marked `offline`, followed by an end marker.

        The first time, its phone then sends what a new device needs.
        """
        link.passive = False
        waiting = [(seq, entry) for seq, entry in self.directory.queue(device.address) if seq >= link.delivered]
        for at, (seq, entry) in enumerate(waiting):
            node = nodes.decode(entry.stanza)
            node.attrs["offline"] = str(at)
            self.send(link, node)
            link.delivered = seq + 1
        self.send(link, notices.offline_done(len(waiting)))
        if not device.welcomed:
            device.welcomed = True
            self.directory.touch(device)
            self.phone_settings.begin(device.number, now=now)
            self.phone_actions.welcome(device, now)

    # Stanzas

    def _stanza(self, device: Device, node: Node, link: Link | None, now: float) -> None:
        link_id = link.id if link is not None else None
        match node.tag:
            case "message":
                self._router.message(device, node, link_id, now)
            case "receipt":
                self._router.receipt(device, node, link_id, now)
            case "ack":
                self._router.ack(device, node)
            case "notification" if link is None:
                self._router.notify(device, node, now)
            case "call" if link is not None:
                self.send(link, _call_ack(node))
                self.calls.receive(device, node, now=now)
            case "chatstate":
                self._router.chat_state(device, node, now)
            case "presence" if link is not None:
                self._presence(device, node, link)
            case "iq" if link is not None and node.attrs.get("type") not in ("result", "error"):
                self._query(device, node, link, now)

    def _presence(self, device: Device, node: Node, link: Link) -> None:
        if node.attrs.get("type") == "subscribe":
            self.presences.subscribe(link, node.attrs.get("to", ""))
            return
        if node.attrs.get("type", "available") in ("available", "unavailable"):
            link.available = node.attrs.get("type") != "unavailable"
            if link.available:
                self.presences.now_available(link)
        name = node.attrs.get("name", "")
        if name and name != device.push_name:
            device.push_name = name
            self.directory.touch(device)

    def _query(self, device: Device, node: Node, link: Link, now: float) -> None:
        query = queries.Query(
            node=node,
            device=device,
            directory=self.directory,
            app_state=self.app_state,
            groups=self.groups,
            channels=self.channels,
            pictures=self.pictures,
            now=now,
            media=self._media_room(device),
            reach_out_lock=self._fault_hooks.reach_out_lock(device.number, now=now),
            new_chat_quota=self._fault_hooks.new_chat_quota(device.number, now=now),
        )
        xmlns = node.attrs.get("xmlns", "")
        error = self._fault_hooks.on_query(device.address, xmlns=xmlns, tag=query.body.tag, now=now)
        verdict = "answered"
        if error is None:
            verdict = self._fault_hooks.on_answer(device.address, xmlns=xmlns, tag=query.body.tag, now=now)
        if verdict == "lost":
            return
        answer = queries.answer(query) if error is None else queries.QueryAnswer(error=error)
        self.report(events.QueryAnswered(xmlns=xmlns, is_error=answer.error is not None))
        if answer.unknown:
            self._unknown(link.id, node)
        if verdict == "answered":
            self.send(link, queries.reply(node, answer))
        if answer.synced:
            self._synced(device, answer.synced, now)
        for number in answer.refill:
            self.phones.refill(number)
        for address in answer.low_on_prekeys:
            self._low_on_prekeys(address, now)
        if answer.activated is not None:
            link.passive = not answer.activated
            if answer.activated:
                self._activate(link, device, now)
        if answer.unlinked is not None:
            self.unlink(answer.unlinked, now=now)

    def _synced(self, device: Device, versions: dict[str, int], now: float) -> None:
        """A linked device changed settings: its phone reads them, other devices are notified."""
        for name, version in versions.items():
            self.phone_settings.read(device.number, name, version)
        self._announce_settings(device.number, versions, now, but=device.address)

    def _announce_settings(
        self, number: str, versions: dict[str, int], now: float, *, but: Address | None = None
    ) -> None:
        for device in self._linked_devices(number):
            if device.address != but:
                for name, version in versions.items():
                    notice = notices.settings_changed(self.new_id(), number, {name: version}, now)
                    self._deliver(device.address, "notification", notice, now)

    def _media_room(self, device: Device) -> queries.MediaEndpoint | None:
        if self.media_host is None:
            return None
        lid = self.directory.accounts[device.number].lid
        return queries.MediaEndpoint(host=self.media_host, auth=self.identity.media_pass(lid))

    def _low_on_prekeys(self, address: Address, now: float) -> None:
        left = len(self.directory.prekeys(address))
        self._deliver(address, "notification", notices.low_on_prekeys(self.new_id(), left, now), now)

    def _unknown(self, link: int, node: Node) -> None:
        tag = node.children[0].tag if node.children else ""
        self.report(events.QueryUnknown(link=link, xmlns=node.attrs.get("xmlns", ""), tag=tag))

    # Delivery

    def _deliver(self, address: Address, kind: StanzaKind, node: Node, now: float, after_s: float = 0.0) -> None:
        if address.device == PHONE:
            self.phone_actions.deliver(address, node, now)
            return
        stanza = nodes.encode(node)
        seq = self.directory.enqueue(address, Pending(kind=kind, id=node.attrs["id"], stanza=stanza))
        link = self._online.get(address)
        if link is None or link.passive:
            return
        if after_s:
            self._timers.schedule(now + after_s, partial(self._deliver_late, link, address, seq, stanza))
        else:
            self._send_encoded(link, stanza)
        link.delivered = seq + 1

    def _deliver_late(self, link: Link, address: Address, seq: int, stanza: bytes, now: float) -> None:
        """Deliver unless the device has logged in again since, and got it then."""
        if self._online.get(address) is link and seq in self.directory.queue(address):
            self._send_encoded(link, stanza)

    def _send_encoded(self, link: Link, stanza: bytes) -> None:
        link.send_encoded(stanza)
        self._dirty[link.id] = link

    def _send_if_connected(self, address: Address, node: Node) -> None:
        link = self._online.get(address)
        if link is not None:
            self.send(link, node)

    def _ack(self, link: int, node: Node, when: float, now: float) -> None:
        """Acks go to the link that the stanza came from, or nowhere."""
        if when > now:
            self._timers.schedule(when, lambda _: self.inject(link, node))
        else:
            self.inject(link, node)

    def _end_link(self, link: int, end: LinkEnd, now: float) -> None:
        """A fault ends the link on which a message arrived."""
        if end.how is not None:
            self.report(events.SocketToClose(link=link, how=end.how, close_code=end.close_code))
        else:
            reason = None if end.reason is None else Node(end.reason)
            self.end_stream(link, code=end.code, attrs=end.attrs, reason=reason, now=now)

    def _from_phone(self, phone: Device, node: Node, now: float) -> None:
        self._stanza(phone, node, None, now)

    # Requests through the control interface

    def phone(self, number: str, *, name: str, now: float) -> Account:
        """The account of that number, created if there is none."""
        return self.directory.accounts.get(number) or self.phones.create(number, name=name, now=now)

    def change_settings(self, number: str, changes: list[Change], *, now: float) -> None:
        """A phone's owner changes settings; linked devices are notified. Raises BadChange."""
        self.phone_settings.begin(number, now=now)
        self._announce_settings(number, self.phone_settings.change(number, changes, now=now), now)

    def announce_reach_out_lock(self, number: str | None, until: float | None, *, now: float) -> None:
        """Notify linked devices that their account may not write to new contacts until then, or (None) that it may
        again."""
        for device in self._linked_devices(number):
            self._deliver(device.address, "notification", notices.reach_out_lock(self.new_id(), until, now), now)

    def announce_new_chat_quota(self, number: str | None, *, now: float) -> None:
        """Notify linked devices how much of their account's quota of new chats is used."""
        for device in self._linked_devices(number):
            quota = self._fault_hooks.new_chat_quota(device.number, now=now)
            self._deliver(device.address, "notification", notices.new_chat_quota(self.new_id(), quota, now), now)

    def _linked_devices(self, number: str | None) -> list[Device]:
        """The linked devices of one account, or of all."""
        accounts = [number] if number is not None else list(self.directory.accounts)
        devices = [device for account in accounts for device in self.directory.devices_of(account)]
        return [device for device in devices if device.device != PHONE]

    def send_unchanged(self, number: str, stanza: Node | bytes, *, now: float) -> int:
        """Send a stanza, or bytes instead of one, unchanged to the linked devices of an account; returns to how many.

        Messages, receipts and notifications with an id wait until they are acknowledged, everything else is sent now.
        """
        devices = self._linked_devices(number)
        for device in devices:
            link = self._online.get(device.address)
            if isinstance(stanza, Node) and stanza.tag in STANZA_KINDS and stanza.attrs.get("id"):
                self._deliver(device.address, STANZA_KINDS[stanza.tag], stanza, now)
            elif link is not None:
                self._send_encoded(link, stanza if isinstance(stanza, bytes) else nodes.encode(stanza))
        return len(devices)

    def unlink(self, address: Address, *, now: float) -> None:
        """The phone removes a linked device: its connection is notified, and it can't log in again.

        Raises UnknownNumber when there is no such device.
        """
        device = self.directory.device(address)
        if device is None or address.device == PHONE:
            raise UnknownNumber(f"{address.number} has no linked device {address.device}")
        link = self._online.get(address)
        if link is not None:
            reason = Node("conflict", {"type": "device_removed"})
            self.end_stream(link.id, code="401", attrs={}, reason=reason, now=now)
        self.directory.remove_device(address)
        self.announce(device, "remove", now=now)
        self.report(events.DeviceUnlinked(address=address))

    def end_stream(
        self, link: int, *, code: str | None, attrs: dict[str, str], reason: Node | None, now: float
    ) -> None:
        """End a link with a `stream:error`."""
        known = self.links.get(link)
        if known is None or known.transport is None or known.phase is Phase.CLOSING:
            return
        content = [reason] if reason is not None else None
        self.dismiss(known, Node("stream:error", ({"code": code} if code else {}) | attrs, content), now=now)

    def finish_stream(self, link: int, *, now: float) -> None:
        """End a link without a reason, as WhatsApp does when it moves clients to another server."""
        known = self.links.get(link)
        if known is not None and known.transport is not None and known.phase is not Phase.CLOSING:
            self.dismiss(known, Node("xmlstreamend"), now=now)

    def inject(self, link: int, node: Node) -> None:
        """Send any node on an open link; for faults."""
        known = self.links.get(link)
        if known is not None and known.phase is Phase.OPEN:
            self.send(known, node)

    def announce(self, device: Device, change: str, *, now: float) -> None:
        """Notify own devices and contacts that a device was linked or removed; the phone signs its new list."""
        self.phones.sign_devices(device.number, now=now)
        account = self.directory.accounts[device.number]
        for number in (account.number, *sorted(account.contacts)):
            for other in self.directory.devices_of(number):
                if other.device != PHONE and other.address != device.address:
                    notice = notices.devices_changed(
                        self.directory, device, change, to=number, notice_id=self.new_id(), now=now
                    )
                    self._deliver(other.address, "notification", notice, now)

    def new_id(self) -> str:
        return word(self._entropy, 9)

    def admitted(self, media_pass: str) -> str | None:
        """The number of the account that may upload with this pass; None for a pass that was never issued."""
        lid = media_pass.partition(".")[0]
        account = self.directory.find(Jid(lid, LID))
        expected = self.identity.media_pass(lid)
        return account.number if account is not None and media_pass == expected else None

    def link_of(self, address: Address) -> Link | None:
        """The connection on which this device is logged in."""
        return self._online.get(address)

    def jid_of(self, address: Address) -> tuple[str, str]:
        """A device's address by phone number, and by hidden id."""
        account = self.directory.accounts[address.number]
        return str(Jid(address.number, PN, address.device)), str(Jid(account.lid, LID, address.device))


def _call_ack(node: Node) -> Node:
    attrs = {"class": "call", "id": node.attrs.get("id", ""), "from": node.attrs.get("to", "")}
    return Node("ack", attrs | ({"type": node.children[0].tag} if node.children else {}))


def _revision(payload: ClientPayload) -> int:
    """The revision of the client that logs in; the greatest if it states none, so that simple clients work."""
    version = payload.user_agent.app_version if payload.user_agent is not None else None
    return 2**32 if version is None or version.tertiary is None else version.tertiary
