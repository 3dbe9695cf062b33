"""An engine in memory, for tests of everything above the port: no process, no network, no waiting.

It fulfils the port's contract as the real one does – reports arrive in a later iteration of the event loop, frames wait
for commits, a closed link reports nothing more – and `tests/contract/test_engine.py` tests both. Tests control WhatsApp
and people by calling its methods: `scan`, `receive`, `drop`, `freeze`, `lose_host`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from holdfast.delivery.content import MediaKind
from holdfast.delivery.kinds import KINDS
from holdfast.session.engine import (
    Acked,
    AnswerPasskey,
    AnyCommand,
    AnyReport,
    AskPairingCode,
    CallSignal,
    Commit,
    Committed,
    ConfirmPasskey,
    CreatedMessage,
    CutLink,
    Decrypted,
    Download,
    Downloaded,
    Fields,
    FrameSeen,
    GroupChange,
    HistoryProgress,
    HostFacts,
    InboundMessage,
    LinkClosed,
    LinkId,
    LinkOpened,
    Listener,
    LogOut,
    NewChatsLocked,
    OpenLink,
    OperationAnswered,
    Paired,
    PairingCodeShown,
    PasskeyContinued,
    PasskeyFailed,
    PasskeyRequested,
    Ping,
    Plaintext,
    Ponged,
    Presence,
    QrShown,
    QueryAnswered,
    Receipted,
    RunOperation,
    RunQuery,
    Send,
    SendRefused,
    SentContent,
    SentContentRequested,
    SignalKeys,
    Undecryptable,
    Written,
)

MEDIA: frozenset[str] = frozenset(MediaKind)
MADE_ONCE = MEDIA | {"reaction", "edit"}
OPTIONS = frozenset({"audience", "mentions", "replyTo", "typing"})


@dataclass(slots=True, kw_only=True)
class FakeLink:
    """One link as WhatsApp sees it."""

    order: OpenLink
    opened: bool = False
    frozen: bool = False
    """No frame arrives in either direction: a half-open connection."""
    pairing: bool = False
    credentials: str | None = None
    begun: int = 0
    """The newest commit."""
    durable: int = 0
    waiting: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)
    """Frames in the gate, each with the commit for which it waits."""


class FakeEngine:
    """An `Engine` whose WhatsApp is scripted by the test.

    `commands` has all commands that it got, `arrived` the messages that reached WhatsApp, `receipts_sent` the ids of
    inbound messages for which WhatsApp got a receipt.
    """

    def __init__(self, *, listener: Listener) -> None:
        self._listener = listener
        self._queue: deque[Callable[[], None]] = deque()
        self.links: dict[LinkId, FakeLink] = {}
        self.commands: list[AnyCommand] = []
        self.arrived: list[Send] = []
        self.receipts_sent: list[str] = []
        self.repeated_requests: list[str] = []
        """Ids of messages for which a retry receipt was sent."""
        self.alive = True
        self.opens = True
        """False: a login is neither accepted nor refused."""
        self.refuses: int | None = None
        """The code with which every login is refused."""
        self.pairing_codes: dict[str, str | int] = {}
        """The pairing code that WhatsApp returns, or the number with which it refuses."""
        self.answers: dict[str, Callable[[dict[str, object]], object]] = {}
        """WhatsApp's answers by the name of the query, made from the arguments; `QueryAnswered` for errors."""
        self.operations: dict[str, Callable[[RunOperation], object]] = {}
        """WhatsApp's answers by the name of the operation; `OperationAnswered` for errors, None for no answer."""
        self.acks = True
        """False: WhatsApp accepts messages and sends no ack."""
        self.ack_error: str | None = None
        self.dies_of: tuple[str, str] | None = None
        """A text that ends the whole host before its frame leaves, and the detail that the host ends with."""
        self.ends_links: tuple[str, int] | None = None
        """A text that makes WhatsApp end the link, and the code that the link ends with."""
        self.not_on_whatsapp: set[str] = set()
        self.typed: list[tuple[str, int]] = []
        """Chats in which "typing" was shown, and for how long."""
        self.uploads: list[str] = []
        """Files that were uploaded."""
        self.uploads_fail = False
        self.media: dict[str, bytes] = {}
        """The files on WhatsApp's media servers, by `InboundMessage.media_keys`."""
        self.download_failure: str | None = None
        """The engine's error while no media server can be reached."""
        self.passkey_answer: Literal["finish", "compare", "refused", "silent", "unknown"] = "finish"
        """WhatsApp's reaction to the assertion of a passkey."""
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
            self._execute(command, self.links[command.link])

    def _execute(self, command: AnyCommand, link: FakeLink) -> None:
        match command:
            case CutLink():
                self._later(lambda: self._close(command.link, code=428, detail="cut"))
            case LogOut():
                self._frame(command.link, lambda: self._log_out(command.link))
            case Send():
                self._later(lambda: self._send(command, link))
            case Download():
                self._unless_frozen(command.link, lambda: self._download(command))
            case RunQuery():
                self._unless_frozen(command.link, lambda: self._answer_query(command))
            case RunOperation():
                self._unless_frozen(command.link, lambda: self._answer_operation(command))
            case Ping(n=n):
                self._frame(command.link, lambda: self._report(command.link, Ponged(link=command.link, n=n)))
            case AskPairingCode():
                self._unless_frozen(command.link, lambda: self._report(command.link, self._pairing_code(command)))
            case AnswerPasskey():
                self._later(lambda: self._take_assertion(command.link))
            case ConfirmPasskey():
                self.scan(command.link)
            case Committed(seq=seq):
                link.durable = max(link.durable, seq)
                self._later(lambda: self._flush(link))
            case Presence() | SignalKeys() | Plaintext() | SentContent() | OpenLink():
                pass

    def _pairing_code(self, command: AskPairingCode) -> PairingCodeShown:
        answer = self.pairing_codes.get(command.phone, "H0LDFAST")
        if isinstance(answer, int):
            return PairingCodeShown(link=command.link, request=command.request, error="refused", refused=answer)
        return PairingCodeShown(link=command.link, request=command.request, code=answer)

    def _answer_query(self, command: RunQuery) -> None:
        answers_with = self.answers.get(command.name)
        if answers_with is None:
            return  # WhatsApp is silent
        self.answer_query(command, answers_with(command.arguments))

    def _answer_operation(self, command: RunOperation) -> None:
        answers_with = self.operations.get(command.name)
        if answers_with is not None and (answer := answers_with(command)) is not None:
            self.answer_operation(command, answer)

    # -- actions of WhatsApp and of people

    def answer_operation(self, command: RunOperation, answer: object) -> None:
        """WhatsApp answers a step of an operation: with this, or with the error in an `OperationAnswered`."""
        empty = OperationAnswered(link=0, operation="", step="run", result=answer)
        answered = answer if isinstance(answer, OperationAnswered) else empty
        self._report(command.link, replace(answered, link=command.link, operation=command.operation, step=command.step))

    def answer_query(self, command: RunQuery, answer: object) -> None:
        """WhatsApp answers a query: with this, or with the error in a `QueryAnswered`."""
        answered = answer if isinstance(answer, QueryAnswered) else QueryAnswered(link=0, request=0, result=answer)
        self._report(command.link, replace(answered, link=command.link, request=command.request))

    def scan(self, link_id: LinkId, *, jid: str = "962700000001:1@s.whatsapp.net", lid: str = "1001:1@lid") -> None:
        """A phone scans the QR code of an unpaired link: new credentials, `Paired`, and the close with 515."""
        link = self.links[link_id]

        def paired() -> None:
            self._commit(link_id, credentials=f'{{"me":"{jid}","lid":"{lid}"}}', paired=True)
            self._report(link_id, Paired(link=link_id, jid=jid, lid=lid, platform="fake"))
            self._frame(link_id, lambda: self.drop(link_id, code=515, detail="Stream Errored (restart required)"))

        if link.pairing:
            self._later(paired)

    def request_passkey(self, link_id: LinkId, options: dict[str, object]) -> None:
        """A phone scanned the code, and its account requires a passkey."""
        self._later(lambda: self._report(link_id, PasskeyRequested(link=link_id, options=options)))

    def _take_assertion(self, link_id: LinkId) -> None:
        match self.passkey_answer:
            case "refused":
                self._report(link_id, PasskeyFailed(link=link_id, code="passkey-refused"))
            case "unknown":
                self._report(link_id, PasskeyFailed(link=link_id, code="passkey-unreadable"))
            case "finish" | "compare" as step:
                self._report(link_id, PasskeyContinued(link=link_id, code="G7R3-N352", confirm=step == "compare"))
                if step == "finish":
                    self.scan(link_id)

    def receive(
        self,
        link_id: LinkId,
        message: InboundMessage | None = None,
        *,
        text: str = "",
        whatsapp_id: str = "3A0001",
        sender: str = "962799999999@s.whatsapp.net",
    ) -> None:
        """A person writes: a message, or a text for short. The receipt is sent when the message's commit is durable."""
        inbound = message or InboundMessage(whatsapp_id=whatsapp_id, chat=sender, sender=sender, type="text", text=text)
        plaintext = (inbound.text or "").encode()
        decrypted = Decrypted(
            ciphertext_sha256=hashlib.sha256(inbound.whatsapp_id.encode() + plaintext).hexdigest(),
            plaintext=base64.b64encode(plaintext).decode(),
            message=inbound,
        )

        def arrive() -> None:
            self._report(link_id, FrameSeen(link=link_id))
            self._commit(link_id, keys={"session": {f"{inbound.sender}.0": "{}"}}, decrypted=[decrypted])
            self._frame(link_id, lambda: self.receipts_sent.append(inbound.whatsapp_id))

        self._unless_frozen(link_id, arrive)

    def call(self, link_id: LinkId, *signals: CallSignal) -> None:
        """Somebody calls, or a call ends. WhatsApp's signal is acknowledged when its commit is durable."""
        self._commit_and_acknowledge(link_id, [signal.call_id for signal in signals], calls=list(signals))

    def change_group(self, link_id: LinkId, *changes: GroupChange) -> None:
        """A group changes; its notification is acknowledged when that is durable."""
        self._commit_and_acknowledge(link_id, [change.notice_id for change in changes], group_changes=list(changes))

    def send_history(self, link_id: LinkId, *messages: InboundMessage, progress: HistoryProgress) -> None:
        """The phone sends a part of its history."""
        self._commit(link_id, history=list(messages), history_progress=progress)

    def _commit_and_acknowledge(
        self,
        link_id: LinkId,
        ids: list[str],
        *,
        calls: list[CallSignal] | None = None,
        group_changes: list[GroupChange] | None = None,
    ) -> None:
        def arrive() -> None:
            self._commit(link_id, calls=calls, group_changes=group_changes)
            self._frame(link_id, lambda: self.receipts_sent.extend(ids))

        self._unless_frozen(link_id, arrive)

    def garble(self, link_id: LinkId, message: Undecryptable) -> None:
        """A message arrives that can't be decrypted; when that is durable a retry receipt is sent. Then
        `receive` it.
        """

        def arrive() -> None:
            self._report(link_id, FrameSeen(link=link_id))
            self._commit(link_id, undecryptable=[message])
            self._frame(link_id, lambda: self.repeated_requests.append(message.whatsapp_id))

        self._unless_frozen(link_id, arrive)

    def lock_reach_out(self, link_id: LinkId, *, active: bool = True, until_s: int | None = None) -> None:
        """WhatsApp reports the reach-out lock, or its end."""
        report = NewChatsLocked(link=link_id, lock="reach-out-lock", active=active, until_s=until_s)
        self._unless_frozen(link_id, lambda: self._report(link_id, report))

    def receipt(self, link_id: LinkId, *, whatsapp_ids: list[str], chat: str, kind: str = "delivered") -> None:
        """The recipient's device reports that it received, read or played messages."""
        report = Receipted(link=link_id, whatsapp_ids=whatsapp_ids, chat=chat, kind=kind)
        self._unless_frozen(link_id, lambda: self._report(link_id, report))

    def ask_again(self, link_id: LinkId, *, whatsapp_id: str, chat: str, request: int = 1) -> None:
        """The recipient's device could not decrypt a message and sends a retry receipt."""
        report = SentContentRequested(link=link_id, request=request, chat=chat, whatsapp_id=whatsapp_id)
        self._unless_frozen(link_id, lambda: self._report(link_id, report))

    def drop(self, link_id: LinkId, *, code: int, detail: str = "", attributes: Fields | None = None) -> None:
        """WhatsApp or the network ends the link."""
        self._later(lambda: self._close(link_id, code=code, detail=detail, attributes=attributes or {}))

    def freeze(self, link_id: LinkId) -> None:
        """The connection goes half-open: no close, no frames, no answers; only a cut ends it."""
        self.links[link_id].frozen = True

    @property
    def facts(self) -> HostFacts:
        return HostFacts(pid=1, engine="fake", version="1", rss_bytes=None, links=len(self.links))

    def kill(self, detail: str) -> None:
        self.lose_host(detail=detail)

    def lose_host(self, *, detail: str = "killed by SIGKILL") -> None:
        """The host dies with all its links. Commands are dropped until `revive`."""
        self.alive = False
        self.links.clear()
        self._queue.clear()
        self._later(lambda: self._listener.host_lost(detail=detail))

    def revive(self) -> None:
        """Start a new host in place of the old one."""
        self.alive = True

    # -- reactions to commands

    def _connect(self, order: OpenLink) -> None:
        link = self.links.get(order.link)
        if link is None or not self.opens:
            return
        self._report(order.link, FrameSeen(link=order.link))
        if order.credentials is None or '"me"' not in order.credentials:
            link.pairing = True
            if order.credentials is None:
                self._commit(order.link, credentials='{"new":true}')
            qr = QrShown(link=order.link, qr=f"2@fake,{order.link}", valid_ms=60_000)
            self._frame(order.link, lambda: self._report(order.link, qr))
            return
        if self.refuses is not None:
            self._close(order.link, code=self.refuses, detail="Connection Failure")
            return
        link.opened = True
        self._report(order.link, LinkOpened(link=order.link, jid="962700000001:1@s.whatsapp.net", lid="1001:1@lid"))

    def _log_out(self, link_id: LinkId) -> None:
        self._later(lambda: self._close(link_id, code=401, detail="Intentional Logout"))

    def _send(self, command: Send, link: FakeLink) -> None:
        if self.dies_of is not None and command.content.get("text") == self.dies_of[0]:
            detail = self.dies_of[1]
            self._later(lambda: self.lose_host(detail=detail))
            return
        if self.ends_links is not None and command.content.get("text") == self.ends_links[0]:
            ends_with = self.ends_links[1]
            self._later(lambda: self.drop(command.link, code=ends_with))
            return
        if refusal := self._refusal(command, link):
            code, detail = refusal
            report = SendRefused(link=command.link, whatsapp_id=command.whatsapp_id, code=code, detail=detail)
            self._report(command.link, report)
            return
        if command.made is None and _kind(command.content) in MADE_ONCE:
            self._make(command)
        if command.typing_ms:
            self.typed.append((command.to, command.typing_ms))
        self._commit(command.link, keys={"session": {f"{command.to}.0": "{}"}})

        def on_sent() -> None:
            self._report(command.link, Written(link=command.link, whatsapp_id=command.whatsapp_id))
            if link.frozen:
                return
            self.arrived.append(command)
            if self.acks:
                ack = Acked(
                    link=command.link, whatsapp_id=command.whatsapp_id, chat=command.to, at_s=0, error=self.ack_error
                )
                self._report(command.link, ack)

        self._frame(command.link, on_sent, even_frozen=True)

    def _refusal(self, command: Send, link: FakeLink) -> tuple[str, str] | None:
        if not link.opened:
            return "link-down", "the link is not open"
        if command.to in self.not_on_whatsapp:
            return "not-on-whatsapp", ""
        kind = _kind(command.content)
        if kind not in KINDS:
            return "bad-content", f"no such kind of content: {kind}"
        if command.made is None and kind in MEDIA and (why := self._upload_failure(_file(command.content))):
            return "upload-failed", why
        return None

    def _upload_failure(self, file: str) -> str | None:
        if self.uploads_fail:
            return "the server answered 503"
        return None if Path(file).is_file() else "its file can't be read"

    def _make(self, command: Send) -> None:
        if _kind(command.content) in MEDIA:
            self.uploads.append(_file(command.content))
        made = base64.b64encode(json.dumps([command.whatsapp_id, command.content]).encode()).decode()
        self._commit(command.link, made=[CreatedMessage(whatsapp_id=command.whatsapp_id, made=made)])

    def _download(self, command: Download) -> None:
        if (detail := self.download_failure) is not None:
            self._report(
                command.link,
                Downloaded(link=command.link, request=command.request, error="engine-error", detail=detail),
            )
            return
        held = self.media.get(command.media_keys)
        error = "gone" if held is None else "too-large" if len(held) > command.most_bytes else None
        if held is None or error:
            self._report(command.link, Downloaded(link=command.link, request=command.request, error=error))
            return
        Path(command.file).write_bytes(held)
        self._report(command.link, Downloaded(link=command.link, request=command.request, size_bytes=len(held)))

    def _commit(
        self,
        link_id: LinkId,
        *,
        credentials: str | None = None,
        paired: bool = False,
        keys: dict[str, dict[str, str | None]] | None = None,
        decrypted: list[Decrypted] | None = None,
        undecryptable: list[Undecryptable] | None = None,
        made: list[CreatedMessage] | None = None,
        calls: list[CallSignal] | None = None,
        group_changes: list[GroupChange] | None = None,
        history: list[InboundMessage] | None = None,
        history_progress: HistoryProgress | None = None,
    ) -> None:
        if link := self.links.get(link_id):
            link.begun += 1
            self._report(
                link_id,
                Commit(
                    link=link_id,
                    seq=link.begun,
                    credentials=credentials,
                    paired=paired,
                    keys=keys or {},
                    decrypted=decrypted or [],
                    undecryptable=undecryptable or [],
                    made=made or [],
                    calls=calls or [],
                    group_changes=group_changes or [],
                    history=history or [],
                    history_progress=history_progress,
                ),
            )

    def _frame(self, link_id: LinkId, on_sent: Callable[[], None], *, even_frozen: bool = False) -> None:
        """Send a frame when all commits started so far are durable, in order."""

        link = self.links.get(link_id)
        if link is None:
            return

        def unless_frozen() -> None:
            if even_frozen or not link.frozen:
                on_sent()

        link.waiting.append((link.begun, unless_frozen))
        self._later(lambda: self._flush(link))

    def _flush(self, link: FakeLink) -> None:
        while link.waiting and link.waiting[0][0] <= link.durable and link.order.link in self.links:
            link.waiting.popleft()[1]()

    def _unless_frozen(self, link_id: LinkId, action: Callable[[], None]) -> None:
        def now() -> None:
            link = self.links.get(link_id)
            if link is not None and not link.frozen:
                action()

        self._later(now)

    def _close(self, link_id: LinkId, *, code: int, detail: str, attributes: Fields | None = None) -> None:
        if link_id in self.links:
            report = LinkClosed(link=link_id, code=code, detail=detail, attributes=attributes or {})
            self._report(link_id, report)
            del self.links[link_id]

    def _report(self, link_id: LinkId, report: AnyReport) -> None:
        if link_id in self.links:
            self._listener.report(report)

    def _later(self, action: Callable[[], None]) -> None:
        self._queue.append(action)
        asyncio.get_running_loop().call_soon(self._run_next)

    def _run_next(self) -> None:
        if self._queue:
            self._queue.popleft()()


def _kind(content: dict[str, object]) -> str:
    """The content's only kind, or whatever is there instead."""
    return ", ".join(name for name in content if name not in OPTIONS)


def _file(content: dict[str, object]) -> str:
    match content[_kind(content)]:
        case {"file": str(file)}:
            return file
        case _:
            return ""
