"""The simulated WhatsApp server: connections, logins, pairing, and the wiring of everything else.

Sans I/O. The caller reports connections and bytes with the time (Unix seconds), and then collects the results:
`take_output()` (bytes to send, links to close), `take_events()` (events for logs and waiting callers),
`directory.take_changes()` (records to store on disk, before the bytes are sent), `next_deadline` (when to call `tick`).
"""

from __future__ import annotations

from collections.abc import Iterable

from wasim.server import events, notices, queries
from wasim.server.announcements import Announcements
from wasim.server.app_state import AppState
from wasim.server.calls import Calls
from wasim.server.channels import Channels
from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_key
from wasim.server.fault_hooks import FaultHooks, LinkEnd
from wasim.server.groupkeys import GroupKeys
from wasim.server.groups import Groups
from wasim.server.identity import make_identity, restore_identity
from wasim.server.link import HandshakeDone, Link, Phase
from wasim.server.links import Links, Outgoing
from wasim.server.pairing_flow import PairingFlow
from wasim.server.phone_actions import PhoneActions, ServerCallbacks, UnknownNumber
from wasim.server.phone_client import PhoneClients
from wasim.server.phone_settings import Change, PhoneSettings
from wasim.server.phones import Phones
from wasim.server.picture_files import PictureFiles
from wasim.server.presence import Presences
from wasim.server.receipts import Receipts
from wasim.server.router import Router
from wasim.server.signal_sessions import KeyUses, SignalSessions
from wasim.server.state import PHONE, Account, Address, Device
from wasim.server.timers import Timers
from wasim.wire.errors import WireError
from wasim.wire.jids import LID, Jid
from wasim.wire.messages import ClientPayload
from wasim.wire.nodes import Node


class Server:
    def __init__(
        self,
        *,
        entropy: Entropy,
        fault_hooks: FaultHooks,
        records: Iterable[tuple[str, str, bytes]],
        now: float,
    ) -> None:
        self.directory, other_records = Directory.load(records)
        self._timers = Timers()
        self.links = Links(self._timers)
        self.delivery = Delivery(
            self.directory,
            self.links,
            self._timers,
            to_phone=lambda address, node, now: self.phone_actions.deliver(address, node, now),
        )
        self.phones = Phones(self.directory, entropy)
        uses = KeyUses(self.directory)
        sessions = SignalSessions(self.directory, uses, entropy)
        group_keys = GroupKeys(self.directory, uses, entropy)
        self.phone_clients = PhoneClients(self.directory, self.phones, sessions, group_keys, entropy)
        self.app_state = AppState(self.directory, entropy)
        self.phone_settings = PhoneSettings(self.directory, self.phones, self.app_state, entropy)
        self.channels = Channels(self.directory, entropy, self.delivery)
        parts = (uses, sessions, group_keys, self.phone_clients, self.app_state, self.phone_settings, self.channels)
        for kind, key, value in other_records:
            self.phones.restore(kind, value)
            for part in parts:
                part.restore(kind, key, value)
        self.pictures = PictureFiles()
        self.media_host: str | None = None
        """Host and port of the media host; None when there is none."""
        self._entropy = entropy
        self._fault_hooks = fault_hooks
        self._events: list[events.Event] = []
        self.identity = restore_identity(other_records) or make_identity(self.directory, entropy, now=now)
        self.announcements = Announcements(self.directory, self.phones, fault_hooks, entropy, self.delivery)
        self.pairing_flow = PairingFlow(
            self.directory,
            self.phones,
            entropy,
            fault_hooks,
            self.links,
            self._timers,
            announce=self.announcements.device,
            report=self.report,
        )
        self._router = Router(
            self.directory,
            self.channels,
            fault_hooks,
            self.delivery,
            self.links,
            end_link=self._end_link,
            typing=lambda number, node, at: self.phone_clients.receive_typing(number, node, now=at),
            random_fraction=lambda: entropy(1)[0] / 255,
        )
        self._receipts = Receipts(self.directory, fault_hooks, self.delivery, self.links)
        self.groups = Groups(self.directory, entropy, self.delivery)
        self.calls = Calls(self.directory, entropy, self.delivery)
        self.presences = Presences(self.directory, self.links)
        callbacks = ServerCallbacks(
            receive=self._from_phone,
            synchronize_reading=self._receipts.synchronize_reading,
            schedule=self._timers.schedule,
            low_on_prekeys=self.announcements.low_on_prekeys,
        )
        self.phone_actions = PhoneActions(self.directory, self.phone_clients, callbacks, entropy, now=now)

    # Collected by the caller

    def take_output(self) -> list[Outgoing]:
        return self.links.take_output()

    def take_events(self) -> list[events.Event]:
        events_, self._events = self._events, []
        return events_

    def take_files(self) -> dict[str, bytes]:
        """Files for the media host by name, written before the next bytes are sent."""
        sender, state, pictures = self.phone_clients.phone_sender, self.app_state, self.pictures
        blobs, sender.blobs, state.blobs = [*sender.blobs, *state.blobs], [], []
        files, pictures.files = pictures.files, {}
        return files | {blob.name: blob.encrypted for blob in blobs}

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
        self.links.open(Link(id=link, responder=responder, since=now))

    def receive(self, link: int, data: bytes, *, now: float) -> None:
        """Bytes arrived on a connection. Bytes of an unknown or a closing one are dropped."""
        known = self.links.get(link)
        if known is None or known.phase is Phase.CLOSING:
            return
        try:
            for received in self.links.receive(known, data):
                self._handle(known, received, now)
        except WireError as error:
            self.report(events.ProtocolViolated(link=link, detail=str(error)))
            self.links.close(known)

    def _handle(self, link: Link, received: HandshakeDone | Node, now: float) -> None:
        if link.phase is Phase.CLOSING:
            return
        if isinstance(received, HandshakeDone):
            self._handshake_done(link, received, now)
        elif link.phase is Phase.PAIRING:
            self.pairing_flow.receive(link, received, now=now)
        elif link.address is not None:
            device = self.directory.device(link.address)
            assert device is not None, "an open link belongs to a device"
            self._stanza(device, received, link, now)

    # Login and pairing

    def _handshake_done(self, link: Link, handshake: HandshakeDone, now: float) -> None:
        if _revision(handshake.payload) < self._fault_hooks.minimum_revision:
            self._refuse(link, None, "405", {"location": "wasim"}, now)
        elif handshake.payload.pairing is not None:
            self.pairing_flow.register(link, handshake.peer, handshake.payload.pairing)
        else:
            self._log_in(link, handshake, now)

    def _log_in(self, link: Link, handshake: HandshakeDone, now: float) -> None:
        address = Address(str(handshake.payload.username or ""), handshake.payload.device or 0)
        device = self.directory.device(address)
        if device is None or not device.noise_key or device.noise_key != handshake.peer:
            return self._refuse(link, None, "401", {"location": "wasim"}, now)
        failure = self._fault_hooks.on_login(address, now=now)
        if failure is not None:
            return self._refuse(link, address, failure.reason, failure.attrs, now)
        self._replace(address, now)
        self._accept_login(link, device, handshake.payload, now)
        return None

    def _refuse(self, link: Link, address: Address | None, reason: str, attrs: dict[str, str], now: float) -> None:
        self.report(events.LoginRefused(address=address, link=link.id, reason=reason))
        self.links.close_with(link, Node("failure", {"reason": reason, **attrs}), now=now)

    def _replace(self, address: Address, now: float) -> None:
        """The same device connected again: the older link is closed."""
        older = self.links.of(address)
        if older is not None:
            self.links.end_stream(older.id, code=None, attrs={}, reason=Node("conflict", {"type": "replaced"}), now=now)

    def _accept_login(self, link: Link, device: Device, payload: ClientPayload, now: float) -> None:
        self.links.log_in(link, device.address)
        if payload.push_name:
            device.push_name = payload.push_name
        device.logins += 1
        self.directory.touch(device)
        self.report(events.LoggedIn(address=device.address, link=link.id))
        for node in notices.greeting(self.directory, device, now=now):
            self.links.send(link, node)
        if not payload.passive:
            self._activate(link, device, now)

    def _activate(self, link: Link, device: Device, now: float) -> None:
        """Deliver waiting stanzas to a device that became active; the first time, its phone sends the initial sync."""
        link.passive = False
        self.delivery.deliver_waiting(link, device.address)
        if not device.initial_sync_sent:
            device.initial_sync_sent = True
            self.directory.touch(device)
            self.phone_settings.write_initial(device.number, now=now)
            self.phone_actions.send_initial_sync(device, now)

    # Stanzas

    def _stanza(self, device: Device, node: Node, link: Link | None, now: float) -> None:
        link_id = link.id if link is not None else None
        match node.tag:
            case "message":
                self._router.message(device, node, link_id, now)
            case "receipt":
                self._receipts.receipt(device, node, link_id, now)
            case "ack":
                self._router.ack(device, node)
            case "notification" if link is None:
                self._router.notify(device, node, now)
            case "call" if link is not None:
                self.links.send(link, _call_ack(node))
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
            media=self._media_endpoint(device),
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
            self.links.send(link, queries.reply(node, answer))
        if answer.synced:
            self._synced(device, answer.synced, now)
        for number in answer.refill:
            self.phones.refill(number)
        for address in answer.low_on_prekeys:
            self.announcements.low_on_prekeys(address, now)
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
        self.announcements.settings(device.number, versions, exclude=device.address, now=now)

    def _media_endpoint(self, device: Device) -> queries.MediaEndpoint | None:
        if self.media_host is None:
            return None
        lid = self.directory.accounts[device.number].lid
        return queries.MediaEndpoint(host=self.media_host, auth=self.identity.media_auth(lid))

    def _unknown(self, link: int, node: Node) -> None:
        tag = node.children[0].tag if node.children else ""
        self.report(events.UnknownQuery(link=link, xmlns=node.attrs.get("xmlns", ""), tag=tag))

    def _end_link(self, link: int, end: LinkEnd, now: float) -> None:
        """A fault ends the link on which a message arrived."""
        if end.how is not None:
            self.report(events.CloseSocket(link=link, how=end.how, close_code=end.close_code))
        else:
            reason = None if end.reason is None else Node(end.reason)
            self.links.end_stream(link, code=end.code, attrs=end.attrs, reason=reason, now=now)

    def _from_phone(self, phone: Device, node: Node, now: float) -> None:
        self._stanza(phone, node, None, now)

    # Requests through the control interface

    def phone(self, number: str, *, name: str, now: float) -> Account:
        """The account of that number, created if there is none."""
        return self.directory.accounts.get(number) or self.phones.create(number, name=name, now=now)

    def change_settings(self, number: str, changes: list[Change], *, now: float) -> None:
        """A phone's owner changes settings; linked devices are notified. Raises BadChange."""
        self.phone_settings.write_initial(number, now=now)
        self.announcements.settings(number, self.phone_settings.change(number, changes, now=now), now=now)

    def unlink(self, address: Address, *, now: float) -> None:
        """The phone removes a linked device: its connection is notified, and it can't log in again.

        Raises UnknownNumber when there is no such device.
        """
        device = self.directory.device(address)
        if device is None or address.device == PHONE:
            raise UnknownNumber(f"{address.number} has no linked device {address.device}")
        link = self.links.of(address)
        if link is not None:
            reason = Node("conflict", {"type": "device_removed"})
            self.links.end_stream(link.id, code="401", attrs={}, reason=reason, now=now)
        self.directory.remove_device(address)
        self.announcements.device(device, "remove", now=now)
        self.report(events.DeviceUnlinked(address=address))

    def media_account(self, auth: str) -> str | None:
        """The number of the account that may upload with this `auth`; None for one that was never issued."""
        lid = auth.partition(".")[0]
        account = self.directory.find(Jid(lid, LID))
        expected = self.identity.media_auth(lid)
        return account.number if account is not None and auth == expected else None


def _call_ack(node: Node) -> Node:
    attrs = {"class": "call", "id": node.attrs.get("id", ""), "from": node.attrs.get("to", "")}
    return Node("ack", attrs | ({"type": node.children[0].tag} if node.children else {}))


def _revision(payload: ClientPayload) -> int:
    """The revision of the client that logs in; the greatest if it states none, so that simple clients work."""
    version = payload.user_agent.app_version if payload.user_agent is not None else None
    return 2**32 if version is None or version.tertiary is None else version.tertiary
