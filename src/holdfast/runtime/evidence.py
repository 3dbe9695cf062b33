"""Gathers the evidence about a session from its actor and its outbox, as the input of its verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from holdfast.base.clock import Clock
from holdfast.delivery.stores import Backlog
from holdfast.health.signals import (
    HourlySignals,
    MessageSignals,
    NotStoredSignals,
    ProcessSignals,
    Signals,
    observe,
)
from holdfast.runtime.services import Services
from holdfast.runtime.view import View
from holdfast.session.state import State


def signals_of(
    view: View,
    services: Services,
    *,
    backlogs: Mapping[str, Backlog],
    connected: Collection[str],
    check_late_s: float = 0,
) -> Signals:
    """Everything known about a session now, as evidence."""
    clock, company = services.clock, view.record.company
    now, host_silent_s = clock.monotonic(), services.supervisor.silent_s(company)
    return observe(
        view.session,
        company=company,
        now=now,
        policy=services.policy,
        in_state_s=view.in_state_s,
        frame_at=view.frame_at,
        keepalives=view.keepalives,
        messages=messages_of(backlogs.get(company, Backlog()), clock),
        hour=HourlySignals.of((now - end.at, end.reason.name, end.reason.fault) for end in view.ends),
        machinery=ProcessSignals(actor_silent_s=view.silent_s, host_silent_s=host_silent_s, check_late_s=check_late_s),
        qr_requested=view.record.state is State.PAIRING,
        hold=view.hold,
        others_connected=any(other != company for other in connected),
        not_stored=NotStoredSignals.of((now - each.at, each.whatsapp_id) for each in view.not_stored),
    )


def messages_of(backlog: Backlog, clock: Clock) -> MessageSignals:
    """The backlog of a company, as evidence."""
    return MessageSignals(
        waiting=backlog.waiting, oldest_s=age_s(backlog.oldest_at, clock), late_s=age_s(backlog.late_since, clock)
    )


def age_s(at: str | None, clock: Clock) -> float | None:
    """Seconds since a recorded time, never negative: the clock may have been set back."""
    return None if at is None else max((clock.now() - datetime.fromisoformat(at)).total_seconds(), 0)
