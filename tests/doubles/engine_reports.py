"""Short constructors for reports of an engine, and steps of the session machine with a connect limiter that allows all
links.
"""

from __future__ import annotations

from holdfast.session.engine import (
    LinkClosed,
    LinkId,
    LinkOpened,
    Paired,
    PasskeyContinued,
    PasskeyFailed,
    PasskeyRequested,
    Ponged,
    QrShown,
)
from holdfast.session.events import ConnectGranted, Effect, Event, RequestConnect
from holdfast.session.machine import step
from holdfast.session.state import Policy, Session

JID = "962302000001:7@s.whatsapp.net"


def qr_shown(link: LinkId) -> QrShown:
    return QrShown(link=link, qr="2@ref,noise,identity,secret", valid_ms=60_000)


def link_paired(link: LinkId) -> Paired:
    return Paired(link=link, jid=JID)


def link_opened(link: LinkId) -> LinkOpened:
    return LinkOpened(link=link, jid=JID)


def link_closed(link: LinkId, code: int, detail: str = "", attributes: dict[str, str] | None = None) -> LinkClosed:
    return LinkClosed(link=link, code=code, detail=detail, attributes=attributes or {})


def passkey_requested(link: LinkId, lasts_s: float) -> PasskeyRequested:
    return PasskeyRequested(link=link, options={"timeout": lasts_s * 1000})


def passkey_continued(link: LinkId, *, compare: bool) -> PasskeyContinued:
    return PasskeyContinued(link=link, code="G7R3-N352", confirm=compare)


def passkey_failed(link: LinkId, code: str) -> PasskeyFailed:
    return PasskeyFailed(link=link, code=code)


def ponged(link: LinkId, n: int) -> Ponged:
    return Ponged(link=link, n=n)


def granted_step(
    session: Session, event: Event, *, now: float, jitter: float, policy: Policy
) -> tuple[Session, tuple[Effect, ...]]:
    """One step; a requested link is granted at once, under the next number."""
    session, effects = step(session, event, now=now, jitter=jitter, policy=policy)
    if RequestConnect() not in effects:
        return session, effects
    grant = ConnectGranted(session.newest_link + 1)
    session, started = step(session, grant, now=now, jitter=jitter, policy=policy)
    return session, (*(effect for effect in effects if effect != RequestConnect()), *started)
