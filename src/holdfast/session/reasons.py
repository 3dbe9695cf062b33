"""Why links end, and how Holdfast reacts: the one table of codes.

Sources: Baileys `DisconnectReason` and `getErrorCodeFromStreamError`, whatsmeow `ConnectFailureReason`.
`docs/reasons.md` is generated from this table. A code that is not in it becomes `unknown` and keeps its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from holdfast.session.engine import BAD_CREDENTIALS as REFUSED_CREDENTIALS
from holdfast.session.engine import (
    PROXY_LOGIN,
    PROXY_NOT_ALLOWED,
    PROXY_REFUSED,
    PROXY_TIMEOUT,
    PROXY_TLS,
    PROXY_UNREACHABLE,
)


class SessionReaction(StrEnum):
    """What the session machine does after a link ended for a reason."""

    RESTART = "restart"
    """Connect again at once; this is no failure and does not count. A second one soon after is treated as BACKOFF."""
    BACKOFF = "backoff"
    """Connect again after the backoff delay."""
    LONG_BACKOFF = "long-backoff"
    """Connect again after `Policy.long_backoff_s`."""
    REPLACED = "replaced"
    """Another connection uses these credentials: wait `Policy.replaced_wait_s`, try twice, then pause."""
    CONFIRM_LOGOUT = "confirm-logout"
    """Treat it as LOGGED_OUT only when a second attempt gets the same code."""
    LOGGED_OUT = "logged-out"
    """Quarantine the credentials; a person has to link the phone again."""
    PAUSE_UNTIL = "pause-until"
    """Pause until WhatsApp's own time is over (attribute `expire`, seconds), then connect."""
    PROBE = "probe"
    """Pause; one slow attempt every `Policy.probe_interval_s`."""
    STOP = "stop"
    """Pause until a person starts the session; the credentials are kept."""
    UNPAIR = "unpair"
    """Wait until somebody asks for a QR code."""


class Action(StrEnum):
    """What the reader of the sentence should do."""

    WAIT = "wait"
    SCAN_QR = "scan-qr"
    SIGN_PASSKEY = "sign-passkey"
    CHECK_PHONE = "check-phone"
    CHECK_NETWORK = "check-network"
    UPDATE = "update"
    STOP_OTHER = "stop-other-connection"
    CONTACT_WHATSAPP = "contact-whatsapp"
    START = "start"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a link ended. `name` is stable; `code` is WhatsApp's or Baileys' number, None for Holdfast's own findings."""

    name: str
    code: int | None
    fault: str
    reaction: SessionReaction
    sentence: str
    action: Action


def _reason(
    name: str, code: int | None, fault: str, reaction: SessionReaction, sentence: str, action: Action = Action.WAIT
) -> Reason:
    return Reason(name=name, code=code, fault=fault, reaction=reaction, sentence=sentence, action=action)


_CODES = (
    _reason("restart-required", 515, "nobody", SessionReaction.RESTART, "WhatsApp asked for a new connection, as it does after pairing"),
    _reason("transport-closed", 428, "network", SessionReaction.BACKOFF, "the connection was closed"),
    _reason("link-lost", 408, "network", SessionReaction.BACKOFF, "WhatsApp could not be reached or stopped answering", Action.CHECK_NETWORK),
    _reason("server-unavailable", 503, "whatsapp", SessionReaction.BACKOFF, "WhatsApp's server is restarting or overloaded"),
    _reason("server-error", 500, "whatsapp", SessionReaction.BACKOFF, "WhatsApp's server reported an error of its own"),
    _reason("rate-limited", 429, "whatsapp", SessionReaction.LONG_BACKOFF, "WhatsApp asks to connect less often"),
    _reason("replaced", 440, "operator", SessionReaction.REPLACED, "the same device connected from somewhere else", Action.STOP_OTHER),
    _reason("logged-out", 401, "phone", SessionReaction.CONFIRM_LOGOUT, "WhatsApp says that this device is logged out", Action.SCAN_QR),
    _reason("unlinked", 516, "phone", SessionReaction.LOGGED_OUT, "the device was unlinked on the phone", Action.SCAN_QR),
    _reason("account-locked", 403, "whatsapp", SessionReaction.STOP, "the account's main device is gone or the account is locked", Action.CHECK_PHONE),
    _reason("banned", 406, "whatsapp", SessionReaction.STOP, "WhatsApp banned this number", Action.CONTACT_WHATSAPP),
    _reason("temporarily-banned", 402, "whatsapp", SessionReaction.PAUSE_UNTIL, "WhatsApp banned this number for a time"),
    _reason("client-outdated", 405, "operator", SessionReaction.PROBE, "WhatsApp refuses this version of the client", Action.UPDATE),
    _reason("bad-user-agent", 409, "operator", SessionReaction.PROBE, "WhatsApp refuses how this client describes itself", Action.UPDATE),
    _reason("no-multidevice", 411, "phone", SessionReaction.STOP, "the phone does not support linked devices", Action.CHECK_PHONE),
)  # fmt: skip

CLIENT_OUTDATED_CODE = 405

BY_CODE = MappingProxyType({reason.code: reason for reason in _CODES})

DEVICE_REMOVED = _reason(
    "unlinked", 401, "phone", SessionReaction.LOGGED_OUT, "the device was unlinked on the phone", Action.SCAN_QR
)
NO_PONG = _reason("no-pong", None, "network", SessionReaction.BACKOFF, "WhatsApp no longer answers pings on this link")
NO_ACKS = _reason(
    "no-acks", None, "whatsapp", SessionReaction.BACKOFF, "WhatsApp answers pings but accepts no messages"
)
LOGIN_TIMEOUT = _reason("login-timeout", None, "network", SessionReaction.BACKOFF, "the login did not finish in time", Action.CHECK_NETWORK)  # fmt: skip
ENGINE_HOST_LOST = _reason(
    "engine-host-lost", None, "engine", SessionReaction.BACKOFF, "the engine host ended or stopped answering"
)
QR_EXPIRED = _reason(
    "qr-expired", 408, "person", SessionReaction.UNPAIR, "no QR code was scanned in time", Action.SCAN_QR
)
NOT_LINKED = _reason("not-linked", None, "operator", SessionReaction.UNPAIR, "the stored credentials are not those of a linked device", Action.SCAN_QR)  # fmt: skip
STORAGE_FAILED = _reason("storage-failed", None, "holdfast", SessionReaction.BACKOFF, "Holdfast could not store the keys of the link: is the disk full?")  # fmt: skip
RECONNECT_REQUESTED = _reason(
    "reconnect-requested", None, "nobody", SessionReaction.RESTART, "a reconnection was requested", Action.NONE
)
LOGOUT_REQUESTED = _reason(
    "logout-requested", None, "nobody", SessionReaction.LOGGED_OUT, "it was logged out from here", Action.SCAN_QR
)
HOLDFAST_STOPPED = _reason(
    "holdfast-stopped", None, "nobody", SessionReaction.RESTART, "Holdfast was not running", Action.NONE
)
CONNECT_QUEUED = _reason("connect-queued", None, "nobody", SessionReaction.BACKOFF, "many sessions are connecting, and this one waits in the queue")  # fmt: skip
CIRCUIT_BREAKER_OPEN = _reason("circuit-breaker-open", None, "whatsapp", SessionReaction.BACKOFF, "WhatsApp refused several sessions for the same reason; one of them probes, and the others wait")  # fmt: skip
ENGINE_QUARANTINED = _reason("engine-quarantined", None, "engine", SessionReaction.STOP, "each engine host that ran this session ended or hung: it was isolated so that all others continue; start it to try again, or link the phone again", Action.START)  # fmt: skip
BAD_CREDENTIALS = _reason("bad-credentials", None, "operator", SessionReaction.STOP, "its stored credentials can't be used, and the log says which field is wrong; import them again or link the phone again", Action.SCAN_QR)  # fmt: skip
ENGINE_HOST_REPLACED = _reason("engine-host-replaced", None, "nobody", SessionReaction.RESTART, "the session moved to another engine host", Action.NONE)  # fmt: skip
RESTORED_STALE = _reason("restored-stale", None, "operator", SessionReaction.STOP, "it was restored from a backup that is older than the last use of its keys", Action.START)  # fmt: skip
PASSKEY_REQUIRED = _reason("passkey-required", None, "person", SessionReaction.UNPAIR, "WhatsApp asks the owner of the account to sign with a passkey", Action.SIGN_PASSKEY)  # fmt: skip
PASSKEY_EXPIRED = _reason("passkey-expired", None, "person", SessionReaction.UNPAIR, "WhatsApp's request for a passkey ended before it was answered", Action.SCAN_QR)  # fmt: skip
PASSKEY_REFUSED = _reason("passkey-refused", None, "person", SessionReaction.UNPAIR, "WhatsApp did not accept the passkey's signature: is it the passkey of this account?", Action.SCAN_QR)  # fmt: skip
PASSKEY_TIMEOUT = _reason("passkey-timeout", None, "whatsapp", SessionReaction.UNPAIR, "WhatsApp did not continue after it got the passkey's signature", Action.SCAN_QR)  # fmt: skip
PASSKEY_DECLINED = _reason("passkey-declined", None, "person", SessionReaction.UNPAIR, "signing with the passkey was cancelled", Action.SCAN_QR)  # fmt: skip
PASSKEY_CODE_MISMATCH = _reason("passkey-code-mismatch", None, "person", SessionReaction.UNPAIR, "the code on the phone was not the code shown here: somebody else may be linking a device", Action.SCAN_QR)  # fmt: skip
PASSKEY_FAILED = _reason("passkey-failed", None, "whatsapp", SessionReaction.UNPAIR, "WhatsApp's passkey exchange could not be followed: it may have changed", Action.UPDATE)  # fmt: skip

_PROXY_BY_CODE = MappingProxyType({
    PROXY_UNREACHABLE: _reason("proxy-unreachable", None, "network", SessionReaction.BACKOFF, "the session's proxy could not be reached", Action.CHECK_NETWORK),
    PROXY_LOGIN: _reason("proxy-login-refused", None, "network", SessionReaction.BACKOFF, "the session's proxy does not accept the user name and password in its address", Action.CHECK_NETWORK),
    PROXY_REFUSED: _reason("proxy-refused", None, "network", SessionReaction.BACKOFF, "the session's proxy would not or could not connect to WhatsApp", Action.CHECK_NETWORK),
    PROXY_TIMEOUT: _reason("proxy-timeout", None, "network", SessionReaction.BACKOFF, "the session's proxy did not answer in time", Action.CHECK_NETWORK),
    PROXY_TLS: _reason("proxy-tls-failed", None, "network", SessionReaction.BACKOFF, "no TLS connection to the session's proxy could be made: its certificate is not trusted, or it speaks plain HTTP", Action.CHECK_NETWORK),
    PROXY_NOT_ALLOWED: _reason("proxy-not-allowed", None, "operator", SessionReaction.BACKOFF, "the session's proxy is at a private address, which HOLDFAST_ALLOWED_ADDRESSES does not allow", Action.CHECK_NETWORK),
})  # fmt: skip

OWN = (
    *(each for each in tuple(vars().values()) if isinstance(each, Reason) and each is not DEVICE_REMOVED),
    *_PROXY_BY_CODE.values(),
)
"""The reasons that no code of WhatsApp has: all constants above, except the second reason of 401."""

_NEVER_CONNECTED = "WebSocket Error ("
"""Start of Baileys' error for a socket that could not be opened (source: `mapWebSocketError`)."""
_QR_USED_UP = "QR refs attempts ended"
"""Baileys' error when all QR codes of a link have expired (source: socket.js)."""


def reason_of(code: int, attributes: dict[str, str], detail: str = "") -> Reason:
    """The reason for a close code, the attributes of WhatsApp's error node and the engine's own sentence.

    Baileys uses 408 for three things, and for a refused WebSocket upgrade it passes on the *HTTP* status: a proxy's
    401 or 403 looks like a logout or a lock. Only its sentence distinguishes them.
    """
    if code == REFUSED_CREDENTIALS:
        return BAD_CREDENTIALS
    if code in _PROXY_BY_CODE:
        return _PROXY_BY_CODE[code]
    if detail.startswith(_NEVER_CONNECTED) and code not in {408, 429, 503}:
        return _connect_failed(code)
    if code == 408 and detail == _QR_USED_UP:
        return QR_EXPIRED
    if code in {401, 440} and "device_removed" in attributes.values():
        return DEVICE_REMOVED
    if code == 409 and attributes.get("type") == "replaced":
        return BY_CODE[440]
    return BY_CODE.get(code) or _unknown(code)


_RENAMED = MappingProxyType({
    "asked": "reconnect-requested", "logout-asked": "logout-requested", "not-kept": "storage-failed", "not-opened": "login-timeout",
    "waits-turn": "connect-queued", "fleet-held": "circuit-breaker-open", "qr-used-up": "qr-expired", "passkey-silent": "passkey-timeout",
    "host-lost": "engine-host-lost", "host-replaced": "engine-host-replaced",
})  # fmt: skip
"""Names that earlier versions stored."""


def current_name(stored: str | None) -> str | None:
    """The name that this version uses for the reason that was stored under a name."""
    return None if stored is None else _RENAMED.get(stored, stored)


def stored_reason(name: str, code: int | None) -> Reason:
    """The reason that was stored as name and code."""
    known = [reason for reason in (*_CODES, DEVICE_REMOVED, *OWN) if reason.name == name]
    if known:
        return next((reason for reason in known if reason.code == code), known[0])
    return _connect_failed(code) if name == "connect-failed" else _unknown(code)


def _connect_failed(code: int | None) -> Reason:
    sentence = f"the WebSocket could not be opened (code {code}): TLS, a proxy or a captive portal interfered"
    return _reason("connect-failed", code, "network", SessionReaction.BACKOFF, sentence, Action.CHECK_NETWORK)


def _unknown(code: int | None) -> Reason:
    sentence = f"WhatsApp closed the connection with the unknown code {code}"
    return _reason("unknown", code, "unknown", SessionReaction.PROBE, sentence)
