"""The engine port: commands to the library that speaks WhatsApp's protocol, and its reports.

These values are the whole interface between Holdfast and an engine. They carry facts, never decisions: an engine
does not reconnect, retry or judge. A *link* is one connection of a session, numbered by Holdfast and never reused
within a process, so that a report of an old link cannot touch a new one.

Opaque strings: credentials and Signal keys are the engine's own JSON text; Holdfast stores them and returns
them unread.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, Protocol

import msgspec

from holdfast.session.account_changes import AnyAccountChange, ChatChanged

LinkId = int
Fields = dict[str, str]


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="c", rename="camel"):
    """A command to an engine, for one link."""

    link: LinkId


class OpenLink(Command, frozen=True, kw_only=True, tag="open"):
    """Connect one session. Answered by `QrShown` or `LinkOpened`, and in the end by exactly one `LinkClosed`."""

    company: str
    credentials: str | None
    """None for a session that was never paired: the engine makes new ones and commits them before it connects."""
    url: str | None = None
    """A server other than WhatsApp's own, ws:// or wss://."""
    connect_timeout_ms: int = 15_000
    query_timeout_ms: int = 15_000
    device_name: str | None = None
    """How the phone lists the device when it is linked; None: the engine's own choice."""
    proxy_url: str | None = None
    """The only way for the link's traffic: http, https or socks5, with credentials. None: a direct connection."""
    proxy_addresses: list[str] | None = None
    """IP addresses of the proxy, used instead of resolving its name. None: its name is resolved."""
    version: list[int] | None = None
    """The client version to log in with, three numbers; None: the engine's own."""
    history: str = "none"
    """What to store of the history that the phone sends: `none`, `recent` or `full`. A phone decides when the device is
    linked what it sends."""


class CutLink(Command, frozen=True, kw_only=True, tag="cut"):
    """Drop the socket now, without a closing handshake. `LinkClosed` follows at once, whatever the network does."""


class Send(Command, frozen=True, kw_only=True, tag="send", omit_defaults=True):
    """Send one message under an id that we chose. Answered by `Written` or `SendRefused`; WhatsApp's answer is
    `Acked`."""

    whatsapp_id: str
    to: str
    """JID of the recipient or group."""
    content: dict[str, object]
    """One kind with its fields, as `holdfast.delivery.content` defines them; media are files on this machine."""
    made: str | None = None
    """What the engine made of the content before (`CreatedMessage`), base64: sent as it is, so media are uploaded
    once."""
    typing_ms: int = 0
    """Show the recipient "typing" for this long before the message is sent."""


class Download(Command, frozen=True, kw_only=True, tag="download"):
    """Fetch the media of an inbound message into a file. Answered by `Downloaded`."""

    request: int
    media_keys: str
    """`InboundMessage.media_keys`, unchanged."""
    file: str
    """The file to write. It is complete when `Downloaded` reports success, and absent when it reports an error."""
    most_bytes: int


class RunQuery(Command, frozen=True, kw_only=True, tag="query"):
    """Ask WhatsApp something for a person. Answered by `QueryAnswered` with the same `request`."""

    request: int
    name: str
    """One of the engine's queries; `holdfast.session.queries` defines them."""
    arguments: dict[str, object]


class RunOperation(Command, frozen=True, kw_only=True, tag="operation", omit_defaults=True):
    """Change something at WhatsApp, or observe whether it was changed. Answered by `OperationAnswered` with the same
    `operation` and `step`. Steps of one operation run one after another."""

    operation: str
    """Id of the operation."""
    step: Literal["run", "observe"]
    name: str
    """One of the engine's operations; `holdfast.session.operations` defines them."""
    arguments: dict[str, object]
    file: str | None = None
    """A file on this machine that belongs to the arguments, such as a picture."""


class Ping(Command, frozen=True, kw_only=True, tag="ping"):
    """Ping WhatsApp's server. Answered by `Ponged` with the same `n`, or never."""

    n: int


class Presence(Command, frozen=True, kw_only=True, tag="presence"):
    """Tell WhatsApp whether this device is in use. The protocol has no answer to it, so it proves nothing."""

    available: bool


class AskPairingCode(Command, frozen=True, kw_only=True, tag="pairing-code"):
    """Ask for an eight-character code for `phone` (digits). Answered by `PairingCodeShown` with the same `request`."""

    request: int
    phone: str


class AnswerPasskey(Command, frozen=True, kw_only=True, tag="passkey-assertion"):
    """Pass the owner's assertion to WhatsApp. Answered by `PasskeyContinued` or `PasskeyFailed`, or never."""

    assertion: dict[str, object]
    """`{id, rawId, type, response: {clientDataJSON, authenticatorData, signature, userHandle?}}`, in base64url."""


class ConfirmPasskey(Command, frozen=True, kw_only=True, tag="passkey-confirm"):
    """The owner compared the codes, and they match. Followed by `Paired`, or `PasskeyFailed`, or nothing."""


class LogOut(Command, frozen=True, kw_only=True, tag="logout"):
    """Unlink the device at WhatsApp, then close."""


class Committed(Command, frozen=True, kw_only=True, tag="committed"):
    """Answer to `Commit`: everything in it is durable; frames that waited for it may leave."""

    seq: int


class SignalKeys(Command, frozen=True, kw_only=True, tag="keys"):
    """Answer to `KeysRequested`: the stored values by id; an unknown id is absent."""

    request: int
    values: dict[str, str]


class Plaintext(Command, frozen=True, kw_only=True, tag="plaintext"):
    """Answer to `PlaintextRequested`: base64, or None when that ciphertext was never decrypted here."""

    request: int
    plaintext: str | None


class SentContent(Command, frozen=True, kw_only=True, tag="sent-content", omit_defaults=True):
    """Answer to `SentContentRequested`: what was sent under that id, or None."""

    request: int
    content: dict[str, object] | None
    made: str | None = None
    """As in `Send`; if present, it is sent instead of `content`."""


class AnsweredMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message of the inbox that an encrypted answer refers to."""

    secret: str
    """`InboundMessage.message_secret`"""
    sender: str
    sender_lid: str | None = None
    from_me: bool = False
    content: dict[str, object] | None = None


class AnsweredMessageFound(Command, frozen=True, kw_only=True, tag="answered-message"):
    """Answer to `AnsweredMessageRequested`; None when the inbox has no such message, or none with a secret."""

    request: int
    message: AnsweredMessage | None


class Report(msgspec.Struct, frozen=True, kw_only=True, tag_field="r", rename="camel", omit_defaults=True):
    """Something that happened on one link."""

    link: LinkId


class QrShown(Report, frozen=True, kw_only=True, tag="qr"):
    """A QR code to be scanned; the next one replaces it."""

    qr: str
    valid_ms: int
    """Milliseconds until the next code: the first code of a link is shown for longer than the others."""


class PairingCodeShown(Report, frozen=True, kw_only=True, tag="pairing-code"):
    """The requested code, or why there is none. When a link closes, its open requests are dropped."""

    request: int
    code: str | None = None
    error: str | None = None
    """WhatsApp's own text, or a description of the failure."""
    refused: int | None = None
    """WhatsApp refused with this code: 429 for too many requests, 400 for a number or device that it does not
    accept."""


class PasskeyRequested(Report, frozen=True, kw_only=True, tag="passkey-requested"):
    """The account's owner must sign before this device is linked. Another one replaces it."""

    options: dict[str, object]
    """In the form that `PublicKeyCredential.parseRequestOptionsFromJSON` accepts."""


class PasskeyContinued(Report, frozen=True, kw_only=True, tag="passkey-continued"):
    """WhatsApp accepted the assertion. With `confirm` the engine waits for `ConfirmPasskey`."""

    code: str
    """The code that the phone shows as well."""
    confirm: bool


class PasskeyFailed(Report, frozen=True, kw_only=True, tag="passkey-failed"):
    """The ceremony failed and the device is not linked. The link stays open but has no further use."""

    code: str
    """`passkey-refused`, `passkey-timeout`, `passkey-unreadable`, `passkey-failed`. Holdfast's own reports of an end in
    which the engine has no part have other codes."""
    detail: str = ""


class Paired(Report, frozen=True, kw_only=True, tag="paired"):
    """A phone scanned the code. WhatsApp now closes the link with 515, and the session logs in on a new one."""

    jid: str
    lid: str | None = None
    platform: str | None = None


class LinkOpened(Report, frozen=True, kw_only=True, tag="opened"):
    """Logged in."""

    jid: str
    lid: str | None = None


class LinkClosed(Report, frozen=True, kw_only=True, tag="closed"):
    """The link has ended. This is the last report with its number."""

    code: int
    """Baileys' status code (DisconnectReason, or WhatsApp's own number)."""
    detail: str = ""
    attributes: Fields = {}
    """Attributes of WhatsApp's stream error or failure node: code, expire, reason, type …"""


class FrameSeen(Report, frozen=True, kw_only=True, tag="frame"):
    """Bytes arrived from WhatsApp. Reported at most once a second for each link."""


class Ponged(Report, frozen=True, kw_only=True, tag="pong"):
    n: int


class QueryAnswered(Report, frozen=True, kw_only=True, tag="query-answered"):
    """WhatsApp's answer to `RunQuery`, or why there is none. When a link closes, its open requests are dropped."""

    request: int
    result: object = None
    """As `holdfast.session.queries` describes it for this query."""
    error: str | None = None
    """`refused` with WhatsApp's `code`; `not-found`, `no-such-group`, `rate-limited`, `server-busy`, `timeout`,
    `link-down`, `engine-error`."""
    code: int | None = None
    detail: str = ""
    retry_after_s: float | None = None
    """Seconds during which no query of this kind is sent, because WhatsApp answers none."""


class OperationAnswered(Report, frozen=True, kw_only=True, tag="operation-answered"):
    """WhatsApp's answer to `RunOperation`, or why there is none. When a link closes, its open requests are dropped."""

    operation: str
    step: Literal["run", "observe"]
    result: object = None
    """As `holdfast.session.operations` expects it for this kind."""
    error: str | None = None
    """`refused` with WhatsApp's `code`; `not-found`, `no-such-group`, `not-on-whatsapp`, `bad-content`, `rate-limited`,
    `server-busy`, `timeout`, `link-down`, `engine-error`. Only after `rate-limited` it was certainly not done."""
    code: int | None = None
    detail: str = ""
    retry_after_s: float | None = None
    """Seconds during which no request of this kind is sent, because WhatsApp answers none."""


class Written(Report, frozen=True, kw_only=True, tag="written"):
    """The message's frame was written to the socket. This does not mean that WhatsApp has it."""

    whatsapp_id: str
    members: int | None = None
    """In a group, or for a status: how many people other than this account it was sent to."""


class SendRefused(Report, frozen=True, kw_only=True, tag="send-refused"):
    """The engine could not make a frame of the message: nothing was sent. `code` is a stable word."""

    whatsapp_id: str
    code: str
    """`not-on-whatsapp`, `no-audience`, `no-such-group`, `link-down`, `timeout`, `upload-failed`, `bad-content`,
    `rate-limited`, `server-busy`, `engine-error`."""
    detail: str = ""
    retry_after_s: float | None = None
    """Seconds during which no query that this message needs is sent, because WhatsApp answers none."""


class Acked(Report, frozen=True, kw_only=True, tag="ack"):
    """WhatsApp's ack of a message; with `error` when it did not accept the message."""

    whatsapp_id: str
    chat: str
    at_s: int | None = None
    """Server time, Unix seconds."""
    error: str | None = None


class Receipted(Report, frozen=True, kw_only=True, tag="receipt"):
    """A recipient's device received, read or played messages of ours."""

    whatsapp_ids: list[str]
    chat: str
    kind: str
    """`delivered`, `read`, `played`; other receipts are not reported."""
    participant: str | None = None
    at_s: int | None = None


class InboundMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message for people, decoded by the engine."""

    whatsapp_id: str
    chat: str
    """JID of the chat, by phone number where WhatsApp reports it."""
    sender: str
    sender_lid: str | None = None
    """JID that hides the sender's number, where WhatsApp reports it."""
    type: str
    """`text`, `image`, `video`, `audio`, `document`, `sticker`, `location`, `contact`, `reaction`, `unknown` …"""
    text: str | None = None
    """Text, or the caption."""
    sent_at_s: int = 0
    from_me: bool = False
    push_name: str | None = None
    offline: bool = False
    """It waited in WhatsApp's offline queue."""
    content: dict[str, object] = {}
    """Content besides the text: `location` {latitude, longitude, name?, address?}, `contact` {name, vcard} or
    `contacts` [those], `reaction` {emoji}, `choices` {button?, options}, `selected` {id?, title?}, `poll` {options,
    votes}, `event`, `order`, `product`, `invite`, `payment`, `call`, `mentions` [JID], `replyTo` {whatsappId, sender},
    `forwarded`, `viewOnce`, `videoNote`, `ad`, `eventResponse`; `encrypted` with `unreadable`: why an encrypted answer
    can't be read; `raw`: the fields of a message that is not understood."""
    target: str | None = None
    """WhatsApp id of the message that this one edits, revokes (`revoke`) or reacts to."""
    media: dict[str, object] | None = None
    """`{mimetype, sizeBytes?, filename?, seconds?, voice?}`."""
    media_keys: str | None = None
    """Opaque and secret keys that `Download` needs to fetch the media."""
    message_secret: str | None = None
    """Opaque secret that decrypts encrypted answers to this message, such as votes in a poll."""


class Undecryptable(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message that arrived but can't be read; the engine asks its sender for it again."""

    whatsapp_id: str
    chat: str
    sender: str
    sent_at_s: int = 0
    push_name: str | None = None


class CallSignal(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Somebody calls the account, or a call no longer rings."""

    call_id: str
    kind: Literal["offer", "answered", "rejected", "missed", "ended"]
    """`offer` begins a call. `answered` and `rejected`: by the account, on another device; `missed`: nobody answered in
    time; `ended`: by the caller."""
    caller: str
    """JID, by phone number where WhatsApp reports it."""
    caller_lid: str | None = None
    creator: str
    """The caller as the call names it; WhatsApp wants it back when the call is rejected."""
    video: bool = False
    group: str | None = None
    push_name: str | None = None
    at_s: int = 0
    offline: bool = False
    """It waited in WhatsApp's offline queue: the call is over."""


class ChangedMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    jid: str
    lid: str | None = None
    role: str | None = None
    """`admin` or `superadmin`, where the change says so."""


class GroupChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """WhatsApp reported a change of a group that the account is in."""

    notice_id: str
    """Identifies the notification: WhatsApp delivers it again until it is acknowledged."""
    group: str
    kind: str
    """`created`, `deleted`, `members_added`, `members_removed`, `members_left`, `admins_added`, `admins_removed`,
    `number_changed`, `subject`, `description`, `picture`, `announce_only`, `locked`, `disappearing`, `members_add`,
    `join_approval`, `invite_revoked`, `join_requested`, `join_request_withdrawn`, `join_request_rejected`, `other`."""
    value: str | bool | int | None = None
    """The new subject, description or setting; of a request to join, how it was made; of `other`, WhatsApp's name."""
    actor: str | None = None
    actor_lid: str | None = None
    actor_name: str | None = None
    participants: list[ChangedMember] = []
    """The people whom it concerns."""
    at_s: int = 0


class CreatedMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message that can't be created a second time, because its media were uploaded under random keys."""

    whatsapp_id: str
    made: str
    """Base64."""


class Decrypted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One ciphertext that was decrypted: stored so that a redelivery after a crash yields the same plaintext."""

    ciphertext_sha256: str
    """Hex."""
    plaintext: str
    """Base64."""
    message: InboundMessage | None = None
    """None: protocol traffic that no person reads."""
    timer: ChatChanged | None = None
    """The timer of disappearing messages in its chat, if the message contains it."""


class HistoryProgress(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How far the phone and the engine are with a history."""

    percent: int | None = None
    """How much of the history the phone says it has sent."""
    reading: int = 0
    """Parts that are being stored, or are next."""
    retrying: int = 0
    """Parts that could not be fetched: they are read again on the next link."""
    lost: int = 0
    """Parts that were given up: they can't be read, or failed repeatedly."""


class Commit(Report, frozen=True, kw_only=True, tag="commit"):
    """Changes that must be durable, all or none, before a later frame of this link leaves. Answered by `Committed`.

    One without changes is a barrier: everything that this link reported earlier must be durable before the answer.
    Receipts need it, because WhatsApp sends them only once.
    """

    seq: int
    credentials: str | None = None
    paired: bool = False
    """These credentials belong to a linked device."""
    keys: dict[str, dict[str, str | None]] = {}
    """`{type: {id: value}}`; None deletes."""
    decrypted: list[Decrypted] = []
    undecryptable: list[Undecryptable] = []
    made: list[CreatedMessage] = []
    groups: Fields = {}
    """Subjects of groups by JID, as far as they became known."""
    usernames: Fields = {}
    """Usernames of people by hidden id, as far as they became known."""
    changes: list[AnyAccountChange] = []
    """Settings of the account that changed, in order. The versions that brought them are among `keys`."""
    history: list[InboundMessage] = []
    """Messages from before the device was linked, or that were requested from the phone."""
    history_progress: HistoryProgress | None = None
    calls: list[CallSignal] = []
    group_changes: list[GroupChange] = []


class KeysRequested(Report, frozen=True, kw_only=True, tag="keys-wanted"):
    request: int
    type: str
    ids: list[str]


class PlaintextRequested(Report, frozen=True, kw_only=True, tag="plaintext-wanted"):
    """A ciphertext could not be decrypted: perhaps it was decrypted before, and the receipt was lost in a crash."""

    request: int
    ciphertext_sha256: str


class SentContentRequested(Report, frozen=True, kw_only=True, tag="sent-content-wanted"):
    """A recipient asks for a message again (retry receipt)."""

    request: int
    chat: str
    """Where the request came from: normally the chat that the message went to."""
    whatsapp_id: str


class AnsweredMessageRequested(Report, frozen=True, kw_only=True, tag="answered-message-wanted"):
    """An encrypted answer arrived, such as a vote in a poll: the engine needs the message that it answers."""

    request: int
    chat: str
    whatsapp_id: str


class Downloaded(Report, frozen=True, kw_only=True, tag="downloaded"):
    """The answer to `Download`. When a link closes, its open requests are dropped."""

    request: int
    size_bytes: int | None = None
    error: str | None = None
    """Why there is no file: `gone` (WhatsApp no longer has it), `too-large`, `damaged`, `timeout`, `engine-error`."""
    detail: str | None = None
    """The engine's own words about it."""


class PresenceSeen(Report, frozen=True, kw_only=True, tag="presence"):
    """A contact came online or left, or writes or speaks in a chat. Changes that follow quickly are combined."""

    chat: str
    sender: str
    state: Literal["available", "unavailable", "composing", "recording", "paused"]
    last_seen_s: int | None = None
    """Unix seconds, where the contact shows it."""


class NewChatsLocked(Report, frozen=True, kw_only=True, tag="new-chats-locked"):
    """WhatsApp reported a lock on messages to new contacts, or its end."""

    lock: Literal["reach-out-lock", "new-chat-quota"]
    active: bool
    until_s: int | None = None
    """Unix seconds; None: WhatsApp did not say."""


AnyCommand = (
    OpenLink
    | CutLink
    | Send
    | Download
    | RunQuery
    | RunOperation
    | Ping
    | Presence
    | AskPairingCode
    | AnswerPasskey
    | ConfirmPasskey
    | LogOut
    | Committed
    | SignalKeys
    | Plaintext
    | SentContent
    | AnsweredMessageFound
)
AnyReport = (
    QrShown
    | PairingCodeShown
    | PasskeyRequested
    | PasskeyContinued
    | PasskeyFailed
    | Paired
    | LinkOpened
    | LinkClosed
    | FrameSeen
    | Ponged
    | QueryAnswered
    | OperationAnswered
    | Written
    | SendRefused
    | Acked
    | Receipted
    | Commit
    | KeysRequested
    | PlaintextRequested
    | SentContentRequested
    | AnsweredMessageRequested
    | Downloaded
    | NewChatsLocked
    | PresenceSeen
)


BAD_CREDENTIALS = -1
"""Code of `LinkClosed` where Holdfast itself refused to open the link: the stored credentials can't be used. Codes of
Baileys and WhatsApp are positive."""
PROXY_UNREACHABLE, PROXY_LOGIN, PROXY_REFUSED, PROXY_TIMEOUT, PROXY_TLS, PROXY_NOT_ALLOWED = -2, -3, -4, -5, -6, -7
"""Codes of `LinkClosed` where the link's proxy could not be reached, did not accept the credentials, would not connect
to WhatsApp, did not answer in time, failed its TLS handshake, or is at a private address that is not allowed."""
_HEARTBEAT_LOST = "exited with code 75"
_KILLED = frozenset({f"killed by {name}" for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")})


class HostEnd(Enum):
    """Why an engine host ended. It decides whether one of its sessions or messages is suspected."""

    CRASHED = "crashed"
    """It ended itself, hung, or broke the protocol: whatever it ran may be the cause."""
    KILLED = "killed"
    """It was killed by a signal that Holdfast did not send: by an operator, or by the kernel because memory ran out."""
    HEARTBEAT_LOST = "heartbeat-lost"
    """It exited because the gateway's heartbeat did not arrive in time. No session or message is the cause."""


def host_end(detail: str) -> HostEnd:
    """Classify a `detail` of `host_lost`."""
    if detail == _HEARTBEAT_LOST:
        return HostEnd.HEARTBEAT_LOST
    return HostEnd.KILLED if detail in _KILLED else HostEnd.CRASHED


class Listener(Protocol):
    """Receives an engine's reports. Called on the event loop, in order, and must not block."""

    def report(self, report: AnyReport) -> None: ...

    def host_lost(self, *, detail: str) -> None:
        """The engine host died or stopped answering: all of its links have ended, without a `LinkClosed` for each."""


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An engine host, for diagnostics."""

    pid: int
    engine: str
    version: str
    rss_bytes: int | None
    """Resident memory; None before the first heartbeat."""
    links: int | None


class Engine(Protocol):
    """A running engine. Commands never block and never fail: their outcome is reported."""

    def command(self, command: AnyCommand) -> None: ...

    @property
    def silent_s(self) -> float:
        """Seconds since the engine host last wrote a line."""

    @property
    def facts(self) -> HostFacts: ...

    def kill(self, detail: str) -> None:
        """Kill the host, with a reason for the log; `host_lost` follows."""
