"""What a row of the inbox says besides the text: choices, amounts, places, numbers, and which message is meant.

Content is untrusted, so any value may be missing or of another type; such values are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

from holdfast.delivery.content import Content
from holdfast.delivery.stores import Received

_MAX_CHARACTERS = 500
"""Of all details of one message; the API has everything."""
_NUMBER = re.compile(r"^(?:\w+\.)?TEL[^:\r\n]*:(?:tel:)?([^\r\n]+)", re.IGNORECASE | re.MULTILINE)

Fields = Mapping[str, Any]


def details(received: Received) -> str | None:
    """One line, or None when the text says it all."""
    content = received.content or {}
    lines = [line for name, describe in _DETAILS.items() if name in content for line in describe(content[name]) if line]
    if received.target is not None:
        lines.append(f"about message {received.target}")
    line = "; ".join(lines)
    return None if not line else line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]} …"


def empty_note(content: Content, type_: str) -> str:
    """What is shown instead of the text of a message that has none."""
    answer = _ANSWERS.get(type_, "an answer to a message")
    match content.get("unreadable"):
        case "message-unknown":
            return f"({answer} that is not stored here, so it can't be decrypted)"
        case str():
            return f"({answer}; it can't be decrypted)"
        case _:
            return _NOTES.get(type_, _kind_note(type_))


def note_beside(shown: str | None, note: str, type_: str) -> str | None:
    """The note, unless it only names the kind and the details `shown` say more."""
    return None if shown and note == _kind_note(type_) else note


def _kind_note(type_: str) -> str:
    return f"({type_.replace('_', ' ')})"


_ANSWERS = {
    "poll_vote": "a vote in a poll",
    "event_response": "a response to an event",
    "reaction": "a reaction to a message",
    "edit": "an edit of a message",
}
_NOTES = {
    "undecryptable": "(can't be decrypted yet; the sender's phone was asked to send it again)",
    "unknown": "(a kind of message that Holdfast does not know; the API has its fields in raw)",
    "text": "(empty)",
    "reaction": "(reaction removed)",
    "poll_vote": "(vote withdrawn)",
    "revoke": "(deleted a message)",
    "edit": "(edited a message)",
}


def _fields(value: object) -> Fields:
    return cast("Fields", value) if isinstance(value, Mapping) else {}


def _each(value: object) -> Iterator[Fields]:
    return (_fields(item) for item in value) if isinstance(value, list) else iter(())


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _join(*values: object, between: str = " ") -> str:
    return between.join(word for word in map(_text, values) if word)


def _titled(title: str, *values: object) -> str:
    words = _join(*values, between=", ")
    return f"{title}: {words}" if words else ""


def _poll(value: object) -> Iterator[str]:
    poll = _fields(value)
    votes, options = poll.get("votes"), poll.get("options")
    if isinstance(options, list):
        yield _titled("options", *options)
    for vote in _each(votes):
        yield _join(vote.get("option"), vote.get("count"), between=": ")
    if isinstance(poll.get("unknownVotes"), int):
        yield f"{poll['unknownVotes']} chosen options are not in the stored poll"


def _choices(value: object) -> Iterator[str]:
    options = _each(_fields(value).get("options"))
    yield _titled("choices", *(_text(option.get("title")) or _text(option.get("id")) for option in options))


def _selected(value: object) -> Iterator[str]:
    yield _titled("id of the choice", _fields(value).get("id"))


def _location(value: object) -> Iterator[str]:
    place = _fields(value)
    yield _text(place.get("address"))
    if place.get("name") and "latitude" in place and "longitude" in place:
        yield _join(place["latitude"], place["longitude"], between=", ")
    if place.get("live") is True:
        yield "live location"


def _contact(value: object) -> Iterator[str]:
    yield _join(*_NUMBER.findall(_text(_fields(value).get("vcard")))[:10], between=", ")


def _contacts(value: object) -> Iterator[str]:
    for contact in _each(value):
        yield _join(contact.get("name"), *_contact(contact))


def _event(value: object) -> Iterator[str]:
    event = _fields(value)
    yield _titled("starts", event.get("startsAt"))
    yield _titled("place", _fields(event.get("location")).get("name"))
    yield _text(event.get("description"))
    if event.get("cancelled") is True:
        yield "cancelled"


def _priced(value: object) -> Iterator[str]:
    priced = _fields(value)
    if isinstance(items := priced.get("items"), int):
        yield f"{items} {'item' if items == 1 else 'items'}"
    yield _join(priced.get("amount"), priced.get("currency"))
    yield _text(priced.get("url"))
    yield from (name for name in ("requested", "declined", "cancelled") if priced.get(name) is True)


def _invite(value: object) -> Iterator[str]:
    invite = _fields(value)
    yield _titled("invitation to", _text(invite.get("name")) or invite.get("group") or invite.get("channel"))
    yield _titled("code", invite.get("code"))


def _call(value: object) -> Iterator[str]:
    call = _fields(value)
    yield "video call" if call.get("video") is True else "call"
    yield _titled("starts", call.get("startsAt"))
    if isinstance(call.get("seconds"), int):
        yield f"{call['seconds']} s"


def _response(value: object) -> Iterator[str]:
    if isinstance(guests := _fields(value).get("extraGuests"), int) and guests > 0:
        yield f"with {guests} more"


def _album(value: object) -> Iterator[str]:
    album = _fields(value)
    for count, name in ((album.get("images"), "image"), (album.get("videos"), "video")):
        if isinstance(count, int) and count > 0:
            yield f"{count} {name}{'' if count == 1 else 's'}"


def _ad(value: object) -> Iterator[str]:
    ad = _fields(value)
    yield _titled("from an ad", _text(ad.get("title")) or ad.get("url"))


def _flag(words: str) -> Callable[[object], Iterator[str]]:
    return lambda value: iter([words] if value is True else [])


_DETAILS: Mapping[str, Callable[[object], Iterator[str]]] = MappingProxyType(
    {
        "poll": _poll,
        "choices": _choices,
        "selected": _selected,
        "location": _location,
        "contact": _contact,
        "contacts": _contacts,
        "event": _event,
        "order": _priced,
        "product": _priced,
        "payment": _priced,
        "invite": _invite,
        "call": _call,
        "eventResponse": _response,
        "album": _album,
        "stickerPack": lambda value: iter([_titled("stickers", _fields(value).get("name"))]),
        "ad": _ad,
        "replyTo": lambda value: iter([_titled("reply to", _fields(value).get("whatsappId"))]),
        "forwarded": _flag("forwarded"),
        "viewOnce": _flag("view once"),
        "videoNote": _flag("video note"),
    }
)
"""By the field of the content, in the order in which they are shown."""
