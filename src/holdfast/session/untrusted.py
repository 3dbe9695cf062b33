"""Bounds and cleans what strangers can put into an engine's reports, before anything else reads it.

Anybody who can write to a company's number chooses message ids, texts, names, mentions, file names and the ids that
reactions and edits point to. WhatsApp delivers a message again until it is acknowledged, so a message that can't be
stored would end its link each time. Every string in a report passes through this module. The result is valid UTF-8
without NUL (PostgreSQL stores neither NUL nor lone surrogates) and short enough for an index row. A truncated text ends
in a mark that says so.

Cleaning is idempotent, and two different ids stay different.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from holdfast.session.account_changes import (
    FOREVER_S,
    AnyAccountChange,
    ChatChanged,
    ChatRead,
    LabelChanged,
)
from holdfast.session.contacts import Identity
from holdfast.session.engine import (
    Acked,
    AnsweredMessageRequested,
    AnyReport,
    Commit,
    Decrypted,
    Fields,
    GroupChange,
    InboundMessage,
    LinkClosed,
    PasskeyFailed,
    PresenceSeen,
    QueryAnswered,
    Receipted,
    SendRefused,
    SentContentRequested,
)

S = TypeVar("S", bound=Struct)

TEXT_CHARS = 65_536
"""Upper bound of one text: WhatsApp's own limit for a message."""
ID_CHARS = 200
"""Upper bound of a message id, a JID, a key id. Real ones have fewer than 80."""
NAME_CHARS = 255
"""Upper bound of the name of a person or file, or a MIME type."""
KEYS_CHARS = 8_192
"""Upper bound of `InboundMessage.media_keys`. Real ones have fewer than 1,000."""
SECRET_CHARS = 64
"""Upper bound of `InboundMessage.message_secret`. Real ones have 44."""
LIST_ITEMS = 1_024
"""Upper bound of a list within a message, mentions for example."""
OBJECT_MEMBERS = 64
DESCRIPTION_CHARS = 4_096
"""Upper bound of the description of a group. WhatsApp's own limit is 2,048."""
ROLES = frozenset({"admin", "superadmin"})
CONTENT_CHARS = 262_144
"""Upper bound of all strings in the content of one message together."""
CONTENT_DEPTH = 8
ANSWER_CHARS, ANSWER_ITEMS = 8 * 1024 * 1024, 10_000
"""Upper bounds of all strings in WhatsApp's answer to a query together, and of the items of one list in it."""
PLAINTEXT_CHARS = 131_072
"""Upper bound of a stored plaintext in base64. It is only needed to acknowledge a redelivery."""
LONGEST_TIMER_S = 366 * 86_400
"""Upper bound of the timer of disappearing messages. WhatsApp's longest is 90 days."""
MAX_COLOR = 1_000
"""Upper bound of a label's color. WhatsApp's palette has 20."""
LAST_SECOND = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""

EMPTY_PLAINTEXT = "AQ=="
"""An empty message with its padding, in base64: replaces a plaintext that is too long to be stored."""
_DIGEST_CHARS = 32
_REPLACEMENT = "\ufffd"


def bounded(report: AnyReport) -> AnyReport:
    """The same report, safe to store and to look up. Commits are bounded where they are stored, by `bounded_commit`."""
    match report:
        case (
            Acked() | Receipted() | PresenceSeen() | SentContentRequested() | AnsweredMessageRequested() | SendRefused()
        ):
            return _bounded(report)
        case PasskeyFailed():
            return _bounded(report, code=bounded_id(report.code))
        case QueryAnswered():
            return _bounded(report, result=_Content(chars=ANSWER_CHARS, items=ANSWER_ITEMS).value(report.result))
        case LinkClosed():
            return _bounded(report, attributes=_attributes(report.attributes))
        case _:
            return report


def bounded_commit(commit: Commit) -> Commit:
    """The same changes, safe to store. Key values stay, since the engine made them; the store bounds their ids."""
    return replace(
        commit,
        decrypted=[_decrypted(item) for item in commit.decrypted],
        undecryptable=[_bounded(item) for item in commit.undecryptable],
        made=[_bounded(item) for item in commit.made],
        groups={bounded_id(jid): bounded_name(subject) for jid, subject in commit.groups.items()},
        changes=[bounded_change(change) for change in commit.changes],
        history=[bounded_message(message) for message in commit.history],
        calls=[_bounded(call) for call in commit.calls[:LIST_ITEMS]],
        group_changes=[_group_change(change) for change in commit.group_changes[:LIST_ITEMS]],
        usernames={bounded_id(lid): bounded_name(username) for lid, username in commit.usernames.items()},
    )


def bounded_message(message: InboundMessage) -> InboundMessage:
    """The same message, safe to store. Its type is chosen by the engine, so it needs no check."""
    keys, secret = message.media_keys, message.message_secret
    return _bounded(
        message,
        content=_object(message.content),
        media_keys=None if keys is None or len(keys) > KEYS_CHARS else clean(keys),
        message_secret=None if secret is None or len(secret) > SECRET_CHARS else clean(secret),
    )


def bounded_identity(identity: Identity) -> Identity:
    """The same facts about a person, safe to store."""
    return dataclasses.replace(
        identity,
        jid=bounded_id(identity.jid),
        lid=_optional(identity.lid, bounded_id),
        username=_optional(identity.username, bounded_name),
        push_name=_optional(identity.push_name, bounded_name),
        saved_name=_optional(identity.saved_name, bounded_name),
        business_name=_optional(identity.business_name, bounded_name),
    )


def bounded_change(change: AnyAccountChange) -> AnyAccountChange:
    """The same change of settings, safe to store."""
    match change:
        case ChatChanged():
            return _chat_changed(change)
        case ChatRead():
            return _bounded(change, whatsapp_ids=_ids(change.whatsapp_ids[:LIST_ITEMS]))
        case LabelChanged():
            known = change.color is not None and 0 <= change.color <= MAX_COLOR
            return _bounded(change, color=change.color if known else None)
        case _:
            return _bounded(change)


def _chat_changed(change: ChatChanged) -> ChatChanged:
    until, timer_s = change.muted_until_s, change.disappearing_s
    return _bounded(
        change,
        muted_until_s=until if until is None or until == FOREVER_S else _second(until),
        disappearing_s=None if timer_s is None else min(max(timer_s, 0), LONGEST_TIMER_S),
    )


def clean(text: str) -> str:
    """Replace NUL and lone surrogates by the replacement character."""
    if "\0" in text:
        text = text.replace("\0", _REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_REPLACEMENT if "\ud800" <= each <= "\udfff" else each for each in text)
    return text


def bounded_id(text: str) -> str:
    """A cleaned id. An id that had to be changed or truncated ends in a digest of the original and stays unique."""
    if len(text) <= ID_CHARS and clean(text) == text:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{clean(text[: ID_CHARS - _DIGEST_CHARS - 1])}~{digest}"


def bounded_name(text: str) -> str:
    """A cleaned name; a long one ends in an ellipsis."""
    return clean(text) if len(text) <= NAME_CHARS else f"{clean(text[: NAME_CHARS - 1])}…"


def bounded_text(text: str, limit: int = TEXT_CHARS) -> str:
    """A cleaned text. A text that is too long is truncated and ends in a mark that says how much was stored."""
    if len(text) <= limit:
        return clean(text)
    mark = f"… [cut: {len(text)} characters, Holdfast stores {limit}]"
    return clean(text[: max(limit - len(mark), 0)]) + mark


def _decrypted(item: Decrypted) -> Decrypted:
    timer = None if item.timer is None else _chat_changed(item.timer)
    if item.message is None:
        return item if timer is None else replace(item, timer=timer)
    is_long = len(item.plaintext) > PLAINTEXT_CHARS
    plaintext = EMPTY_PLAINTEXT if is_long else item.plaintext
    return replace(item, plaintext=plaintext, message=bounded_message(item.message), timer=timer)


def _group_change(change: GroupChange) -> GroupChange:
    value = change.value
    return _bounded(
        change,
        kind=bounded_id(change.kind),
        value=bounded_text(value, DESCRIPTION_CHARS) if isinstance(value, str) else _number(value),
        participants=[
            _bounded(member, role=member.role if member.role in ROLES else None)
            for member in change.participants[:LIST_ITEMS]
        ],
    )


def _media(media: Mapping[str, object]) -> dict[str, object]:
    described = _object(media)
    return {name: bounded_name(value) if isinstance(value, str) else value for name, value in described.items()}


def _ids(ids: Sequence[str]) -> list[str]:
    return [bounded_id(each) for each in ids]


def _attributes(attributes: Fields) -> Fields:
    first = list(attributes.items())[:OBJECT_MEMBERS]
    return {bounded_id(name): bounded_name(value) for name, value in first}


def _second(at_s: int) -> int:
    return min(max(at_s, 0), LAST_SECOND)


def _optional(text: str | None, bound: Callable[[str], str]) -> str | None:
    return None if text is None else bound(text)


def _object(content: Mapping[str, object]) -> dict[str, object]:
    return _Content().members(content, 0) if content else {}


class _Content:
    """Bounds the content of a message, or an answer; parts beyond the bounds are left out."""

    def __init__(self, *, chars: int = CONTENT_CHARS, items: int = LIST_ITEMS) -> None:
        self._left = chars
        self._items = items

    def members(self, value: Mapping[str, object], depth: int) -> dict[str, object]:
        first = list(value.items())[:OBJECT_MEMBERS]
        return {bounded_id(name): self.value(each, depth + 1) for name, each in first}

    def value(self, value: object, depth: int = 0) -> object:
        match value:
            case str():
                return self._text(value)
            case bool() | int() | float() | None:
                return _number(value)
            case dict() if depth < CONTENT_DEPTH:
                return self.members(value, depth)
            case list() if depth < CONTENT_DEPTH:
                return [self.value(each, depth + 1) for each in value[: self._items]]
            case _:
                return None

    def _text(self, text: str) -> str:
        kept = bounded_text(text, min(TEXT_CHARS, self._left))
        self._left = max(self._left - len(kept), 0)
        return kept


def _number(value: float | None) -> float | None:
    """The number if JSON can carry it: JSON has no infinity, and JSON parsers may not accept more than 64 bits."""
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):
        return None
    if isinstance(value, int) and abs(value) >= 2**63:
        return None
    return value


_BOUNDS: Mapping[str, Callable[[Any], object]] = MappingProxyType(
    dict.fromkeys(["whatsapp_id", "call_id", "notice_id", "target", "label", "error"], bounded_id)
    | dict.fromkeys(["chat", "group", "jid", "lid", "sender", "sender_lid", "participant"], bounded_id)
    | dict.fromkeys(["caller", "caller_lid", "creator", "actor", "actor_lid"], bounded_id)
    | dict.fromkeys(["name", "push_name", "saved_name", "actor_name", "username", "detail"], bounded_name)
    | dict.fromkeys(["at_s", "sent_at_s", "last_seen_s", "pinned_at_s", "timer_set_at_s"], _second)
    | {"text": bounded_text, "media": _media, "whatsapp_ids": _ids}
)
"""How the fields of reports are bounded, by their names: a name has the same meaning in all of them."""


def _bounded(report: S, **others: object) -> S:
    """The report, or a part of one, with its fields bounded; `others` are the values of fields not in `_BOUNDS`."""
    given = {name: getattr(report, name) for name in report.__struct_fields__ if name in _BOUNDS and name not in others}
    bounds = {name: _BOUNDS[name](value) for name, value in given.items() if value is not None}
    return replace(report, **bounds, **others)
