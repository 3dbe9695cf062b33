"""What happened to a session, for readers of its history who don't know the table of states."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

HOLDFAST_STOPPED = "HoldfastStopped"
"""The entry for the time in which no process ran the session; no event of the machine."""

_SENTENCES: Mapping[str, str] = MappingProxyType({
    "StartAsked": "a start was requested",
    "StopAsked": "a stop was requested",
    "ReconnectAsked": "a reconnect was requested",
    "LogoutAsked": "a logout was requested",
    "PairAsked": "a QR or pairing code was requested",
    "QrShown": "WhatsApp sent a QR code",
    "Paired": "a phone linked the device",
    "PasskeyRequested": "WhatsApp asked for a passkey",
    "PasskeyAnswered": "the passkey was sent to WhatsApp",
    "PasskeyContinued": "WhatsApp went on after the passkey",
    "PasskeyConfirmed": "a person confirmed the code of the passkey",
    "PasskeyFailed": "WhatsApp refused the passkey",
    "PasskeyDeclined": "a person cancelled the passkey",
    "LinkOpened": "the connection was opened",
    "LinkClosed": "the connection ended",
    "HostLost": "the engine host ended",
    "EngineQuarantined": "the session was quarantined because its engine hosts kept ending",
    "CommitFailed": "the database could not store what the connection received",
    "Ponged": "WhatsApp answered a ping",
    "SendsWaited": "messages wait for WhatsApp's answer",
    "ProbeAsked": "the health check requested a ping",
    "ClientUpdated": "a newer client version is available",
    "NetworkRestored": "another session reached WhatsApp again",
    "ConnectGranted": "the session may connect",
    "ConnectDeferred": "the session has to wait before it connects",
    "Tick": "a deadline passed",
    HOLDFAST_STOPPED: "Holdfast was not running",
})  # fmt: skip
"""By the names that docs/states.md uses and the history stores."""


def event_sentence(name: str) -> str | None:
    """What an event in the history means; None for one of another version."""
    return _SENTENCES.get(name)
