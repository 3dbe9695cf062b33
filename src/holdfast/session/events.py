"""What can happen to a session (past tense) and what the machine then asks for (imperative)."""

from __future__ import annotations

from dataclasses import dataclass, field

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
class QrShown:
    link: int


@dataclass(frozen=True, slots=True)
class Paired:
    link: int


@dataclass(frozen=True, slots=True)
class PasskeyRequested:
    """WhatsApp asks the owner of the account to sign a challenge that lives for so long."""

    link: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class PasskeyAnswered:
    """The owner's assertion was handed to WhatsApp."""

    link: int


@dataclass(frozen=True, slots=True)
class PasskeyContinued:
    """WhatsApp took the assertion. `compare`: a person has to compare two codes first."""

    link: int
    compare: bool


@dataclass(frozen=True, slots=True)
class PasskeyConfirmed:
    """A person compared the codes, and they are the same."""

    link: int


@dataclass(frozen=True, slots=True)
class PasskeyFailed:
    """The ceremony is over; `code` is the reason's name."""

    link: int
    code: str


@dataclass(frozen=True, slots=True)
class LinkOpened:
    link: int


@dataclass(frozen=True, slots=True)
class LinkClosed:
    link: int
    code: int
    detail: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostLost:
    """The engine host is gone, and with it every link it had; None: whichever link the session has."""

    link: int | None = None


@dataclass(frozen=True, slots=True)
class EngineQuarantined:
    """The session killed every engine host that ran it, the last ones alone."""


@dataclass(frozen=True, slots=True)
class KeepingFailed:
    """What the engine wanted kept could not be stored: this link must not go on."""

    link: int


@dataclass(frozen=True, slots=True)
class Ponged:
    link: int
    ping: int


@dataclass(frozen=True, slots=True)
class SendsWaited:
    """The outbox says since when the oldest written message of this link has had no ack (None: all have one)."""

    link: int
    since: float | None


@dataclass(frozen=True, slots=True)
class ProbeAsked:
    """The health monitor wants a sign of life of this link now."""

    link: int


@dataclass(frozen=True, slots=True)
class ClientUpdated:
    """There is another client version to try than the one that WhatsApp refused."""


@dataclass(frozen=True, slots=True)
class ConnectHeld:
    """The fleet did not let this link begin (None: one that it holds already): it may at `until`."""

    link: int | None
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
    | LinkOpened
    | LinkClosed
    | HostLost
    | EngineQuarantined
    | KeepingFailed
    | Ponged
    | SendsWaited
    | ProbeAsked
    | ClientUpdated
    | ConnectHeld
    | Tick
)


# What must be done.


@dataclass(frozen=True, slots=True)
class OpenLink:
    link: int


@dataclass(frozen=True, slots=True)
class CutLink:
    link: int


@dataclass(frozen=True, slots=True)
class SendPing:
    link: int
    ping: int


@dataclass(frozen=True, slots=True)
class SendPresence:
    link: int


@dataclass(frozen=True, slots=True)
class Unlink:
    """Tell WhatsApp that this device logs out, and close."""

    link: int


@dataclass(frozen=True, slots=True)
class QuarantineCredentials:
    """Set the credentials aside, restorable: WhatsApp no longer accepts them."""


Effect = OpenLink | CutLink | SendPing | SendPresence | Unlink | QuarantineCredentials
