"""Alerts in plain words. They name companies and reasons, never a phone number or the text of a message."""

from __future__ import annotations

import hashlib
from datetime import datetime
from urllib.parse import quote

from holdfast.base.clock import iso
from holdfast.health.advice import WHAT_TO_DO, Care, lasting
from holdfast.health.alerts import Alert, AlertKind
from holdfast.health.stores import PendingAlert

OVER = "over"
"""The severity of an all-clear."""
_JUST_NOW_S = 60
_NAMED = 10
"""More companies than this are counted, not named."""
_BEGINNINGS = {
    AlertKind.RAISED: "Holdfast",
    AlertKind.REMINDED: "Holdfast, still",
    AlertKind.GREW: "Holdfast, more",
    AlertKind.CLEARED: "Holdfast, over",
}
_WHAT_TO_DO = {str(word): phrase for word, phrase in WHAT_TO_DO.items()}


def pending_alert(alert: Alert, *, address: str, public_url: str | None = None) -> PendingAlert:
    """The alert as it goes to one address (its fingerprint), with a link to the dashboard at `public_url`."""
    return PendingAlert(
        id=_id(alert),
        address=address,
        subject=f"{alert.condition.cause} {'*' if alert.digest else alert.condition.company or ''}",
        title=title(alert),
        body=body(alert, public_url=public_url),
        severity=OVER if alert.kind is AlertKind.CLEARED else str(alert.condition.severity),
        made_at=iso(alert.at),
    )


def _id(alert: Alert) -> str:
    """The same for the same alert, so that it can't be kept twice."""
    parts = [str(alert.kind), alert.condition.cause, str(alert.digest), iso(alert.at), *alert.companies]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def title(alert: Alert) -> str:
    """`Holdfast, over: 962302 – not connected`."""
    return f"{_BEGINNINGS[alert.kind]}: {headline(alert)}"


def headline(alert: Alert) -> str:
    """`962302 – not connected`."""
    about = alert.condition.title
    if not alert.companies:
        return about
    return f"{_count(alert.companies) if alert.digest else alert.companies[0]} – {about}"


def _count(companies: tuple[str, ...]) -> str:
    return "1 company" if len(companies) == 1 else f"{len(companies)} companies"


def body(alert: Alert, *, public_url: str | None = None) -> str:
    """Who, what, what to do, since when, and a link to the page that shows it; one line each."""
    about = _over(alert) if alert.kind is AlertKind.CLEARED else _stands(alert)
    link = [] if public_url is None else [f"{public_url.rstrip('/')}{_page(alert)}"]
    return "\n".join([*_who(alert), *about, *link])


def _page(alert: Alert) -> str:
    """Of the dashboard: that of the company, of webhooks, or of all."""
    if alert.condition.action == Care.CHECK_WEBHOOK:
        return "/webhooks"
    return f"/companies/{quote(alert.companies[0], safe='')}" if len(alert.companies) == 1 else "/"


def _who(alert: Alert) -> list[str]:
    if not alert.companies:
        return []
    if not alert.digest:
        return [f"Company: {alert.companies[0]}"]
    return [f"{_count(alert.companies)}: {_names(alert.companies)}"]


def _names(companies: tuple[str, ...]) -> str:
    more = len(companies) - _NAMED
    return ", ".join(companies[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _stands(alert: Alert) -> list[str]:
    condition = alert.condition
    return [
        f"Of one of them: {condition.sentence}" if alert.digest else condition.sentence,
        f"What to do: {_WHAT_TO_DO.get(condition.action, condition.action)}.",
        f"Since {_moment(alert.since)}{_for_how_long(alert)}.",
    ]


def _over(alert: Alert) -> list[str]:
    lines = [
        f"This is over. It lasted {_lasted(alert)}, since {_moment(alert.since)}.",
        f"The last that was known: {alert.condition.sentence}",
    ]
    if alert.remaining:
        lines.append(f"Not over for: {_names(alert.remaining)}")
    return lines


def _for_how_long(alert: Alert) -> str:
    """Nothing for trouble that has just begun: the time says it."""
    seconds = (alert.at - alert.since).total_seconds()
    return "" if seconds < _JUST_NOW_S else f" ({lasting(seconds)})"


def _lasted(alert: Alert) -> str:
    return lasting((alert.at - alert.since).total_seconds())


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
