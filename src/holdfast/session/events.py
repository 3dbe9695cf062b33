"""Events of a session (past tense) and the effects that the machine returns (imperative).

Reports of an engine (`QrShown`, `LinkClosed` …) are events as they are, and most commands to an engine (`Ping`,
`CutLink` …) are effects as they are. This module adds the events of people, the store and the connect limiter.
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

# Events.


@dataclass(frozen=True, slots=True)
class StartAsked:
    """A person or a restart wants this session connected."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A person wants it disconnected until somebody starts it again."""


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
    """The owner's assertion was passed to WhatsApp."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class PasskeyConfirmed:
    """A person compared the codes, and they match."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class PasskeyDeclined:
    """The person cancelled the ceremony; `code` is the reason's name."""

    link: LinkId
    code: str


@dataclass(frozen=True, slots=True)
class HostLost:
    """The engine host is gone, and with it all of its links. `link` None: the session's current link."""

    link: LinkId | None = None


@dataclass(frozen=True, slots=True)
class EngineQuarantined:
    """Every engine host that ran this session ended, the last ones while they ran nothing else."""


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """A commit of the engine could not be stored: this link must end."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class SendsWaited:
    """Since when the oldest written message of this link has waited for an ack; None: none waits."""

    link: LinkId
    since: float | None


@dataclass(frozen=True, slots=True)
class ProbeAsked:
    """The health monitor wants this link to be pinged now."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class ClientUpdated:
    """A newer client version than the one that WhatsApp refused is available."""


@dataclass(frozen=True, slots=True)
class NetworkRestored:
    """Another session reached WhatsApp again, after several could not."""


@dataclass(frozen=True, slots=True)
class ConnectGranted:
    """The connect limiter lets the session start a link now, under this number."""

    number: LinkId


@dataclass(frozen=True, slots=True)
class ConnectDeferred:
    """The connect limiter makes the session wait. It asks again at `until`; a later event of this kind replaces the
    time."""

    until: float
    because: Reason


@dataclass(frozen=True, slots=True)
class Tick:
    """The session's deadline has passed."""

    held_until: float | None = None
    """Until when the store has kept frames of the link from being sent: a frame waits for the commits before it."""


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
    | CommitFailed
    | Ponged
    | SendsWaited
    | ProbeAsked
    | ClientUpdated
    | NetworkRestored
    | ConnectGranted
    | ConnectDeferred
    | Tick
)


# Effects. Pings, presence, logouts and cuts are commands of the engine port as they are.


@dataclass(frozen=True, slots=True)
class RequestConnect:
    """Ask the connect limiter to let a link start. Answer at once with `ConnectGranted` or `ConnectDeferred`."""


@dataclass(frozen=True, slots=True)
class StartLink:
    """Open this link with the credentials that are stored."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class QuarantineCredentials:
    """Quarantine the credentials, from where they can be restored: WhatsApp no longer accepts them."""

    link: LinkId
    """The newest link that used them."""


Effect = RequestConnect | StartLink | CutLink | Ping | Presence | LogOut | QuarantineCredentials
