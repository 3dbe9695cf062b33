"""What the server reports to its caller: for logs, counts, and waiting requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wasim.server.state import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePaired:
    address: Address
    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingFailed:
    link: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRequested:
    """The account requires a passkey to link this device."""

    number: str
    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    address: Address
    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused:
    address: Address | None
    link: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUnlinked:
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswered:
    xmlns: str
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSocket:
    """A fault closes this connection without a `stream:error`."""

    link: int
    how: Literal["rst", "fin", "close"]
    close_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownQuery:
    """A query that the server does not implement."""

    link: int
    xmlns: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolViolated:
    """A client sent something that violates the protocol; its link is ended."""

    link: int
    detail: str


Event = (
    DevicePaired
    | PairingFailed
    | PasskeyRequested
    | LoggedIn
    | LoginRefused
    | DeviceUnlinked
    | QueryAnswered
    | CloseSocket
    | UnknownQuery
    | ProtocolViolated
)
