"""Alerts as literal values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.health.alerts import Alert, AlertKind
from holdfast.health.conditions import Condition, Severity
from holdfast.session.reasons import Action

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

BANNED = Condition(
    company="962302",
    cause="banned",
    severity=Severity.CRITICAL,
    title="paused (banned)",
    sentence="The session is paused because WhatsApp banned this number (406).",
    action=Action.CONTACT_WHATSAPP,
)


def alert(
    kind: AlertKind = AlertKind.RAISED,
    *,
    condition: Condition = BANNED,
    companies: tuple[str, ...] = ("962302",),
    at: datetime = NOON,
    digest: bool = False,
    remaining: tuple[str, ...] = (),
) -> Alert:
    """An alert about something that began five minutes before noon."""
    return Alert(
        kind=kind,
        condition=condition,
        companies=companies,
        since=NOON - timedelta(minutes=5),
        at=at,
        digest=digest,
        remaining=remaining,
    )
