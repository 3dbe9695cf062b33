"""Signals of a healthy company, which each test varies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from holdfast.health.keepalive import KeepAlives
from holdfast.health.signals import HourlySignals, LinkSignals, MessageSignals, ProcessSignals, Signals
from holdfast.session.state import State

QUIET_LINK = LinkSignals(age_s=7200, open_s=7199, pong_s=21, ping_s=None, unacked_s=None, frame_s=21)
LOGGING_IN = LinkSignals(age_s=3, open_s=None, pong_s=None, ping_s=None, unacked_s=None, frame_s=None)

QUIET = Signals(
    company="962302",
    state=State.CONNECTED,
    reason=None,
    in_state_s=7199,
    attempts=0,
    next_attempt_in_s=None,
    overdue_s=None,
    budget_left=119,
    link=QUIET_LINK,
    keepalives=KeepAlives(sent=240, answered=240, outcomes=(0.2,) * 120),
    messages=MessageSignals(),
    hour=HourlySignals(),
    machinery=ProcessSignals(),
    qr_requested=False,
)
"""Connected for two hours, without any messages since, and every ping was answered."""


def with_link(**changes: Any) -> Signals:
    """The quiet company with changes to its link. `changes` are fields of `LinkSignals`, which `replace` checks."""
    return replace(QUIET, link=replace(QUIET_LINK, **changes))


def away(state: State = State.RECONNECTING, **changes: Any) -> Signals:
    """The company, which has just entered this state, without a link. `changes` are fields of `Signals`."""
    return replace(QUIET, **{"state": state, "link": None, "in_state_s": 0, **changes})
