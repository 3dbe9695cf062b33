"""Facts that the server reports: for logs, counts, and waiting callers."""

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
class PasskeyAsked:
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
class SocketToClose:
    """A fault closes this connection without a `stream:error`."""

    link: int
    how: Literal["rst", "fin", "close"]
    close_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryUnknown:
    link: int
    xmlns: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolBroken:
    """A client sent something that violates the protocol; its link is ended."""

    link: int
    detail: str


Event = (
    DevicePaired
    | PairingFailed
    | PasskeyAsked
    | LoggedIn
    | LoginRefused
    | DeviceUnlinked
    | QueryAnswered
    | SocketToClose
    | QueryUnknown
    | ProtocolBroken
)
