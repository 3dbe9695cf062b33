"""Faults on request: their kinds, the active ones, and how they change what the server does.

A fault is a protocol or network behaviour, for all accounts or for one. The decisions are made here and need no socket;
the shell carries out the kinds that affect connections (cut, freeze, refuse …).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from wasim.server.fault_hooks import (
    MESSAGE_ACCEPTED,
    DeliveryVerdict,
    LinkEnd,
    LoginFailure,
    MessageVerdict,
    PasskeyVerdict,
    QueryVerdict,
)
from wasim.server.quota import NewChatQuota
from wasim.server.state import PHONE, Address
from wasim.wire.nodes import Node

Direction = Literal["up", "down"]
"""The direction of media: from a client to the media host, or back."""

Part = Literal["devices", "phone"]
"""Which part of an account: its linked devices, or the phone itself."""


class BadFault(Exception):
    """The request is not a valid fault; the sentence says why."""


class FaultRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /faults`."""

    kind: str
    number: str | None = None
    seconds: float | None = None
    how: Literal["rst", "fin", "close"] = "rst"
    close_code: int = 1000
    new_links: bool = False
    down_s: float = 1.0
    release: bool = False
    ms: int = 1000
    code: str | int | None = None
    count: int | None = None
    attrs: dict[str, str] = {}
    reason: str | int | None = None
    status: int | None = None
    after_ms: int = 1000
    direction: Direction | None = None
    bytes_per_s: float = 65_536
    after_bytes: int = 65_536
    until: datetime | None = None
    to: Part = "devices"
    revision: int = 0
    xmlns: str | None = None
    tag: str | None = None
    chat: str | None = None
    lost: bool = False
    quota: Annotated[int, msgspec.Meta(ge=0)] = 0


_COMMON = frozenset({"kind", "number", "seconds"})
KINDS: dict[str, frozenset[str]] = {
    "cut": frozenset({"how", "closeCode"}),
    "freeze": frozenset({"newLinks"}),
    "restart": frozenset({"downS"}),
    "latency": frozenset({"ms"}),
    "withhold-acks": frozenset({"release"}),
    "blackhole": frozenset(),
    "delay-acks": frozenset({"ms"}),
    "double-acks": frozenset(),
    "reorder-acks": frozenset({"ms"}),
    "ack-error": frozenset({"code", "count", "chat"}),
    "query-error": frozenset({"xmlns", "tag", "code", "count"}),
    "withhold-answers": frozenset({"xmlns", "tag", "count", "lost"}),
    "reach-out-lock": frozenset({"until"}),
    "new-chat-quota": frozenset({"quota", "until"}),
    "stream-error-on-message": frozenset({"chat", "code", "attrs", "reason", "count"}),
    "cut-on-message": frozenset({"chat", "how", "closeCode", "count"}),
    "corrupt": frozenset({"to", "count"}),
    "redeliver": frozenset({"to", "count"}),
    "drop-receipts": frozenset(),
    "delay-receipts": frozenset({"ms"}),
    "stream-error": frozenset({"code", "attrs", "reason"}),
    "stream-end": frozenset(),
    "failure": frozenset({"reason", "attrs", "count"}),
    "raise-revision": frozenset({"revision"}),
    "refuse-resuming": frozenset(),
    "passkey-refused": frozenset({"count"}),
    "passkey-silent": frozenset({"count"}),
    "passkey-late": frozenset({"ms", "count"}),
    "refuse": frozenset({"status"}),
    "flap": frozenset({"afterMs"}),
    "media-refuse": frozenset({"status", "direction", "count"}),
    "media-slow": frozenset({"bytesPerS", "direction"}),
    "media-cut": frozenset({"afterBytes", "direction", "count"}),
}
"""Every kind, with its fields besides kind, number and seconds."""

MOMENTARY = frozenset({"cut", "restart", "stream-error", "stream-end"})
"""Kinds that happen once, immediately: they have no `seconds`."""
REACH_OUT_LOCKED = "463"
QUOTA_USED_UP = "475"
_QUERY_ERRORS = {
    400: "bad-request",
    403: "forbidden",
    404: "item-not-found",
    408: "request-timeout",
    429: "rate-overlimit",
    500: "internal-server-error",
    501: "feature-not-implemented",
    503: "service-unavailable",
}
UNTIL_ENDED_S = 86_400.0
"""The reported duration of a lock without an end."""
_NOT_BY_NUMBER = frozenset(
    {"raise-revision", "refuse-resuming", "restart", "refuse", "media-refuse", "media-slow", "media-cut"}
)


def parse_fault(body: object) -> FaultRequest:
    """Parse the body of a request. Raises BadFault with a sentence if it is not valid."""
    if not isinstance(body, dict) or body.get("kind") not in KINDS:
        kind = body.get("kind") if isinstance(body, dict) else body
        raise BadFault(f"fault {kind!r} is not known: kinds are {', '.join(sorted(KINDS))}")
    kind = body["kind"]
    for name in body.keys() - _COMMON - KINDS[kind]:
        raise BadFault(f"{kind} has no field {name!r}; its fields are {', '.join(sorted(_COMMON | KINDS[kind]))}")
    if kind in MOMENTARY and "seconds" in body:
        raise BadFault(f"{kind} happens once and has no 'seconds'")
    if kind in _NOT_BY_NUMBER and "number" in body:
        raise BadFault(f"{kind} applies to the whole server and has no 'number'")
    if "seconds" in body and "until" in body:
        raise BadFault(f"{kind} accepts 'seconds' or 'until', not both")
    try:
        request = msgspec.convert(body, type=FaultRequest)
    except msgspec.ValidationError as error:
        raise BadFault(f"{kind}: {error}") from error
    if kind == "query-error" and request.code is not None and not isinstance(request.code, int):
        raise BadFault(f"query-error: code {request.code!r} is not a number")
    if request.until is not None and request.until.tzinfo is None:
        raise BadFault(f"{kind}: until {body['until']!r} has no time zone; write it as 2026-11-22T10:56:00Z")
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaVerdict:
    """The effect of a fault on one upload or download."""

    status: int | None = None
    """The HTTP status that refuses it."""
    bytes_per_s: float | None = None
    cut_after: int | None = None
    """The connection is cut after this many bytes."""


@dataclass(slots=True, kw_only=True)
class Fault:
    id: int
    request: FaultRequest
    started_at: float
    ends_at: float | None
    ended_at: float | None = None
    links: int = 0
    """Connections that it affected when it started."""
    hits: int = 0
    """Number of effects so far: messages dropped, acks withheld, logins refused …"""
    new_chats: Counter[str] = field(default_factory=Counter)
    """By number: new chats that the account has started while the fault is active."""
    withheld: list[tuple[int, Node]] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    """Numbers of the connections that it froze."""
    delayed: set[int] = field(default_factory=set)
    """Numbers of the connections whose data it delays."""

    @property
    def kind(self) -> str:
        return self.request.kind

    def applies_to(self, number: str | None) -> bool:
        return self.request.number is None or self.request.number == number


class Faults:
    """The active faults. Implements the server's `FaultHooks`."""

    def __init__(self) -> None:
        self.active: dict[int, Fault] = {}
        self.ended: list[Fault] = []
        self._count = 0
        self.base_minimum_revision = 0
        """Clients of an older revision are refused, even without a fault."""

    def start(self, request: FaultRequest, *, now: float) -> Fault:
        """Record a fault as active (a momentary one as done)."""
        self._count += 1
        ends_at = None if request.seconds is None else now + request.seconds
        if request.until is not None:
            ends_at = request.until.timestamp()
        fault = Fault(id=self._count, request=request, started_at=now, ends_at=ends_at)
        if request.kind in MOMENTARY:
            fault.ended_at = now
            self.ended.append(fault)
        else:
            self.active[fault.id] = fault
        return fault

    def end(self, fault_id: int, *, now: float) -> Fault | None:
        """End an active fault; None when it is not active."""
        fault = self.active.pop(fault_id, None)
        if fault is not None:
            fault.ended_at = now
            self.ended.append(fault)
        return fault

    def due(self, now: float) -> list[Fault]:
        """Active faults whose time is up."""
        return [fault for fault in self.active.values() if fault.ends_at is not None and fault.ends_at <= now]

    @property
    def next_deadline(self) -> float | None:
        return min((fault.ends_at for fault in self.active.values() if fault.ends_at is not None), default=None)

    def first_active(self, kind: str, number: str | None) -> Fault | None:
        """The first active fault of that kind that applies to this account."""
        found = (fault for fault in self.active.values() if fault.kind == kind and fault.applies_to(number))
        return next(found, None)

    # The server's fault hooks

    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        for fault in self.active.values():
            decide = _VERDICTS.get(fault.kind)
            if decide is None or not fault.applies_to(sender.number) or self._used_up(fault):
                continue
            if (known and fault.kind in _FOR_NEW_CHATS) or fault.request.chat not in (None, chat):
                continue
            if fault.kind == "new-chat-quota" and fault.new_chats[sender.number] < fault.request.quota:
                fault.new_chats[sender.number] += 1
                continue
            fault.hits += 1
            return decide(fault.request)
        return MESSAGE_ACCEPTED

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        for fault in self.active.values():
            request = fault.request
            if fault.kind != "query-error" or not fault.applies_to(address.number) or self._used_up(fault):
                continue
            if request.xmlns in (None, xmlns) and request.tag in (None, tag):
                fault.hits += 1
                code = 429 if request.code is None else int(request.code)
                return code, _QUERY_ERRORS.get(code, "error")
        return None

    def on_answer(self, address: Address, *, xmlns: str, tag: str, now: float) -> QueryVerdict:
        for fault in self.active.values():
            request = fault.request
            if fault.kind != "withhold-answers" or not fault.applies_to(address.number) or self._used_up(fault):
                continue
            if request.xmlns in (None, xmlns) and request.tag in (None, tag):
                fault.hits += 1
                return "lost" if request.lost else "unanswered"
        return "answered"

    def ack_withheld(self, sender: Address, link: int, ack: Node) -> None:
        fault = self.first_active("withhold-acks", sender.number)
        if fault is not None:
            fault.withheld.append((link, ack))

    def on_delivery(self, to: Address, *, is_resend: bool, now: float) -> DeliveryVerdict:
        part: Part = "phone" if to.device == PHONE else "devices"
        corruption = None if is_resend else self._hit("corrupt", to.number, part)
        repetition = self._hit("redeliver", to.number, part)
        return DeliveryVerdict(damaged=corruption is not None, repeated=repetition is not None)

    def _hit(self, kind: str, number: str, part: Part | None = None) -> Fault | None:
        """The first active fault of that kind that applies to this account and is not used up; counts one hit."""
        for fault in self.active.values():
            applies = fault.kind == kind and fault.applies_to(number) and part in (None, fault.request.to)
            if applies and not self._used_up(fault):
                fault.hits += 1
                return fault
        return None

    def receipt_delay(self, to: str, *, now: float) -> float:
        fault = self._hit("delay-receipts", to)
        return 0.0 if fault is None else fault.request.ms / 1000

    def reach_out_lock(self, number: str, *, now: float) -> float | None:
        fault = self.first_active("reach-out-lock", number)
        return None if fault is None else self.lock_end(fault, now=now)

    def new_chat_quota(self, number: str, *, now: float) -> NewChatQuota | None:
        fault = self.first_active("new-chat-quota", number)
        if fault is None:
            return None
        return NewChatQuota(
            total=fault.request.quota,
            used=fault.new_chats[number],
            cycle_start=fault.started_at,
            cycle_end=self.lock_end(fault, now=now),
        )

    def lock_end(self, fault: Fault, *, now: float) -> float:
        """The end of the lock that is reported to the accounts of such a fault."""
        return now + UNTIL_ENDED_S if fault.ends_at is None else fault.ends_at

    def drops_receipt(self, to: str, *, now: float) -> bool:
        fault = self.first_active("drop-receipts", to)
        if fault is not None:
            fault.hits += 1
        return fault is not None

    def on_login(self, address: Address, *, now: float) -> LoginFailure | None:
        fault = self.first_active("failure", address.number)
        if fault is None or self._used_up(fault):
            return None
        fault.hits += 1
        reason = fault.request.reason
        return LoginFailure(reason="500" if reason is None else str(reason), attrs=dict(fault.request.attrs))

    @property
    def minimum_revision(self) -> int:
        raised = [fault.request.revision for fault in self.active.values() if fault.kind == "raise-revision"]
        return max([self.base_minimum_revision, *raised])

    @property
    def allows_resuming(self) -> bool:
        return self.first_active("refuse-resuming", None) is None

    def on_passkey(self, number: str, *, now: float) -> PasskeyVerdict:
        if self._hit("passkey-refused", number):
            return PasskeyVerdict(refused=True)
        if self._hit("passkey-silent", number):
            return PasskeyVerdict(silent=True)
        late = self._hit("passkey-late", number)
        return PasskeyVerdict() if late is None else PasskeyVerdict(delay_s=late.request.ms / 1000)

    def on_media(self, direction: Direction) -> MediaVerdict:
        """Called by the media host once for every upload and download; the oldest fault applies."""
        for fault in self.active.values():
            decide = _MEDIA_VERDICTS.get(fault.kind)
            applies = fault.request.direction in (None, direction)
            if decide is not None and applies and not self._used_up(fault):
                fault.hits += 1
                return decide(fault.request)
        return MediaVerdict()

    def _used_up(self, fault: Fault) -> bool:
        return fault.request.count is not None and fault.hits >= fault.request.count


def _refused(request: FaultRequest) -> MessageVerdict:
    return MessageVerdict(relayed=False, error="500" if request.code is None else str(request.code))


def _stream_error(request: FaultRequest) -> LinkEnd:
    reason = "xml-not-well-formed" if request.reason is None else str(request.reason)
    code = None if request.code is None else str(request.code)
    return LinkEnd(code=code, attrs=dict(request.attrs), reason=reason)


_VERDICTS: dict[str, Callable[[FaultRequest], MessageVerdict]] = {
    "blackhole": lambda _: MessageVerdict(accepted=False),
    "withhold-acks": lambda _: MessageVerdict(acks=0),
    "double-acks": lambda _: MessageVerdict(acks=2),
    "delay-acks": lambda request: MessageVerdict(ack_delay_s=request.ms / 1000),
    "reorder-acks": lambda request: MessageVerdict(ack_jitter_s=request.ms / 1000),
    "ack-error": _refused,
    "reach-out-lock": lambda _: MessageVerdict(relayed=False, error=REACH_OUT_LOCKED),
    "new-chat-quota": lambda _: MessageVerdict(relayed=False, error=QUOTA_USED_UP),
    "stream-error-on-message": lambda request: MessageVerdict(accepted=False, ends_link=_stream_error(request)),
    "cut-on-message": lambda request: MessageVerdict(
        accepted=False, ends_link=LinkEnd(how=request.how, close_code=request.close_code)
    ),
}
_FOR_NEW_CHATS = frozenset({"reach-out-lock", "new-chat-quota"})
"""Kinds that concern messages to accounts with which the sender has never exchanged one."""

_MEDIA_VERDICTS: dict[str, Callable[[FaultRequest], MediaVerdict]] = {
    "media-refuse": lambda request: MediaVerdict(status=503 if request.status is None else request.status),
    "media-slow": lambda request: MediaVerdict(bytes_per_s=request.bytes_per_s),
    "media-cut": lambda request: MediaVerdict(cut_after=request.after_bytes),
}
