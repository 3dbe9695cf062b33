"""Runs the pure server on real sockets: moves bytes, stores records, sets timers, and carries out faults.

One `Simulator` is one simulated WhatsApp. It decides nothing about the protocol. After every batch of input it flushes
once: records are committed first, then bytes are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

from wasim.clock import Clock
from wasim.faults import Fault, FaultRequest, Faults
from wasim.link_faults import LinkFaults
from wasim.media import MediaFolder
from wasim.pairings import Pairings
from wasim.server import core, events
from wasim.server.link import Link
from wasim.server.links import Outgoing
from wasim.server.state import Address
from wasim.sockets import LinkSocket
from wasim.stats import Stats
from wasim.store import Store
from wasim.wire.nodes import Node

_log = logging.getLogger("wasim")
SAVE_AGAIN_S = 0.2
PUBLISHED_REVISION = 1_043_857_760
"""The revision at the end of July 2026."""


class Simulator:
    def __init__(self, *, store: Store, clock: Clock, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self.stats = Stats()
        self.server: core.Server
        self._store = store
        self._clock = clock
        self._host = host
        self.port = port
        self._tls = tls
        self.make_web_handler: Callable[[], asyncio.Protocol] | None = None
        """Makes handlers of HTTP requests on the clients' port that are not part of WebSockets."""
        self._media_host: str | None = None
        self._media_folder: MediaFolder | None = None
        self.published_revision = PUBLISHED_REVISION
        """The newest client revision, as in `/sw.js`."""
        self._sockets: dict[int, LinkSocket] = {}
        self._link_faults = LinkFaults(self.faults, self._sockets)
        self._link_count = 0
        self._listener: asyncio.Server | None = None
        self._flush_scheduled = False
        self._unsaved: dict[tuple[str, str], bytes | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.pairings = Pairings(self.update)
        self._restarts: asyncio.Queue[float] = asyncio.Queue()
        self._boot()

    def _boot(self) -> None:
        self.server = core.Server(
            entropy=secrets.token_bytes, fault_hooks=self.faults, records=self._store.records(), now=self._clock.now()
        )
        self.server.media_host = self._media_host

    def set_media_host(self, host: str, folder: MediaFolder) -> None:
        """Set the media host that devices are directed to, as host and port, and the folder of its files."""
        self._media_host = self.server.media_host = host
        self._media_folder = folder

    # Listening

    async def listen(self) -> None:
        """Open the port; port 0 means any free one, which stays the same after restarts."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._new_socket, self._host, self.port, backlog=1024, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def run(self) -> None:
        """Carry out restarts until cancelled; then close everything."""
        try:
            while True:
                await self._restart(await self._restarts.get())
        finally:
            await self._stop()

    async def _restart(self, down_s: float) -> None:
        self._close_listener()
        for socket in list(self._sockets.values()):
            socket.cut("rst")
        self._flush()
        while not self._save():
            await self._clock.sleep(SAVE_AGAIN_S)
        _log.info("Server is down for %.1f s", down_s)
        await self._clock.sleep(down_s)
        self._boot()
        await self.listen()
        _log.info("Server is back on port %d", self.port)

    async def _stop(self) -> None:
        self._close_listener()
        for socket in list(self._sockets.values()):
            socket.cut("close", code=1001)
        self._flush()
        if self._timer is not None:
            self._timer.cancel()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # Connections

    def _new_socket(self) -> LinkSocket:
        self._link_count += 1
        return LinkSocket(self, self._link_count)

    def socket_opened(self, link: LinkSocket) -> None:
        now = self._clock.now()
        self._sockets[link.number] = link
        self.stats.connects += 1
        self.stats.connect_times.append(now)
        if self._link_faults.connected(link):
            self.stats.refused += 1

    def web_handler(self) -> asyncio.Protocol | None:
        if self.make_web_handler is None:
            return None
        self._uncount_connect()
        return self.make_web_handler()

    def _uncount_connect(self) -> None:
        """This connection was counted as a client's, but it is an HTTP request."""
        self.stats.connects -= 1
        self.stats.connect_times.pop()

    def script(self) -> str:
        self._uncount_connect()
        return f'self.__config={{"client_revision":{self.published_revision},"name":"sw"}};'

    def socket_ready(self, link: LinkSocket) -> None:
        self.server.open_link(link.number, now=self._clock.now())

    def socket_received(self, link: LinkSocket, data: bytes) -> None:
        self.server.receive(link.number, data, now=self._clock.now())
        self._flush_soon()

    def socket_closed(self, link: LinkSocket) -> None:
        self._sockets.pop(link.number, None)
        self.stats.closes += 1
        self.server.links.remove(link.number)
        self.pairings.fail(link.number, "the device's connection ended before it was linked")

    # Flushing

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Once for each batch of input: run what is due, write records to disk, then send bytes."""
        self._flush_scheduled = False
        now = self._clock.now()
        self.server.tick(now=now)
        for fault in self.faults.due(now):
            self._end(fault)
        if not self._save():
            return
        for outgoing in self.server.take_output():
            self._send_output(outgoing)
        for event in self.server.take_events():
            self._handle_event(event, now)
        self._schedule_flush(now)

    def _save(self) -> bool:
        """Write changed records. While that fails nothing may be sent; it is retried."""
        self._write_files()
        self._unsaved |= self.server.directory.take_changes()
        if not self._unsaved:
            return True
        try:
            self._store.write(self._unsaved)
        except sqlite3.OperationalError as error:
            _log.error("Records can't be written, so nothing is sent: %s; retrying", error)
            asyncio.get_running_loop().call_later(SAVE_AGAIN_S, self._flush)
            return False
        self._unsaved = {}
        return True

    def _write_files(self) -> None:
        """Write files before stanzas that refer to them are sent; without a media host they are dropped."""
        for name, content in self.server.take_files().items():
            if self._media_folder is not None:
                self._media_folder.write(content, name)

    def _send_output(self, outgoing: Outgoing) -> None:
        socket = self._sockets.get(outgoing.link)
        if socket is not None:
            socket.send(outgoing.frames)
            if outgoing.close:
                socket.close()

    def _schedule_flush(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadlines = [at for at in (self.server.next_deadline, self.faults.next_deadline) if at is not None]
        if deadlines:
            delay = max(0.0, min(deadlines) - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._flush)

    def _handle_event(self, event: events.Event, now: float) -> None:
        match event:
            case events.DevicePaired(address=address, link=link):
                _log.info("Link %d: device %d of %s linked", link, address.device, masked(address.number))
                self.pairings.complete(link, address)
            case events.PairingFailed(link=link, detail=detail):
                _log.warning("Link %d: pairing failed: %s", link, detail)
                self.pairings.fail(link, detail)
            case events.PasskeyRequested(number=number, link=link):
                _log.info("Link %d: %s requires a passkey", link, masked(number))
                self.pairings.complete(link, None)
            case events.LoggedIn(address=address, link=link):
                self._logged_in(address, link, now)
            case events.LoginRefused(address=address, link=link, reason=reason):
                _log.info("Link %d: login refused with %s", link, reason)
                self.stats.logins_refused += 1
                if address is not None:
                    self.stats.of(address.number).refused += 1
            case events.DeviceUnlinked(address=address):
                _log.info("Device %d of %s unlinked", address.device, masked(address.number))
            case events.QueryAnswered(xmlns=xmlns, is_error=is_error):
                self.stats.queries[xmlns] += 1
                self.stats.failed_queries[xmlns] += is_error
            case events.CloseSocket(link=link, how=how, close_code=code):
                socket = self._sockets.get(link)
                if socket is not None:
                    socket.cut(how, code=code)
            case events.UnknownQuery(link=link, xmlns=xmlns, tag=tag):
                _log.warning("Link %d: query %r with %r is unknown: answered 501", link, xmlns, tag)
                self.stats.unknown_queries += 1
            case events.ProtocolViolated(link=link, detail=detail):
                _log.warning("Link %d: cut, the client violated the protocol: %s", link, detail)
                self.stats.protocol_errors += 1

    def _logged_in(self, address: Address, link: int, now: float) -> None:
        _log.info("Link %d: device %d of %s logged in", link, address.device, masked(address.number))
        self.stats.logins += 1
        stats = self.stats.of(address.number)
        stats.logins += 1
        stats.times.append(now)
        socket = self._sockets.get(link)
        if socket is not None:
            self._link_faults.logged_in(address.number, socket)

    # Requests of the control interface

    def now(self) -> float:
        return self._clock.now()

    @contextlib.contextmanager
    def update(self) -> Iterator[tuple[core.Server, float]]:
        """Change the server's state; at the end of the block records are written and bytes are sent."""
        try:
            yield self.server, self.now()
        finally:
            self._flush()

    def is_frozen(self, link: int) -> bool:
        socket = self._sockets.get(link)
        return socket is not None and socket.frozen

    # Faults

    def start_fault(self, request: FaultRequest) -> Fault:
        """Start a fault; a momentary one is over when this returns."""
        fault = self.faults.start(request, now=self.now())
        links = self._links_of(request.number)
        fault.links = len(links)
        _log.info("Fault %d: %s started, %d links", fault.id, fault.kind, len(links))
        match fault.kind:
            case "cut" | "freeze" | "latency":
                self._link_faults.start(fault, [link.id for link in links])
            case "restart":
                self._restarts.put_nowait(request.down_s)
            case "stream-error":
                for link in links:
                    self._stream_error(link, request)
            case "stream-end":
                for link in links:
                    self.server.links.end_stream_without_error(link.id, now=self.now())
            case "reach-out-lock":
                until = self.faults.lock_end(fault, now=self.now())
                self.server.announcements.reach_out_lock(request.number, until, now=self.now())
            case "new-chat-quota":
                self.server.announcements.new_chat_quota(request.number, now=self.now())
        self._flush()
        return fault

    def end_fault(self, fault_id: int) -> bool:
        """End an active fault; False when it is not active."""
        fault = self.faults.active.get(fault_id)
        if fault is None:
            return False
        self._end(fault)
        self._flush()
        return True

    def _end(self, fault: Fault) -> None:
        self.faults.end(fault.id, now=self.now())
        _log.info("Fault %d: %s ended after %d hits", fault.id, fault.kind, fault.hits)
        self._link_faults.end(fault)
        if fault.kind == "reach-out-lock":
            self.server.announcements.reach_out_lock(fault.request.number, None, now=self.now())
        elif fault.kind == "new-chat-quota":
            self.server.announcements.new_chat_quota(fault.request.number, now=self.now())
        if fault.request.release:
            for link, ack in fault.withheld:
                self.server.links.send_if_open(link, ack)

    def _links_of(self, number: str | None) -> list[Link]:
        links = list(self.server.links)
        if number is None:
            return links
        return [link for link in links if link.address is not None and link.address.number == number]

    def _stream_error(self, link: Link, request: FaultRequest) -> None:
        code = None if request.code is None else str(request.code)
        reason = None if request.reason is None else Node(str(request.reason))
        self.server.links.end_stream(link.id, code=code, attrs=request.attrs, reason=reason, now=self.now())


def masked(number: str) -> str:
    """A phone number for logs: only its last three digits."""
    return f"…{number[-3:]}"


@contextlib.asynccontextmanager
async def running(simulator: Simulator) -> AsyncIterator[Simulator]:
    """Listen for the duration of the block."""
    await simulator.listen()
    async with asyncio.TaskGroup() as tasks:
        runner = tasks.create_task(simulator.run())
        try:
            yield simulator
        finally:
            runner.cancel()
