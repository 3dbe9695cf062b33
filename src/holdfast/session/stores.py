"""Storage interfaces of sessions: their records, history, live state, leases, and the engine's credentials and keys.

Times are ISO 8601 text, UTC, `Z`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import HoldfastError
from holdfast.session.engine import AnsweredMessage, Commit, InboundMessage
from holdfast.session.operation_states import (
    AcceptedOperation,
    OpenOperations,
    Operation,
    OperationDraft,
    OperationState,
)
from holdfast.session.reasons import PASSKEY_REQUIRED
from holdfast.session.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A session as it is stored and shown."""

    company: str
    state: State
    since: str
    reason: str | None = None
    """Name of the reason, from the table of reasons."""
    code: int | None = None
    attempts: int = 0
    resumes_at: str | None = None
    """When a paused session tries again."""
    phone_number: str | None = None
    jid: str | None = None
    connected_at: str | None = None
    last_activity: str | None = None
    created_at: str
    device_name: str | None = None
    """What the phone lists the device as when it is linked; None: as the settings say."""
    proxy_url: str | None = field(default=None, repr=False)
    """With its credentials. None: the proxy in the settings, if there is one."""
    history: str | None = None
    """What is stored of the phone's history: `recent` or `full`; None: nothing."""
    ignored: str | None = None
    """Kinds of messages that are not stored, as `holdfast.session.ignoring` writes them; None: all are stored."""
    auto_reject_calls: str | None = None
    """`on`: calls are rejected as they come in."""
    rejected_call_text: str | None = None
    """Sent to the caller of a call that was rejected automatically."""
    shown_available: str | None = None
    """`yes` or `no`: whether contacts see the account as online; None: as the settings say."""
    auto_read: str | None = None
    """`on`: what arrives is marked as read."""


class Sessions(Protocol):
    """Durable records of sessions. Every method returns when its change is on disk."""

    async def all(self) -> list[Record]: ...
    async def find(self, company: str) -> Record | None: ...

    async def create(self, record: Record) -> None:
        """Store it unless the company has one already."""

    async def save(self, record: Record) -> None:
        """Store the record, except for the fields that `set_connection` stores."""

    async def set_connection(self, company: str, changes: Mapping[str, str | None]) -> None:
        """Change the settings of its owner: fields `device_name`, `proxy_url`, `history`, `ignored`,
        `auto_reject_calls`, `rejected_call_text`, `shown_available` and `auto_read`."""

    async def labels(self) -> Mapping[str, str]:
        """What people call each company that has a label, by company id."""

    async def set_label(self, company: str, label: str | None) -> None:
        """Set or remove the label of an existing session. Any process may do so, also one that does not run it."""


class Availability(StrEnum):
    """Where live state is stored now."""

    UP = "up"
    """In Redis, and in memory beside it."""
    DOWN = "down"
    """In memory; it is written back when Redis returns."""
    OFF = "off"
    """In memory, as no Redis is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStatus:
    availability: Availability
    since: str
    sentence: str
    """For people: the problem and its cure, or that there is none. Never a password."""


class LiveState(Protocol):
    """The current state of each session, for other programs; it holds nothing that can't be rebuilt.

    It may be emptied or unreachable at any moment, and nothing in Holdfast waits for it.
    """

    @property
    def status(self) -> LiveStatus: ...

    def put(self, record: Record) -> None:
        """Show this record from now on, until `release` or `remove`. Never blocks, never raises."""

    def release(self, company: str) -> None:
        """Another process runs this session: leave its record to that one."""

    def remove(self, company: str) -> None:
        """The session no longer exists: delete its record."""

    async def get(self, company: str) -> Mapping[str, object] | None:
        """The record as JSON, no matter which process wrote it; within 250 ms, from memory if necessary."""

    async def run(self) -> None:
        """Write the records that were put, until cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One line of a session's history: from one state to another, or another attempt within one."""

    company: str
    at: str
    before: State
    after: State
    event: str
    """Name of the event: `LinkClosed`, `Tick` …"""
    reason: str | None
    code: int | None
    attempts: int
    next_attempt_at: str | None
    lasted_s: float
    """How long the state before had lasted."""

    @property
    def is_event(self) -> bool:
        """Whether it is reported to webhooks and event streams. Another attempt within a state is not; a request for a
        passkey is, because a person must answer it within minutes."""
        return self.after is not self.before or self.reason == PASSKEY_REQUIRED.name


class Timeline(Protocol):
    """The history of sessions, kept for at least seven days."""

    async def add(self, transition: Transition) -> None: ...

    async def last(self, company: str, *, since: str, limit: int) -> list[Transition]:
        """The newest transitions at or after `since`, and the one before them, oldest first."""

    async def seen_alive(self, at: str) -> str | None:
        """Record that Holdfast is alive at `at`; returns the time recorded before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingWork:
    """The numbers (`seq`) of a company's newest queued message and operation; None: there is none."""

    newest_message: int | None
    newest_operation: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """The result of one renewal of the leases."""

    companies: frozenset[str]
    """Sessions that this process owns: renewed or claimed now."""
    waiting: Mapping[str, WaitingWork]
    """Those of them that have queued messages or operations, no matter which process accepted them."""
    elsewhere: Mapping[str, str]
    """By company: the node of each session that another process owns; empty where none does yet."""
    free_in_s: float | None
    """Seconds until the first of their leases runs out, unless it is renewed; None when there is none."""
    database_time: float = 0.0
    """Unix seconds by the database's clock during the renewal: a clock that all nodes share."""
    nodes: tuple[ClusterNode, ...] = ()
    """All nodes that renewed their leases within the last minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDescription:
    """What a node publishes about itself."""

    name: str
    """A label for people; two nodes may have the same."""
    url: str = ""
    """Where other nodes reach it by HTTP; empty: they do not."""
    capacity: int = 0
    """Maximum number of sessions that it should run; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A process that shares the database."""

    id: str
    """A random id, new at each start; empty for a process of an older version, which publishes only its name."""
    name: str
    url: str = ""
    holder: str = ""
    """The holder of its leases now."""
    capacity: int = 0
    is_draining: bool = False
    """It transfers its sessions to other nodes and accepts none."""
    sessions: int = 0
    """The number of sessions that it owned when it last renewed its leases."""
    connecting: int = 0
    """How many of them were waiting to connect at that time."""
    started_at: str = ""
    up_s: float = math.inf
    """Seconds since it started."""
    seen_ago_s: float = 0.0
    """Seconds since it renewed its leases."""


Share = Callable[[Sequence[ClusterNode], int, int], int]
"""How many sessions a node may claim: by all nodes, the sessions that it owns, and the sessions of all."""


class LeaseLost(HoldfastError):
    """Another process owns the session, or may own it by now: nothing was written for it."""

    code = "lease-lost"

    def __init__(self, company: str) -> None:
        super().__init__(f"the session of company {company} is run by another Holdfast process now")


class Leases(Protocol):
    """Ownership of sessions, where several processes share a database.

    Each claim increments the session's epoch. A write that only the owner may do names the epoch under which it was
    asked for, and fails with `LeaseLost` when that is not the current one.
    """

    @property
    def ttl_s(self) -> float:
        """How long a lease lives after each renewal, by the database's own clock."""

    async def renew(self, *, limit: int, share: Share | None = None, connecting: int = 0) -> HeldLease:
        """Renew all own leases and claim what is free or has run out: `limit` at most, and as many as `share` allows.

        `connecting`: own sessions that wait to connect; it is published with the node.
        """

    async def claim(self, company: str) -> bool:
        """Claim one, also before the session exists; True when this process owns it now, or did already."""

    @property
    def node_id(self) -> str:
        """The id of this process in the list of nodes."""

    async def owner(self, company: str) -> ClusterNode | None:
        """The node that owns it now; None when none does."""

    async def nodes(self) -> list[ClusterNode]:
        """All nodes that renewed their leases within the last minute, oldest first."""

    async def writes_done(self, company: str) -> None:
        """Return when every write for this session that has already begun has ended."""

    async def transfer(self, company: str, to: ClusterNode) -> bool:
        """Make another node the owner of a session, until the end of that node's other leases.

        Call only when its link is closed and its writes are done. False: that node is not there any more, drains, or
        has not renewed its leases lately.
        """

    async def drain(self, *, drains: bool) -> None:
        """Publish that this node transfers its sessions to others and accepts none, or that it no longer does."""

    def drop(self, company: str) -> None:
        """The lease was lost: nothing more is written for this session under the old epoch."""

    def abandon(self) -> None:
        """All leases may have been lost: stop renewing them. They can be claimed again."""

    async def reserve(self, *, for_s: float) -> None:
        """Reserve the sessions that wait for this process for that much longer: it is about to claim them."""

    async def release(self, *, reserve_s: float = 0) -> None:
        """Release all leases, so that another process need not wait until they run out. For `reserve_s` only a process
        with the same name may claim them: the next one of this node."""


class EngineStore(Protocol):
    """The durable state of engines: credentials, Signal keys, decrypted messages."""

    async def credentials(self, company: str) -> str | None: ...

    async def is_paired(self, company: str) -> bool:
        """Do the credentials belong to a linked device?"""

    async def commit(self, company: str, commit: Commit) -> Sequence[InboundMessage]:
        """Everything in `commit`, all or nothing; returns the inbound messages that were not yet in the inbox."""

    async def keys(self, company: str, type_: str, ids: Sequence[str]) -> dict[str, str]: ...

    async def plaintext(self, company: str, ciphertext_sha256: str) -> bytes | None: ...

    async def answered_message(self, company: str, whatsapp_id: str, *, chat: str) -> AnsweredMessage | None:
        """The inbound message that encrypted answers refer to by this id: the first one in that chat with a secret."""

    async def forget_plaintexts(self, *, before: str) -> None:
        """Drop plaintexts from before then: WhatsApp no longer delivers those messages again."""

    async def quarantine(self, company: str, *, reason: str) -> None:
        """Move credentials and keys to quarantine, from where they can be restored. The session starts without any."""


class Operations(Protocol):
    """Durable operations. Every method that changes something returns when the change is on disk."""

    async def accept(self, draft: OperationDraft, *, max_open: int) -> AcceptedOperation | None:
        """Store a request, or find the one with its Idempotency-Key; None when `max_open` are open already.

        Raises `NotFound`, and `Conflict` for a key that was used for another request.
        """

    async def repeated(self, company: str, *, idempotency_key: str, request_hash: str) -> Operation | None:
        """The operation that the first request with this key started. Raises `Conflict` for another request."""

    async def save(self, operation: Operation, *, before: OperationState) -> Operation | None:
        """Store a change, with its event; None when the row no longer has the state `before`. Raises `LeaseLost`."""

    async def cancel(self, operation_id: str) -> Operation:
        """Raises `NotFound`, and `Conflict` unless it is queued or cancelled."""

    async def follow_clock(self, company: str, step: ClockStep) -> None:
        """The wall clock was set: what waits for its next attempt is due, and expires after the time it was given."""

    async def find(self, operation_id: str) -> Operation | None: ...

    async def open(self, company: str, *, now: str, paused: Collection[str], limit: int) -> OpenOperations:
        """Operations that are not settled, without the heads of `paused` kinds; at most `limit` of each list."""

    async def operations(
        self, company: str, *, state: OperationState | None, after: int, limit: int
    ) -> list[Operation]: ...

    async def newest(self, company: str, *, limit: int) -> list[Operation]:
        """Newest first."""
