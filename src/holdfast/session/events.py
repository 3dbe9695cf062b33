"""What can happen to a session (past tense) and what the machine then asks for (imperative).

What an engine reports (`QrShown`, `LinkClosed` …) and most of what it is told (`Ping`, `CutLink` …) are the values of
the engine port themselves; this module adds what people, the store and the connect limiter say.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.session.engine import (
    CutLink,
    LinkClosed,
    LinkId,
    LinkOpened,
    LogOut,
    Paired,
    PasskeyContinued,
    PasskeyFailed,
    PasskeyRequested,
    Ping,
    Ponged,
    Presence,
    QrShown,
)
from holdfast.session.reasons import Reason

# What happened.


@dataclass(frozen=True, slots=True)
class StartAsked:
    """A person or a restart wants this session connected."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A person wants it disconnected until told otherwise."""


@dataclass(frozen=True, slots=True)
class ReconnectAsked:
    """A person wants a fresh link now, past any backoff; or Holdfast does, for the reason given."""

    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """A person wants the device unlinked."""


@dataclass(frozen=True, slots=True)
class PairAsked:
    """Somebody asked for a QR or pairing code."""


@dataclass(frozen=True, slots=True)
class PasskeyAnswered:
    """The owner's assertion was handed to WhatsApp."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class PasskeyConfirmed:
    """A person compared the codes, and they are the same."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class PasskeyDeclined:
    """The person ended the ceremony; `code` is the reason's name."""

    link: LinkId
    code: str


@dataclass(frozen=True, slots=True)
class HostLost:
    """The engine host is gone, and with it every link it had; None: whichever link the session has."""

    link: LinkId | None = None


@dataclass(frozen=True, slots=True)
class EngineQuarantined:
    """The session killed every engine host that ran it, the last ones alone."""


@dataclass(frozen=True, slots=True)
class KeepingFailed:
    """What the engine wanted kept could not be stored: this link must not go on."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class SendsWaited:
    """The outbox says since when the oldest written message of this link has had no ack (None: all have one)."""

    link: LinkId
    since: float | None


@dataclass(frozen=True, slots=True)
class ProbeAsked:
    """The health monitor wants a sign of life of this link now."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class ClientUpdated:
    """There is another client version to try than the one that WhatsApp refused."""


@dataclass(frozen=True, slots=True)
class ConnectGranted:
    """The connect limiter lets the session start a link now, under this number."""

    number: LinkId


@dataclass(frozen=True, slots=True)
class ConnectDeferred:
    """The connect limiter makes the session wait. It asks again at `until`; a later one of these replaces the time."""

    until: float
    because: Reason


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline came."""


Event = (
    StartAsked
    | StopAsked
    | ReconnectAsked
    | LogoutAsked
    | PairAsked
    | QrShown
    | Paired
    | PasskeyRequested
    | PasskeyAnswered
    | PasskeyContinued
    | PasskeyConfirmed
    | PasskeyFailed
    | PasskeyDeclined
    | LinkOpened
    | LinkClosed
    | HostLost
    | EngineQuarantined
    | KeepingFailed
    | Ponged
    | SendsWaited
    | ProbeAsked
    | ClientUpdated
    | ConnectGranted
    | ConnectDeferred
    | Tick
)


# What must be done. Pings, presence, logouts and cuts are commands of the engine port as they are.


@dataclass(frozen=True, slots=True)
class RequestConnect:
    """Ask the connect limiter to let a link start. Answer at once with `ConnectGranted` or `ConnectDeferred`."""


@dataclass(frozen=True, slots=True)
class StartLink:
    """Open this link with the credentials that are stored."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class QuarantineCredentials:
    """Set the credentials aside, restorable: WhatsApp no longer accepts them."""

    link: LinkId
    """The newest one that used them."""


Effect = RequestConnect | StartLink | CutLink | Ping | Presence | LogOut | QuarantineCredentials
