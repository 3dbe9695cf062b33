"""Texts for people: durations, times, and advice for each kind of problem.

The keys of `WHAT_TO_DO` are the stable codes in the field `action` of verdicts and alerts: the actions of the table of
reasons (`Action`), and the actions for problems that are not the end of a link (`Remedy`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from holdfast.session.reasons import Action, Reason

_MINUTE_FORMAT = "%H:%M UTC on %d %b %Y"
MINUTE = re.compile(r"([0-9]{2}:[0-9]{2} UTC on [0-9]{2} [A-Z][a-z]{2} [0-9]{4})")
"""A time that `to_minute` wrote into a sentence."""


class Remedy(StrEnum):
    """Advice codes for problems that are not the end of a link."""

    CHECK_SESSION = "check-session"
    CHECK_REDIS = "check-redis"
    CHECK_DATABASE = "check-database"
    CHECK_HOST = "check-engine-host"
    CHECK_ALERTS = "check-alert-urls"
    CHECK_WEBHOOK = "check-webhook"
    CHECK_BACKUP = "check-backups"
    CHECK_OUTBOX = "check-outbox"
    WRITE_LESS = "write-less"
    CHECK_MESSAGE = "check-message"
    UNPIN_VERSION = "unpin-version"


Advice = Action | Remedy

WHAT_TO_DO: Mapping[Advice, str] = MappingProxyType({
    Action.WAIT: "nothing now: Holdfast continues automatically as soon as WhatsApp allows it",
    Action.SCAN_QR: "ask for a new QR code (`holdfast pair`, or the dashboard) and scan it with the company's phone",
    Action.SIGN_PASSKEY: "open the company's page in the dashboard: it leads the owner of the account through signing",
    Action.CHECK_PHONE: "open WhatsApp on the company's phone, which shows what is wrong; then start the session again",
    Action.CHECK_NETWORK: "check whether this machine reaches the internet: DNS, proxy, firewall; if other companies "
    "are connected, check this company's own proxy if it has one, otherwise wait: the problem is most likely on "
    "WhatsApp's side",
    Action.UPDATE: "update Holdfast: WhatsApp no longer accepts this version of the client",
    Action.STOP_OTHER: "stop the other program that uses this session's credentials; start the session only if it is "
    "paused by then",
    Action.CONTACT_WHATSAPP: "ask for a review in WhatsApp on the company's phone, or write to WhatsApp's support",
    Action.START: "start the session when it is needed again",
    Action.NONE: "nothing needs to be done",
    Remedy.CHECK_SESSION: "other companies are connected, so the network of this machine works; check this company's "
    "own proxy if it has one, otherwise wait: the problem is most likely on WhatsApp's side",
    Remedy.CHECK_REDIS: "check whether Redis runs and can be reached",
    Remedy.CHECK_DATABASE: "check whether the disk is full and the database can be reached",
    Remedy.UNPIN_VERSION: "set HOLDFAST_WHATSAPP_VERSION to auto, or to a version that WhatsApp accepts today",
    Remedy.CHECK_BACKUP: "check whether the data folder's disk has free space and its folder `backups` is writable",
    Remedy.CHECK_MESSAGE: "ask its sender what it said: in the inbox it has the type `unknown`, and the reason in "
    "`content.notStored`",
    Remedy.CHECK_OUTBOX: "look at the company's messages: each says why it waits (GET /v1/sessions/{company}/messages)",
    Remedy.WRITE_LESS: "send no first messages to strangers from this number until then, and fewer afterwards: "
    "WhatsApp bans numbers that continue",
    Remedy.CHECK_HOST: "look in the log for the engine host's last lines; memory may have run out",
    Remedy.CHECK_WEBHOOK: "make sure that its receiver answers 2xx in time (GET /v1/webhooks shows its last answer), "
    "and resume it if it is off",
    Remedy.CHECK_ALERTS: "check the addresses in HOLDFAST_ALERT_URLS, and whether this machine reaches them",
})  # fmt: skip


_OF_CAUSES: Mapping[str, str] = MappingProxyType({
    "temporarily-banned": "wait until the ban ends (Holdfast then connects automatically), and send fewer first "
    "messages to strangers afterwards: WhatsApp bans numbers that continue",
    "client-outdated": "set HOLDFAST_WHATSAPP_VERSION to auto if it pins a version; otherwise update Holdfast: "
    "WhatsApp no longer accepts this version of the client",
    "restored-stale": "make sure that Holdfast no longer runs on the machine where the backup was made, then "
    "start the session",
    "engine-quarantined": 'read the lines of the log that begin with "Engine host": they say how the hosts ended',
})  # fmt: skip
"""Advice by cause, where the cause needs more specific advice than its action gives."""


_BY_WORD: Mapping[str, str] = MappingProxyType({str(advice): words for advice, words in WHAT_TO_DO.items()})


def what_to_do(action: str, cause: str) -> str:
    """The advice for a person; `cause` is the code of the finding or alert.

    An unknown action is returned unchanged: alerts are stored, and another version may have written them.
    """
    return _OF_CAUSES.get(cause) or _BY_WORD.get(action, action)


def needed_advice(action: str, cause: str = "") -> str | None:
    """The advice; None when nothing needs doing."""
    return None if action in {Action.NONE, Action.WAIT} and cause not in _OF_CAUSES else what_to_do(action, cause)


def because(reason: Reason | None) -> str:
    """A phrase to follow "because": `the connection was closed (428)`. Holdfast's own findings have no number."""
    if reason is None:
        return "no link is open yet"
    return reason.sentence if reason.code is None else f"{reason.sentence} ({reason.code})"


def format_duration(seconds: float) -> str:
    """A duration in words, rounded down: `0.4 s`, `12 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 10:
        return f"{max(int(seconds * 10), 0) / 10:g} s"
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, left = divmod(hours, 24)
    return f"{days} d {left} h" if left else f"{days} d"


def to_minute(moment: datetime) -> str:
    """The end of something within a sentence, rounded up, such as `23:51 UTC on 28 Nov 2026`; `MINUTE` finds it there
    again."""
    rounded_up = datetime.fromtimestamp(-(-moment.timestamp() // 60) * 60, UTC)
    return f"{rounded_up:{_MINUTE_FORMAT}}"


def from_minute(text: str) -> datetime:
    """The time that `to_minute` wrote. Raises `ValueError` for a date that does not exist."""
    return datetime.strptime(text, _MINUTE_FORMAT).replace(tzinfo=UTC)
