"""Asks the connect limiter for each session before it connects, and wakes those that wait.

It must never make a session wait without a wake-up: a waiting session knows when to request again.
"""

from __future__ import annotations

import logging
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.health.advice import because
from holdfast.session import connect_limiter as limiter
from holdfast.session.connect_limiter import DeferConnect, Limiter, LimiterPolicy, Wakes
from holdfast.session.connect_rate import RatePolicy
from holdfast.session.engine import LinkClosed, QrShown
from holdfast.session.events import ConnectDeferred, Event, NetworkRestored
from holdfast.session.reasons import CIRCUIT_BREAKER_OPEN, CONNECT_QUEUED, Reason
from holdfast.session.state import Session

log = logging.getLogger(__name__)

_MAX_PER_S = RatePolicy().cap


class Waiter(Protocol):
    """A session, as the limiter sees it."""

    @property
    def company(self) -> str: ...

    @property
    def has_messages(self) -> bool:
        """Whether messages wait for its link."""

    @property
    def has_own_route(self) -> bool:
        """Whether it has its own proxy."""

    def post(self, event: Event) -> None: ...


class ConnectLimiter:
    """Limits the connects of all sessions of this process."""

    def __init__(self, *, clock: Clock, connects_per_s: float = _MAX_PER_S) -> None:
        """`connects_per_s`: the maximum number of links that all processes of a cluster start per second."""
        self._clock = clock
        self._connects_per_s = connects_per_s
        self._policy = LimiterPolicy(rate=RatePolicy(cap=connects_per_s))
        self._limiter = Limiter()
        self._waiters: dict[str, Waiter] = {}
        self._unreached: dict[str, Waiter] = {}
        """Sessions whose last attempt did not reach WhatsApp by the common route, and that now back off."""

    @property
    def waiting(self) -> int:
        """How many sessions wait to connect."""
        return len(self._limiter.waiting)

    def share(self, nodes: int) -> None:
        """Set the number of processes that divide the cluster's connect rate."""
        self._policy = LimiterPolicy(rate=RatePolicy(cap=self._connects_per_s / max(nodes, 1)))

    def ask(self, waiter: Waiter) -> ConnectDeferred | None:
        """Ask to start a link for this session now. None: it may start."""
        company = waiter.company
        self._unreached.pop(company, None)
        self._limiter, answer = limiter.ask(
            self._limiter, company, now=self._clock.monotonic(), policy=self._policy, urgent=waiter.has_messages
        )
        if not isinstance(answer, DeferConnect):
            return None
        self._waiters[company] = waiter
        return ConnectDeferred(answer.until, answer.because)

    def follow(self, waiter: Waiter, event: Event, before: Session, after: Session) -> None:
        """Follow one step of a session: its link may have opened or ended, or its wait may be over."""
        company = waiter.company
        if _got_in(event, before, after):
            was_unreachable = self._limiter.rate.unreachable
            self._change(*limiter.opened(self._limiter, company, now=self._clock.monotonic(), policy=self._policy))
            if was_unreachable:
                self._network_restored()
        elif _has_ended(before, after):
            was_open = before.link is not None and before.link.opened_at is not None
            reason = after.reason if isinstance(event, LinkClosed) or after.next_attempt_at is not None else None
            if reason is not None and reason.fault == "network" and not was_open:
                if waiter.has_own_route:
                    reason = None  # its own proxy may be to blame, which says nothing about the others
                else:
                    self._unreached[company] = waiter
            self._end(company, reason, was_open=was_open)

    def _network_restored(self) -> None:
        """Sessions that back off because WhatsApp could not be reached need not wait any longer."""
        unreached, self._unreached = self._unreached, {}
        if unreached:
            log.info("Connection to WhatsApp: it can be reached again; %d sessions connect at once", len(unreached))
        for waiter in unreached.values():
            waiter.post(NetworkRestored())

    def hurry(self) -> None:
        """There is another client version to try: one session probes now."""
        self._change(*limiter.hurry(self._limiter, now=self._clock.monotonic(), policy=self._policy))

    def leave(self, company: str) -> None:
        """The session's actor has ended."""
        self._waiters.pop(company, None)
        self._unreached.pop(company, None)
        self._end(company, None, was_open=False)

    def _end(self, company: str, reason: Reason | None, *, was_open: bool) -> None:
        now = self._clock.monotonic()
        self._change(*limiter.ended(self._limiter, company, reason, was_open=was_open, now=now, policy=self._policy))

    def _change(self, after: Limiter, wakes: Wakes) -> None:
        before, self._limiter = self._limiter, after
        if after.breaker is not None and before.breaker is None:
            wait_s = after.breaker.probe_at - self._clock.monotonic()
            log.warning(
                "Connection to WhatsApp: several sessions were refused for the same reason, %s; one of them probes in "
                "%.0f s",
                because(after.breaker.reason),
                wait_s,
            )
        if after.breaker is None and before.breaker is not None:
            log.info("Connection to WhatsApp: WhatsApp accepts logins again; %d waiting sessions follow", len(wakes))
        reason = CONNECT_QUEUED if after.breaker is None else CIRCUIT_BREAKER_OPEN
        for company, at in wakes:
            self._waiters[company].post(ConnectDeferred(at, reason))


def _got_in(event: Event, before: Session, after: Session) -> bool:
    """A QR code proves as much as an open link: WhatsApp accepts this client."""
    if after.link is None:
        return False
    return isinstance(event, QrShown) or (after.link.opened_at is not None and not _is_open(before))


def _is_open(session: Session) -> bool:
    return session.link is not None and session.link.opened_at is not None


def _has_ended(before: Session, after: Session) -> bool:
    """Whether the link ended, or the attempt to start one was cancelled."""
    if before.link is not None:
        return after.link is None or after.link.number != before.link.number
    waits = after.requested or after.next_attempt_at is not None
    return before.next_attempt_at is not None and after.link is None and not waits
