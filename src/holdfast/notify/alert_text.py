"""The text of alerts. It names companies and reasons, and must never contain phone numbers or message texts.

Alerts pass through other companies' services, such as messengers, which may log them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from urllib.parse import quote

from holdfast.base.clock import iso
from holdfast.health.advice import Remedy, format_duration, what_to_do
from holdfast.health.alerts import Alert, AlertKind
from holdfast.health.stores import PendingAlert

OVER = "over"
"""The severity of an all-clear."""
_JUST_NOW_S = 60
_NAMED = 10
"""The maximum number of companies that are named; further ones are only counted."""
_BEGINNINGS = {
    AlertKind.RAISED: "Holdfast",
    AlertKind.REMINDED: "Holdfast, still",
    AlertKind.GREW: "Holdfast, more",
    AlertKind.CLEARED: "Holdfast, over",
}


Labels = Mapping[str, str]
"""By company id."""
NO_LABELS: Labels = MappingProxyType({})


def pending_alert(
    alert: Alert, *, address: str, public_url: str | None = None, labels: Labels = NO_LABELS
) -> PendingAlert:
    """The alert as it is sent to one address, with a link to the dashboard at `public_url`.

    `address`: its fingerprint. `labels`: the labels of the companies.
    """
    return PendingAlert(
        id=_id(alert),
        address=address,
        subject=f"{alert.condition.cause} {'*' if alert.digest else alert.condition.company or ''}",
        title=title(alert, labels),
        body=body(alert, public_url=public_url, labels=labels),
        severity=OVER if alert.kind is AlertKind.CLEARED else str(alert.condition.severity),
        made_at=iso(alert.at),
    )


def _id(alert: Alert) -> str:
    """The same id for the same alert, so that it can't be stored twice."""
    parts = [str(alert.kind), alert.condition.cause, str(alert.digest), iso(alert.at), *alert.companies]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def title(alert: Alert, labels: Labels = NO_LABELS) -> str:
    """`Holdfast, over: 962302 (Bakery Irbid) – not connected`."""
    return f"{_BEGINNINGS[alert.kind]}: {headline(alert, labels)}"


def headline(alert: Alert, labels: Labels = NO_LABELS) -> str:
    """`962302 (Bakery Irbid) – not connected`."""
    about = alert.condition.title
    if not alert.companies:
        return about
    return f"{_count(alert.companies) if alert.digest else _labelled(alert.companies[0], labels)} – {about}"


def _count(companies: tuple[str, ...]) -> str:
    return "1 company" if len(companies) == 1 else f"{len(companies)} companies"


def _labelled(company: str, labels: Labels) -> str:
    label = labels.get(company)
    return company if label is None else f"{company} ({label})"


def body(alert: Alert, *, public_url: str | None = None, labels: Labels = NO_LABELS) -> str:
    """The company, the problem, the cure, the time, and a link to the dashboard page that shows it; one line each."""
    about = _cleared_lines(alert, labels) if alert.kind is AlertKind.CLEARED else _open_lines(alert)
    link = [] if public_url is None else [f"{public_url.rstrip('/')}{_page(alert)}"]
    return "\n".join([*_who(alert, labels), *about, *link])


def _page(alert: Alert) -> str:
    """The dashboard page about the alert: of the company, of webhooks, or of the fleet."""
    if alert.condition.action == Remedy.CHECK_WEBHOOK:
        return "/webhooks"
    return f"/companies/{quote(alert.companies[0], safe='')}" if len(alert.companies) == 1 else "/"


def _who(alert: Alert, labels: Labels) -> list[str]:
    if not alert.companies:
        return []
    if not alert.digest:
        return [f"Company: {_labelled(alert.companies[0], labels)}"]
    return [f"{_count(alert.companies)}: {_listed(alert.companies, labels)}"]


def _listed(companies: tuple[str, ...], labels: Labels) -> str:
    more = len(companies) - _NAMED
    first = ", ".join(_labelled(company, labels) for company in companies[:_NAMED])
    return first + (f" and {more} more" if more > 0 else "")


def _open_lines(alert: Alert) -> list[str]:
    condition = alert.condition
    return [
        f"Of one of them: {condition.sentence}" if alert.digest else condition.sentence,
        f"What to do: {what_to_do(condition.action, condition.cause)}.",
        f"Since {_format_time(alert.since)}{_for_how_long(alert)}.",
    ]


def _cleared_lines(alert: Alert, labels: Labels) -> list[str]:
    lines = [
        f"This is over. It lasted {_lasted(alert)}, since {_format_time(alert.since)}.",
        f"The last that was known: {alert.condition.sentence}",
    ]
    if alert.remaining:
        lines.append(f"Not over for: {_listed(alert.remaining, labels)}")
    return lines


def _for_how_long(alert: Alert) -> str:
    """How long the condition has lasted; empty if it has just begun."""
    seconds = (alert.at - alert.since).total_seconds()
    return "" if seconds < _JUST_NOW_S else f" ({format_duration(seconds)})"


def _lasted(alert: Alert) -> str:
    return format_duration((alert.at - alert.since).total_seconds())


def _format_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
