"""An engine in memory, for tests of everything above the port: no process, no network, no waiting.

It keeps the port's promises the way the real one does – reports come in a later turn of the event loop, frames
wait for commits, a closed link says nothing more – and `tests/contract/test_engine.py` holds both to them. What
WhatsApp and people do is said by calling its methods: `scan`, `receive`, `drop`, `freeze`, `lose_host`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.session.port import (
    Acked,
    AnyCommand,
    AnyReport,
    AskPairingCode,
    Commit,
    Committed,
    CutLink,
    Decrypted,
    Fields,
    FrameSeen,
    HostFacts,
    InboundMessage,
    Keys,
    LinkClosed,
    LinkId,
    LinkOpened,
    Listener,
    LogOut,
    OpenLink,
    Paired,
    PairingCodeShown,
    Ping,
    Plaintext,
    Ponged,
    Presence,
    QrShown,
    Receipted,
    Send,
    SendRefused,
    SentContent,
    SentContentWanted,
    Written,
)


@dataclass(slots=True, kw_only=True)
class FakeLink:
    """One link as its far side sees it."""

    order: OpenLink
    opened: bool = False
    frozen: bool = False
    """Nothing comes in any more and nothing that is written arrives: a half-open connection."""
    pairing: bool = False
    credentials: str | None = None
    begun: int = 0
    """The highest commit begun."""
    durable: int = 0
    waiting: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)
    """Frames behind the gate, each with the commit it waits for."""


class FakeEngine:
    """An `Engine` whose WhatsApp is scripted by the test.

    `commands` holds all that was asked of it, `arrived` the messages that reached the far side, `receipts_sent`
    the ids of inbound messages that WhatsApp was told were received.
    """

    def __init__(self, *, listener: Listener) -> None:
        self._listener = listener
        self._queue: deque[Callable[[], None]] = deque()
        self.links: dict[LinkId, FakeLink] = {}
        self.commands: list[AnyCommand] = []
        self.arrived: list[Send] = []
        self.receipts_sent: list[str] = []
        self.alive = True
        self.opens = True
        """False: a login is neither granted nor refused."""
        self.refuses: int | None = None
        """The code with which every login is refused."""
        self.acks = True
        """False: WhatsApp takes messages and does not say so."""
        self.ack_error: str | None = None
        self.not_on_whatsapp: set[str] = set()
        self.silent_s = 0.0

    # -- the port

    def command(self, command: AnyCommand) -> None:
        if not self.alive:
            return
        self.commands.append(command)
        if isinstance(command, OpenLink):
            self.links[command.link] = FakeLink(order=command, credentials=command.credentials)
            self._later(lambda: self._connect(command))
        elif command.link in self.links:
            self._obey(command, self.links[command.link])

    def _obey(self, command: AnyCommand, link: FakeLink) -> None:
        match command:
            case CutLink():
                self._later(lambda: self._close(command.link, code=428, detail="cut"))
            case LogOut():
                self._frame(command.link, lambda: self._log_out(command.link))
            case Send():
                self._later(lambda: self._send(command, link))
            case Ping(n=n):
                self._frame(command.link, lambda: self._say(command.link, Ponged(link=command.link, n=n)))
            case AskPairingCode():
                self._later(lambda: self._say(command.link, PairingCodeShown(link=command.link, code="H0LDFAST")))
            case Committed(seq=seq):
                link.durable = max(link.durable, seq)
                self._later(lambda: self._flush(link))
            case Presence() | Keys() | Plaintext() | SentContent() | OpenLink():
                pass

    # -- what WhatsApp and people do

    def scan(self, link_id: LinkId, *, jid: str = "962700000001:1@s.whatsapp.net", lid: str = "1001:1@lid") -> None:
        """A phone scans the QR code of an unpaired link: new credentials, `Paired`, and the close with 515."""
        link = self.links[link_id]

        def paired() -> None:
            self._commit(link_id, credentials=f'{{"me":"{jid}","lid":"{lid}"}}', paired=True)
            self._say(link_id, Paired(link=link_id, jid=jid, lid=lid, platform="fake"))
            self._frame(link_id, lambda: self.drop(link_id, code=515, detail="Stream Errored (restart required)"))

        if link.pairing:
            self._later(paired)

    def receive(
        self, link_id: LinkId, *, text: str, whatsapp_id: str = "3A0001", sender: str = "962799999999@s.whatsapp.net"
    ) -> None:
        """A person writes. The receipt leaves when the message's commit is durable."""
        message = InboundMessage(whatsapp_id=whatsapp_id, chat=sender, sender=sender, type="text", text=text)
        plaintext = text.encode()
        decrypted = Decrypted(
            ciphertext_sha256=hashlib.sha256(whatsapp_id.encode() + plaintext).hexdigest(),
            plaintext=base64.b64encode(plaintext).decode(),
            message=message,
        )

        def arrive() -> None:
            self._say(link_id, FrameSeen(link=link_id))
            self._commit(link_id, keys={"session": {f"{sender}.0": "{}"}}, decrypted=[decrypted])
            self._frame(link_id, lambda: self.receipts_sent.append(whatsapp_id))

        self._unless_frozen(link_id, arrive)

    def receipt(self, link_id: LinkId, *, whatsapp_ids: list[str], chat: str, kind: str = "delivered") -> None:
        """The recipient's device tells that it got, read or played messages."""
        report = Receipted(link=link_id, whatsapp_ids=whatsapp_ids, chat=chat, kind=kind)
        self._unless_frozen(link_id, lambda: self._say(link_id, report))

    def ask_again(self, link_id: LinkId, *, whatsapp_id: str, chat: str, request: int = 1) -> None:
        """The recipient's device could not read a message and asks for it again."""
        report = SentContentWanted(link=link_id, request=request, chat=chat, whatsapp_id=whatsapp_id)
        self._unless_frozen(link_id, lambda: self._say(link_id, report))

    def drop(self, link_id: LinkId, *, code: int, detail: str = "", attributes: Fields | None = None) -> None:
        """The link ends from WhatsApp's side, or the network's."""
        self._later(lambda: self._close(link_id, code=code, detail=detail, attributes=attributes or {}))

    def freeze(self, link_id: LinkId) -> None:
        """The connection goes half-open: no close, no frames, no answers; only a cut ends it."""
        self.links[link_id].frozen = True

    @property
    def facts(self) -> HostFacts:
        return HostFacts(pid=1, engine="fake", version="1", rss_bytes=None, links=len(self.links))

    def condemn(self, detail: str) -> None:
        self.lose_host(detail=detail)

    def lose_host(self, *, detail: str = "killed by SIGKILL") -> None:
        """The host dies with all its links. Commands go nowhere until `revive`."""
        self.alive = False
        self.links.clear()
        self._queue.clear()
        self._later(lambda: self._listener.host_lost(detail=detail))

    def revive(self) -> None:
        """A new host in the old one's place."""
        self.alive = True

    # -- how it answers

    def _connect(self, order: OpenLink) -> None:
        link = self.links.get(order.link)
        if link is None or not self.opens:
            return
        self._say(order.link, FrameSeen(link=order.link))
        if order.credentials is None or '"me"' not in order.credentials:
            link.pairing = True
            if order.credentials is None:
                self._commit(order.link, credentials='{"new":true}')
            self._frame(order.link, lambda: self._say(order.link, QrShown(link=order.link, qr=f"2@fake,{order.link}")))
            return
        if self.refuses is not None:
            self._close(order.link, code=self.refuses, detail="Connection Failure")
            return
        link.opened = True
        self._say(order.link, LinkOpened(link=order.link, jid="962700000001:1@s.whatsapp.net", lid="1001:1@lid"))

    def _log_out(self, link_id: LinkId) -> None:
        self._later(lambda: self._close(link_id, code=401, detail="Intentional Logout"))

    def _send(self, command: Send, link: FakeLink) -> None:
        if refusal := self._refusal(command, link):
            code, detail = refusal
            report = SendRefused(link=command.link, whatsapp_id=command.whatsapp_id, code=code, detail=detail)
            self._say(command.link, report)
            return
        self._commit(command.link, keys={"session": {f"{command.to}.0": "{}"}})

        def leave() -> None:
            self._say(command.link, Written(link=command.link, whatsapp_id=command.whatsapp_id))
            if link.frozen:
                return
            self.arrived.append(command)
            if self.acks:
                ack = Acked(
                    link=command.link, whatsapp_id=command.whatsapp_id, chat=command.to, at_s=0, error=self.ack_error
                )
                self._say(command.link, ack)

        self._frame(command.link, leave, even_frozen=True)

    def _refusal(self, command: Send, link: FakeLink) -> tuple[str, str] | None:
        if not link.opened:
            return "link-down", "the link is not open"
        if command.to in self.not_on_whatsapp:
            return "not-on-whatsapp", ""
        if not isinstance(command.content.get("text"), str):
            return "bad-content", f"no such kind of content: {', '.join(command.content)}"
        return None

    def _commit(
        self,
        link_id: LinkId,
        *,
        credentials: str | None = None,
        paired: bool = False,
        keys: dict[str, dict[str, str | None]] | None = None,
        decrypted: list[Decrypted] | None = None,
    ) -> None:
        if link := self.links.get(link_id):
            link.begun += 1
            self._say(
                link_id,
                Commit(
                    link=link_id,
                    seq=link.begun,
                    credentials=credentials,
                    paired=paired,
                    keys=keys or {},
                    decrypted=decrypted or [],
                ),
            )

    def _frame(self, link_id: LinkId, leave: Callable[[], None], *, even_frozen: bool = False) -> None:
        """Let something go out when all commits begun so far are durable, in order."""

        link = self.links.get(link_id)
        if link is None:
            return

        def unless_frozen() -> None:
            if even_frozen or not link.frozen:
                leave()

        link.waiting.append((link.begun, unless_frozen))
        self._later(lambda: self._flush(link))

    def _flush(self, link: FakeLink) -> None:
        while link.waiting and link.waiting[0][0] <= link.durable and link.order.link in self.links:
            link.waiting.popleft()[1]()

    def _unless_frozen(self, link_id: LinkId, happen: Callable[[], None]) -> None:
        def now() -> None:
            link = self.links.get(link_id)
            if link is not None and not link.frozen:
                happen()

        self._later(now)

    def _close(self, link_id: LinkId, *, code: int, detail: str, attributes: Fields | None = None) -> None:
        if link_id in self.links:
            report = LinkClosed(link=link_id, code=code, detail=detail, attributes=attributes or {})
            self._say(link_id, report)
            del self.links[link_id]

    def _say(self, link_id: LinkId, report: AnyReport) -> None:
        if link_id in self.links:
            self._listener.report(report)

    def _later(self, happen: Callable[[], None]) -> None:
        self._queue.append(happen)
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self._queue:
            self._queue.popleft()()
